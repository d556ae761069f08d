"""A page that plays motions with the report's player, side by side; it needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.report.document import PALETTES, PlayerView, asset, embedded, motion_data, skeleton_data, stage

if TYPE_CHECKING:
    from motions.files.motion import Motion

MAX_VIEWS = 6
"""Largest number of motions that are shown side by side."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{stage}{more}
</main>
<script type="application/json" id="data">{data}</script>
<script>{scripts}</script>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """The motions behind one button; their texts are those of the first."""

    title: str
    motions: Sequence[Motion]


def render_gallery(title: str, lead: str, rows: Sequence[GalleryRow], more: str = "") -> str:
    """The page as HTML text, with a button for each row. Where every row has one motion, any of them are shown together
    by pressing several buttons; otherwise those of one row are.

    Args:
        more: HTML below the motions.

    Raises:
        ValueError: joints of another shape than [T, J, 3], or positions that are not finite.
    """
    largest = max(len(row.motions) for row in rows)
    together = largest == 1
    num_views = min(MAX_VIEWS, len(rows) if together else largest)
    views = [PlayerView(f"motion{index}", f"Motion {index + 1}", str(index + 1), "after") for index in range(num_views)]
    names = [view.name for view in views]
    skeletons = list(dict.fromkeys(motion.skeleton for row in rows for motion in row.motions))
    places = {skeleton: index for index, skeleton in enumerate(skeletons)}
    data = {
        "skeletons": [skeleton_data(skeleton) for skeleton in skeletons],
        "palettes": dict.fromkeys(names, PALETTES["after"]),
        "comparisons": [
            {
                "title": row.title,
                "segments": [{"text": text, "start": start, "end": end} for text, start, end in row.motions[0].spans],
                "scores": {},
                "motions": {
                    name: motion_data(motion.joints, motion.skeleton.num_joints, motion.fps, places[motion.skeleton])
                    for name, motion in zip(names, row.motions, strict=False)
                },
            }
            for row in rows
        ],
        "charts": [],
        "together": together,
    }
    hint = " Press several buttons to compare motions side by side." if together and len(rows) > 1 else ""
    return PAGE.format(
        title=html.escape(title),
        style=asset("page.css"),
        stage=stage("", html.escape(lead).replace("\n", "<br>") + hint, "Motions", views),
        data=embedded(data),
        more=more,
        scripts=asset("viewer.js") + asset("page.js"),
    )
