"""Data of a report, and its rendering into one HTML file that needs no network.

1. `ReportDocument` holds only plain values and joint positions; `render` is a pure function of it.
2. Motions are embedded as int16 (millimetres, as a rule) in base64: 100 frames of 22 joints take 18 kB.
3. The browser draws (viewer.js, charts.js), so that motions can be rotated and values read off the charts.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from string import Template
from typing import Literal

import numpy as np

from motions.skeleton.skeletons import Skeleton

Verdict = Literal["good", "bad", "neutral"]

PALETTES = {
    "before": {"left": "#d98a4e", "right": "#8f4a1b", "middle": "#b2642a", "path": "#b2642a"},
    "after": {"left": "#35b3aa", "right": "#07534f", "middle": "#0b7a75", "path": "#0b7a75"},
}
"""Colours of the figures: the lighter limbs are the left ones."""

SERIES_COLOURS = ("#0b7a75", "#b2642a", "#5567c9", "#a23e8c", "#7a8a1f", "#c2423a", "#4c8fbd", "#8a6d3b")


@dataclass(frozen=True)
class Series:
    """One curve: `points` are (x, y) or (x, y, low, high) with the bounds of its confidence band."""

    name: str
    points: list[tuple[float, ...]]
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart of lines, or of bars stacked per update."""

    title: str
    note: str
    series: list[Series]
    kind: Literal["lines", "stack"] = "lines"
    zero: bool = False
    """Whether the vertical axis includes 0."""
    x_label: str = "update"
    """Quantity on the horizontal axis."""


@dataclass(frozen=True)
class EvaluationRow:
    """One quantity before and after, with the paired 95 % interval of its change, whether it is an improvement, and its
    value for real motions."""

    name: str
    meaning: str
    before: float
    after: float
    interval: tuple[float, float] | None
    verdict: Verdict
    real: float | None = None
    nearer: tuple[float, float] | None = None
    """Interval of how much nearer to that value it came, where this decides the verdict."""


@dataclass(frozen=True)
class Comparison:
    """The motions of one prompt and seed before and after: joints [T, J, 3] in metres, y up."""

    title: str
    segments: list[tuple[str, int, int]]
    before: np.ndarray
    after: np.ndarray
    before_scores: str
    after_scores: str


@dataclass(frozen=True)
class Tile:
    """A headline number with its label and change."""

    label: str
    value: str
    change: str
    verdict: Verdict


@dataclass(frozen=True)
class ReportDocument:
    """All data of a report page."""

    title: str
    lead: str
    tiles: list[Tile]
    evaluation_note: str
    evaluation: list[EvaluationRow]
    charts: list[Chart]
    comparisons: list[Comparison]
    facts: list[tuple[str, str]]
    configuration: str
    skeleton: Skeleton
    breakdown: Sequence[str] = ()
    """HTML below the table of the evaluation."""


def render(document: ReportDocument) -> str:
    """The page as HTML text.

    Raises:
        ValueError: a comparison has joints of another shape than [T, J, 3] or positions that are not finite.
    """
    data = {
        "skeletons": [skeleton_data(document.skeleton)],
        "palettes": PALETTES,
        "comparisons": [_comparison_data(comparison, document.skeleton) for comparison in document.comparisons],
        "charts": charts_data(document.charts),
    }
    sections = [
        stage("Before and after", _SHOWN, "Prompts", _PLAYERS) if document.comparisons else "",
        f"<h2>Held-out evaluation</h2>\n<p>{html.escape(document.evaluation_note)}</p>",
        f'<div class="card table">{evaluation_table(document.evaluation)}</div>' if document.evaluation else "",
        *document.breakdown,
    ]
    return render_page(
        document.title, document.lead, document.tiles, sections, document.facts, document.configuration, data
    )


