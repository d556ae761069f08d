"""Training curves as a PNG, drawn with Pillow: one panel per quantity, or several runs in one panel.

The file names are the ones users of MDM look for: `training_curves_latest.png` beside the checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PANEL = (480, 260)
MARGIN = (64, 34, 16, 30)
"""Left, top, right, bottom of a panel's plot, pixels."""
INK, GRID, CURVE, RAW = "#222222", "#e4e4e4", "#0b7a75", "#b9dcda"
SERIES = (CURVE, "#c2410c", "#4338ca", "#a16207")
"""Colours of runs in one panel."""


def draw_curves(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes a PNG with one panel per curve; `curves` maps a title to its (step, value) points.

    Raises:
        UserError: no curve has a point.
    """
    from PIL import Image, ImageDraw

    drawn = {title: np.asarray(points, dtype=np.float64) for title, points in curves.items() if len(points)}
    if not drawn:
        raise UserError(f"{path}: there is no point to draw")
    picture = Image.new("RGB", (PANEL[0], PANEL[1] * len(drawn)), "white")
    canvas = ImageDraw.Draw(picture)
    for row, (title, points) in enumerate(drawn.items()):
        _draw_panel(canvas, title, points[np.isfinite(points).all(axis=1)], row * PANEL[1])
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Trailing mean over up to `window` values: [M] -> [M]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_comparison(path: Path, title: str, runs: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes a PNG with the curves of up to four runs in one panel; `runs` maps a label to its (step, value) points.

    Raises:
        UserError: no runs or more than four, or a run without a point.
    """
    from PIL import Image, ImageDraw

    series = {label: np.asarray(points, dtype=np.float64) for label, points in runs.items()}
    if not 1 <= len(series) <= len(SERIES) or not all(len(points) for points in series.values()):
        raise UserError(f"{path}: expected 1 to {len(SERIES)} runs with points, got {[*map(len, series.values())]}")
    picture = Image.new("RGB", (PANEL[0], PANEL[1] + 16 * len(series)), "white")
    canvas = ImageDraw.Draw(picture)
    plot = _draw_axes(canvas, title, np.concatenate([*series.values()]), 0)
    for row, ((label, points), colour) in enumerate(zip(series.items(), SERIES, strict=False)):
        _draw_line(canvas, plot(points), colour, 2)
        y = PANEL[1] + 16 * row
        canvas.line([(MARGIN[0], y + 6), (MARGIN[0] + 18, y + 6)], fill=colour, width=3)
        canvas.text((MARGIN[0] + 26, y), label, fill=INK)
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def _draw_panel(canvas: ImageDraw, title: str, points: np.ndarray, top: int) -> None:
    if not len(points):
        canvas.text((MARGIN[0], top + 10), title, fill=INK)
        canvas.text((MARGIN[0], top + MARGIN[1]), "no finite value", fill=INK)
        return
    plot = _draw_axes(canvas, title, points, top)
    mean = np.stack([points[:, 0], smooth(points[:, 1], max(1, len(points) // 20))], axis=1)
    for series, colour, width in ((points, RAW, 1), (mean, CURVE, 2)):
        _draw_line(canvas, plot(series), colour, width)


def _draw_axes(
    canvas: ImageDraw, title: str, points: np.ndarray, top: int
) -> Callable[[np.ndarray], list[tuple[float, float]]]:
    """Title, grid and numbers for points [M, 2]; returns the map from (step, value) to pixels."""
    left, upper = MARGIN[0], top + MARGIN[1]
    right, lower = PANEL[0] - MARGIN[2], top + PANEL[1] - MARGIN[3]
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1e-9)
    canvas.text((left, top + 10), title, fill=INK)
    for share in (0.0, 0.5, 1.0):
        y = lower - share * (lower - upper)
        canvas.line([(left, y), (right, y)], fill=GRID)
        canvas.text((6, y - 6), f"{y0 + share * (y1 - y0):.4g}", fill=INK)
    canvas.text((left, lower + 8), f"{x0:.0f}", fill=INK)
    canvas.text((right - 40, lower + 8), f"{x1:.0f}", fill=INK)

    def plot(series: np.ndarray) -> list[tuple[float, float]]:
        xs = left + (series[:, 0] - x0) / (x1 - x0) * (right - left)
        ys = lower - (series[:, 1] - y0) / (y1 - y0) * (lower - upper)
        return list(zip(xs.tolist(), ys.tolist(), strict=True))

    return plot


def _draw_line(canvas: ImageDraw, pixels: list[tuple[float, float]], colour: str, width: int) -> None:
    """A line through pixels; a dot where there is one only."""
    if len(pixels) == 1:
        (x, y) = pixels[0]
        canvas.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    else:
        canvas.line(pixels, fill=colour, width=width)
