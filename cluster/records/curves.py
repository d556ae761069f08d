"""Training curves as a PNG, drawn by matplotlib: one panel per quantity, or several runs in one panel.

The file names are the ones users of MDM look for: `training_curves_latest.png` beside the checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motions.base.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_INCHES = (6.0, 3.0)
DPI = 120
INK, GRID, CURVE, RAW = "#222222", "#e4e4e4", "#0b7a75", "#b9dcda"
SERIES = (CURVE, "#c2410c", "#4338ca", "#a16207", "#a23e8c", "#4c8fbd", "#4d7c0f", "#57534e")
"""Colours of several runs in one panel."""


def draw_curves(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes a PNG with one panel per curve; `curves` maps a title to its (step, value) points.

    Raises:
        ValueError: no curve has a point.
    """
    drawn = {title: np.asarray(points, dtype=np.float64) for title, points in curves.items() if len(points)}
    if not drawn:
        raise ValueError(f"{path}: there is no point to draw")
    with _panels(path, list(drawn)) as panels:
        for panel, points in zip(panels, drawn.values(), strict=True):
            finite = points[np.isfinite(points).all(axis=1)]
            if not len(finite):
                panel.text(0.5, 0.5, "no finite value", color=INK, ha="center", va="center", transform=panel.transAxes)
                panel.set(xticks=[], yticks=[])
                continue
            _draw_line(panel, finite, RAW, 1.0)
            mean = smooth(finite[:, 1], max(1, len(finite) // 20))
            _draw_line(panel, np.stack([finite[:, 0], mean], axis=1), CURVE, 1.8)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Trailing mean over up to `window` values: [M] -> [M]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_comparison(path: Path, title: str, runs: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes a PNG with the curves of up to eight runs in one panel; `runs` maps a label to its (step, value) points.

    Raises:
        ValueError: no runs or more than eight, or a run without a point.
    """
    draw_comparisons(path, {title: runs})


def draw_comparisons(path: Path, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
    """Writes a PNG with one such panel per title, below each other, and the labels under the last one.

    Raises:
        ValueError: no runs or more than eight in a panel, or a run without a point.
    """
    for runs in panels.values():
        if not 1 <= len(runs) <= len(SERIES) or not all(len(points) for points in runs.values()):
            raise ValueError(f"{path}: expected 1 to {len(SERIES)} runs with points, got {[*map(len, runs.values())]}")
    with _panels(path, list(panels)) as drawn:
        for panel, runs in zip(drawn, panels.values(), strict=True):
            for (label, points), colour in zip(runs.items(), SERIES, strict=False):
                _draw_line(panel, np.asarray(points, dtype=np.float64), colour, 1.8, label)
        drawn[-1].legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


@contextmanager
def _panels(path: Path, titles: Sequence[str]) -> Iterator[list[Axes]]:
    """Panels below each other, each with its title and a grid; the picture is written when the block ends well."""
    # Slow to import, and actors draw nothing.
    from matplotlib.figure import Figure

    # A figure without pyplot: no global state, and no window system is looked for.
    figure = Figure((PANEL_INCHES[0], PANEL_INCHES[1] * len(titles)), DPI)
    figure.set_layout_engine("constrained", h_pad=0.1)
    panels = list(figure.subplots(len(titles), squeeze=False)[:, 0])
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, loc="left", fontsize=10, color=INK)
        panel.grid(axis="y", color=GRID)
        panel.tick_params(labelsize=8, colors=INK, length=0)
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.spines[["left", "right", "top"]].set_visible(False)
    yield panels
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_line(panel: Axes, points: np.ndarray, colour: str, width: float, label: str = "") -> None:
    """A line through points [M, 2]; a dot where there is one only."""
    panel.plot(*points.T, color=colour, linewidth=width, label=label, marker="o" if len(points) == 1 else "", ms=4)