def render_page(
    title: str,
    lead: str,
    tiles: Sequence[Tile],
    sections: Sequence[str],
    facts: Sequence[tuple[str, str]],
    configuration: str,
    data: Mapping[str, object],
    headings: tuple[str, str] = ("Training", "The run"),
) -> str:
    """The page of every report as HTML text.

    Args:
        sections: HTML between the tiles and the charts.
        data: what the scripts draw: `skeletons`, `palettes`, `comparisons` (for a section with the player), `charts`.
        headings: of the charts and of the facts.
    """
    return Template(asset("page.html")).substitute(
        title=html.escape(title),
        lead=html.escape(lead),
        tiles="".join(tile_html(tile) for tile in tiles),
        sections="\n".join(section for section in sections if section),
        facts=facts_table(list(facts)),
        charts_heading=html.escape(headings[0]),
        facts_heading=html.escape(headings[1]),
        configuration=html.escape(configuration),
        version=metadata_version(),
        data=embedded(data),
        style=asset("page.css"),
        viewer_script=asset("viewer.js"),
        charts_script=asset("charts.js"),
        page_script=asset("page.js"),
    )


def embedded(data: Mapping[str, object]) -> str:
    """JSON for a script element. A `<` of a prompt could end the element, or keep it from ending (`<!--<script>`)."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def metadata_version() -> str:
    """Version of the installed project, or `source` if it is not installed (in a Ray job)."""
    try:
        return metadata.version("kinetune")
    except metadata.PackageNotFoundError:
        return "source"


_STAGE = """{heading}<p>{text} Drag to orbit, scroll or pinch to zoom; lighter limbs are the left ones.</p>
<nav class="prompts" id="prompts" aria-label="{choices}"></nav>
<section class="card stage" id="stage" aria-label="Motions side by side">
<div class="views">
{views}
</div>
<div class="controls">
<button data-action="play" aria-pressed="false">Play</button>
<input type="range" min="0" max="1" value="0" step="1" data-slider aria-label="Frame">
<span data-clock></span>
<button data-action="speed" aria-label="Playback speed">1×</button>
<button data-action="follow" aria-pressed="true">Follow</button>
<button data-action="reset">Reset view</button>
</div>
<div class="segments" data-segments></div>
</section>"""
_VIEW = """<div class="view"><canvas data-player="{name}" tabindex="0" role="img" aria-label="{label}"></canvas>
<span class="tag {side}">{tag}</span><span class="scores" data-scores="{name}"></span></div>"""


_SHOWN = (
    "The same prompts and the same noise, before (base policy) and after fine-tuning, from the prompt whose reward "
    "rose most to the one whose reward fell most."
)


@dataclass(frozen=True, slots=True)
class PlayerView:
    """One player of a stage."""

    name: str
    """By which a comparison names its motion, and the page its palette."""
    label: str
    """For readers of the screen."""
    tag: str
    side: Literal["before", "after"]
    """Colour of the tag."""


_PLAYERS = (
    PlayerView("before", "Motion before fine-tuning", "Before", "before"),
    PlayerView("after", "Motion after fine-tuning", "After", "after"),
)


def stage(heading: str, text: str, choices: str, players: Sequence[PlayerView]) -> str:
    """Players side by side, with their controls.

    Args:
        heading: empty where the page's title says it.
        text: says what is shown.
        choices: what one chooses from, for readers of the screen.
    """
    views = "\n".join(_VIEW.format(name=view.name, label=view.label, side=view.side, tag=view.tag) for view in players)
    return _STAGE.format(heading=f"<h2>{heading}</h2>\n" if heading else "", text=text, choices=choices, views=views)


def asset(name: str, package: str = "jobs.report") -> str:
    """Text of a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def tile_html(tile: Tile) -> str:
    """A headline number as a card."""
    return (
        f'<div class="card tile"><small>{html.escape(tile.label)}</small><b>{html.escape(tile.value)}</b>'
        f'<span class="change {tile.verdict}">{html.escape(tile.change)}</span></div>'
    )


