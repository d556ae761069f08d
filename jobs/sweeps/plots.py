"""Drawings of a search's report as SVG text; the page's style gives fonts and colours for light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

from cluster.sweeps.records import TrialRecord
from cluster.sweeps.space import Domain
from jobs.sweeps.summary import Importance

WIDTH, TOP, BOTTOM = 1040, 46, 34


def parallel_coordinates(ranked: Sequence[TrialRecord], domains: Mapping[str, Domain], metric: str, best: str) -> str:
    """One axis for each option and one for the metric, one line for each trial.

    Args:
        ranked: trials, best first.
        best: name of the trial that is drawn thickest.
    """
    height, margin = 380, 70
    values = [trial.metrics[metric] for trial in ranked]
    low, high = min(values), max(values)
    gap = (WIDTH - 2 * margin) / len(domains)
    xs = [margin + gap * index for index in range(len(domains) + 1)]

    def y(place: float) -> float:
        return height - BOTTOM - place * (height - TOP - BOTTOM)

    parts = [_open(height, f"Options of {len(ranked)} trials and their {metric}")]
    for rank, trial in reversed(list(enumerate(ranked))):
        places = [domain.place(_as_listed(trial.options[path])) for path, domain in domains.items()]
        places.append((trial.metrics[metric] - low) / (high - low) if high > low else 0.5)
        points = " ".join(f"{x:.1f},{y(place):.1f}" for x, place in zip(xs, places, strict=True))
        words = [f"{path.rpartition('.')[2]} {_number(trial.options[path])}" for path in domains]
        title = html.escape(f"{trial.name}: {metric} {_number(trial.metrics[metric])}\n" + "\n".join(words))
        strength = 1.0 if trial.name == best else 0.75 - 0.6 * rank / max(1, len(ranked) - 1)
        thick = 3.5 if trial.name == best else 1.6
        parts.append(
            f'<polyline class="trial" points="{points}" opacity="{strength:.2f}" stroke-width="{thick}">'
            f"<title>{title}</title></polyline>"
        )
    for index, (path, domain) in enumerate(domains.items()):
        labels = (
            [(domain.place(value), _number(value)) for value in domain.values]
            if domain.kind == "choice"
            else [(0.0, _number(domain.values[0])), (1.0, _number(domain.values[1]))]
        )
        scale = " (log)" if domain.kind == "log_uniform" else ""
        parts.append(_axis(xs[index], y, f"{path.rpartition('.')[2]}{scale}", labels, index))
    parts.append(_axis(xs[-1], y, metric, [(0.0, _number(low)), (1.0, _number(high))], len(domains)))
    return "".join([*parts, "</svg>"])


def importance_bars(found: Mapping[str, Importance]) -> str:
    """A bar for each option."""
    row, left = 30, 230
    height = row * len(found) + 12
    parts = [_open(height, "Importance of the options")]
    for index, (path, one) in enumerate(found.items()):
        top = 6 + index * row
        width = max(1.0, one.share * (WIDTH - left - 150))
        sign = "" if abs(one.direction) < 0.15 else ", more is larger" if one.direction > 0 else ", more is smaller"
        parts.append(
            f'<text class="tick" x="{left - 10}" y="{top + 18}" text-anchor="end">{html.escape(path)}</text>'
            f'<rect class="bar" x="{left}" y="{top + 4}" width="{width:.1f}" height="{row - 10}" rx="4"></rect>'
            f'<text class="tick" x="{left + width + 8:.1f}" y="{top + 18}">{one.share:.0%}{sign}</text>'
        )
    return "".join([*parts, "</svg>"])


def scatter(trials: Sequence[TrialRecord], across: str, up: str, front: Sequence[str]) -> str:
    """Every trial by two metrics; those of the front are filled and joined."""
    height, margin = 360, 70
    points = [
        (trial.metrics[across], trial.metrics[up], trial)
        for trial in trials
        if across in trial.metrics and up in trial.metrics
    ]
    left, right = _padded([point[0] for point in points])
    low, high = _padded([point[1] for point in points])

    def place(first: float, second: float) -> tuple[float, float]:
        return (
            margin + (first - left) / (right - left) * (WIDTH - 2 * margin),
            height - BOTTOM - (second - low) / (high - low) * (height - TOP - BOTTOM),
        )

    parts = [_open(height, f"{up} against {across}")]
    joined = sorted(place(first, second) for first, second, trial in points if trial.name in front)
    parts.append(f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in joined)}"></polyline>')
    for first, second, trial in points:
        x, y = place(first, second)
        title = html.escape(f"{trial.name}: {up} {_number(second)}, {across} {_number(first)}")
        kind = "dot front" if trial.name in front else "dot"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>{title}</title></circle>')
    for value in (left, right):
        x, _ = place(value, low)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 12}" text-anchor="middle">{_number(value)}</text>')
    for value in (low, high):
        _, y = place(left, value)
        parts.append(f'<text class="tick" x="{margin - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    parts.append(
        f'<text class="tick name" x="{WIDTH / 2}" y="{height - 12}" text-anchor="middle">{html.escape(across)}</text>'
    )
    parts.append(f'<text class="tick name" x="8" y="20">{html.escape(up)}</text>')
    return "".join([*parts, "</svg>"])


def _open(height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(label)}">'


def _axis(x: float, y: Callable[[float], float], name: str, labels: Sequence[tuple[float, str]], index: int) -> str:
    # Neighbours' names stand at two heights, so that long ones do not touch; first and last stay inside the drawing.
    head = 16 if index % 2 == 0 else 32
    side, shift = ("end", 60) if x > WIDTH - 100 else ("start", -60) if x < 100 else ("middle", 0)
    parts = [
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y(0):.1f}" y2="{y(1):.1f}"></line>',
        f'<text class="tick name" x="{x + shift:.1f}" y="{head}" text-anchor="{side}">{html.escape(name)}</text>',
    ]
    for place, text in labels:
        below = place == 0.0
        offset = 16 if below else 4
        anchor = 'text-anchor="middle"' if below else ""
        parts.append(
            f'<text class="tick" x="{x + (0 if below else 6):.1f}" y="{y(place) + offset:.1f}" {anchor}>'
            f"{html.escape(text)}</text>"
        )
    return "".join(parts)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - pad, high + pad


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def _as_listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
