"""The report of a controller, as data, and its rendering into one HTML file that needs no network.

It uses the cards, charts and player of the report of a fine-tuned policy (`document.py`), and adds a table of scores
next to baselines, and a player with the reference on the left and the policy on the right.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.report.document import (
    PALETTES,
    Chart,
    PlayerView,
    Tile,
    charts_data,
    motion_data,
    render_page,
    skeleton_data,
    stage,
)
from motions.skeleton.skeletons import Skeleton


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """A quantity of the table: heading, meaning, digits, and which direction is better."""

    key: str
    heading: str
    meaning: str
    digits: int
    better: int
    """1 if higher is better, -1 if lower is."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One policy: values by `ScoreColumn.key`; a missing value is shown as a dash."""

    name: str
    meaning: str
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Imitation:
    """Reference and policy from one start: joints [T, J, 3] in metres, y up."""

    title: str
    reference: np.ndarray
    policy: np.ndarray
    score: str


@dataclass(frozen=True, slots=True)
class ControlDocument:
    """All data of the page."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    columns: Sequence[ScoreColumn]
    rows: Sequence[ScoreRow]
    table_note: str
    pushes: Sequence[ScoreRow]
    """Recovery by push: `values` maps a column's heading to the fraction of recoveries."""
    charts: Sequence[Chart]
    imitations: Sequence[Imitation]
    video: bytes | None
    """Animated WebP of reference and policy, side by side."""
    video_note: str
    facts: Sequence[tuple[str, str]]
    configuration: str
    skeleton: Skeleton


def render(document: ControlDocument) -> str:
    """The page as HTML text.

    Raises:
        ValueError: an imitation has joints of another shape than [T, J, 3] or positions that are not finite.
    """
    joints, fps = document.skeleton.num_joints, document.skeleton.fps
    data = {
        "skeletons": [skeleton_data(document.skeleton)],
        "palettes": {"reference": PALETTES["before"], "policy": PALETTES["after"]},
        "comparisons": [
            {
                "title": imitation.title,
                "segments": [],
                "scores": {"reference": "", "policy": imitation.score},
                "motions": {
                    "reference": motion_data(imitation.reference, joints, fps),
                    "policy": motion_data(imitation.policy, joints, fps),
                },
            }
            for imitation in document.imitations
        ],
        "charts": charts_data(document.charts),
    }
    sections = [
        stage("Reference and policy", _SHOWN, "Starts", _PLAYERS) if document.imitations else "",
        _video(document),
        score_section(document.table_note, document.columns, document.rows),
        _push_table(document.pushes),
    ]
    return render_page(
        document.title, document.lead, document.tiles, sections, document.facts, document.configuration, data
    )


_SHOWN = "From the same start. Where the policy falls, its motion ends."
_PLAYERS = (
    PlayerView("reference", "Reference motion", "Reference", "before"),
    PlayerView("policy", "Motion of the policy", "Policy", "after"),
)


def score_section(note: str, columns: Sequence[ScoreColumn], rows: Sequence[ScoreRow]) -> str:
    """The table of scores with its heading."""
    return (
        f"<h2>Scores against baselines</h2>\n<p>{html.escape(note)}</p>\n"
        f'<div class="card table scoretable">{score_table(columns, rows)}</div>'
    )


def score_table(columns: Sequence[ScoreColumn], rows: Sequence[ScoreRow]) -> str:
    """Table of policies by quantities; the best value of a column is marked."""
    head = "".join(
        f'<th title="{html.escape(column.meaning)}">{html.escape(column.heading)}</th>' for column in columns
    )
    best = {
        column.key: max((column.better * row.values[column.key] for row in rows if column.key in row.values), default=0)
        for column in columns
    }
    body = []
    for row in rows:
        cells = []
        for column in columns:
            value = row.values.get(column.key)
            marked = value is not None and column.better * value == best[column.key]
            text = "-" if value is None else f"{value:.{column.digits}f}"
            cells.append(f'<td class="{"good" if marked else ""}">{text}</td>')
        name = f"{html.escape(row.name)}<small>{html.escape(row.meaning)}</small>"
        body.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    return f"<table><thead><tr><th>Policy</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _push_table(rows: Sequence[ScoreRow]) -> str:
    if not rows:
        return ""
    headings = list(rows[0].values)
    columns = [ScoreColumn(heading, heading, "share of episodes that recovered", 2, 1) for heading in headings]
    return (
        "<h2>Pushes</h2><p>Share of episodes that go on without a fall after a push of 0.2 s, from all the same starts."
        f'</p><div class="card table">{score_table(columns, rows)}</div>'
    )


def _video(document: ControlDocument) -> str:
    if document.video is None:
        return ""
    encoded = base64.b64encode(document.video).decode("ascii")
    return (
        f'<figure class="card"><img alt="Reference and policy, side by side" '
        f'src="data:image/webp;base64,{encoded}"><figcaption>{html.escape(document.video_note)}</figcaption></figure>'
    )