def evaluation_table(rows: Sequence[EvaluationRow]) -> str:
    """HTML table of quantities before and after; with a column for real motions where there are any."""
    with_real = any(row.real is not None for row in rows)
    heads = ["Quantity", "Before", "After", "Change", "95 % interval", *(["Real motions"] if with_real else [])]
    body = []
    for row in rows:
        interval = "" if row.interval is None else f"{row.interval[0]:+.3g} to {row.interval[1]:+.3g}"
        if row.nearer is not None:
            interval += f"<small>nearer to real motions by {row.nearer[0]:+.3g} to {row.nearer[1]:+.3g}</small>"
        change = f'<td class="{row.verdict}">{row.after - row.before:+.3g}</td>'
        real = "" if row.real is None else f"{row.real:.4g}"
        body.append(
            f"<tr><td>{html.escape(row.name)}<small>{html.escape(row.meaning)}</small></td><td>{row.before:.4g}</td>"
            f"<td>{row.after:.4g}</td>{change}<td>{interval}</td>{f'<td>{real}</td>' if with_real else ''}</tr>"
        )
    return table(heads, body)


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """HTML table of column heads and rows that are HTML already."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def facts_table(facts: list[tuple[str, str]]) -> str:
    """HTML table of names and values."""
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts)
    return f"<table><tbody>{rows}</tbody></table>"


def charts_data(charts: Sequence[Chart]) -> list[dict[str, object]]:
    """Charts as data for charts.js, without points that are not finite, series without points and empty charts."""
    drawn = []
    for chart in charts:
        data = asdict(chart)
        for series, colour in zip(data["series"], itertools.cycle(SERIES_COLOURS), strict=False):
            series["points"] = [point for point in series["points"] if all(map(math.isfinite, point))]
            series["colour"] = colour
        data["series"] = [series for series in data["series"] if series["points"]]
        drawn += [data] if data["series"] else []
    return drawn


def skeleton_data(skeleton: Skeleton) -> dict[str, object]:
    """The skeleton as data for viewer.js."""
    sides = []
    for name in skeleton.joint_names:
        lowered = name.lower()
        sides.append("left" if lowered.startswith("l") else "right" if lowered.startswith("r") else "middle")
    return {
        "num_joints": skeleton.num_joints,
        "parents": list(skeleton.parents),
        "sides": sides,
        "thickness_m": [_bone_thickness_m(name) for name in skeleton.joint_names],
        "head": next(index for index, name in enumerate(skeleton.joint_names) if "head" in name.lower()),
    }


def _bone_thickness_m(joint_name: str) -> float:
    """Width with which the bone that ends in a joint is drawn, chosen so that the figure looks like a body."""
    lowered = joint_name.lower()
    for words, width_m in (
        (("wrist", "foot", "toe"), 0.055),
        (("elbow", "ankle", "neck", "head"), 0.075),
        (("knee",), 0.1),
    ):
        if any(word in lowered for word in words):
            return width_m
    return 0.13 if "spine" in lowered else 0.085


def _comparison_data(comparison: Comparison, skeleton: Skeleton) -> dict[str, object]:
    return {
        "title": comparison.title,
        "segments": [{"text": text, "start": start, "end": end} for text, start, end in comparison.segments],
        "scores": {"before": comparison.before_scores, "after": comparison.after_scores},
        "motions": {
            "before": motion_data(comparison.before, skeleton.num_joints, skeleton.fps),
            "after": motion_data(comparison.after, skeleton.num_joints, skeleton.fps),
        },
    }


def motion_data(joints: np.ndarray, num_joints: int, fps: float, skeleton: int = 0) -> dict[str, object]:
    """Joints [T, J, 3] in metres in the format of viewer.js: int16 multiples of `unit_m` in base64.

    The unit is a millimetre, or larger for motions that exceed the 32 m that int16 can represent.

    Args:
        skeleton: index of the motion's skeleton among those of the page.

    Raises:
        ValueError: another shape, or positions that are not finite.
    """
    if joints.ndim != 3 or joints.shape[1:] != (num_joints, 3):
        raise ValueError(f"comparison joints have shape {joints.shape}; expected [T, {num_joints}, 3]")
    if not np.isfinite(joints).all():
        raise ValueError("comparison joints are not finite")
    unit_m = max(0.001, float(np.abs(joints).max(initial=0.0)) / 32767)
    counts = np.rint(joints / unit_m).astype("<i2")
    encoded = base64.b64encode(counts.tobytes()).decode("ascii")
    return {"num_frames": len(joints), "joints": encoded, "unit_m": unit_m, "fps": fps, "skeleton": skeleton}
