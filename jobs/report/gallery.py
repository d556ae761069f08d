"""A page that plays generated motions, by prompt, with the report's player; it needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.report.document import PALETTES, asset, embedded, motion_data, skeleton_data

if TYPE_CHECKING:
    from motions.data.prompts import Prompt
    from motions.skeleton.skeletons import Skeleton

MAX_VIEWS = 6
"""Largest number of motions of a prompt that are shown side by side."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Generated motions</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Generated motions</h1>
<p class="lead">{lead}</p>
<nav class="prompts" id="prompts" aria-label="Prompts"></nav>
<section class="card stage" id="stage" aria-label="Motions of one prompt">
<div class="views">{views}</div>
<div class="controls">
<button data-action="play" aria-pressed="false">Play</button>
<input type="range" min="0" max="1" value="0" step="1" data-slider aria-label="Frame">
<span data-clock></span>
<button data-action="speed" aria-label="Playback speed">1&times;</button>
<button data-action="follow" aria-pressed="true">Follow</button>
<button data-action="reset">Reset view</button>
</div>
<div class="segments" data-segments></div>
</section>
</main>
<script type="application/json" id="data">{data}</script>
<script>{scripts}</script>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """The motions of one prompt: joints [T, J, 3] in metres, y up."""

    prompt: Prompt
    motions: Sequence[np.ndarray]


def render_gallery(rows: Sequence[GalleryRow], skeleton: Skeleton, lead: str) -> str:
    """The page as HTML text; every row must have the same number of motions.

    Raises:
        UserError: joints of another shape than [T, J, 3], or positions that are not finite.
    """
    num_views = min(MAX_VIEWS, len(rows[0].motions))
    names = [f"motion{index}" for index in range(num_views)]
    data = {
        "skeleton": skeleton_data(skeleton),
        "palettes": dict.fromkeys(names, PALETTES["after"]),
        "comparisons": [_row_data(row, names, skeleton) for row in rows],
        "charts": [],
    }
    views = "".join(
        f'<div class="view"><canvas data-player="{name}" tabindex="0" role="img" aria-label="Motion {index + 1}">'
        f'</canvas><span class="tag after">{index + 1}</span></div>'
        for index, name in enumerate(names)
    )
    return PAGE.format(
        style=asset("page.css"),
        lead=html.escape(lead),
        views=views,
        data=embedded(data),
        scripts=asset("viewer.js") + asset("page.js"),
    )


def _row_data(row: GalleryRow, names: Sequence[str], skeleton: Skeleton) -> dict[str, object]:
    spans = zip(row.prompt.segments, row.prompt.boundaries, strict=True)
    return {
        "title": row.prompt.text,
        "segments": [{"text": segment.text, "start": start, "end": end} for segment, (start, end) in spans],
        "scores": {},
        "motions": {
            name: motion_data(joints, skeleton.num_joints) for name, joints in zip(names, row.motions, strict=False)
        },
    }
