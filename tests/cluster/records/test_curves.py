"""Pictures of training curves: one panel per curve, whatever the points are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.records.curves import CURVE, RAW, SERIES, draw_comparison, draw_curves


def colours(path: Path, names: tuple[str, ...]) -> list[int]:
    """How many pixels have each colour."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    return [int((picture == [int(name[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum()) for name in names]


def test_every_curve_has_a_panel(tmp_path: Path) -> None:
    wave = [(step, float(np.sin(step))) for step in range(1, 200)]
    draw_curves(tmp_path / "one.png", {"loss": wave, "never": []})
    draw_curves(tmp_path / "three.png", {"loss": wave, "point": [(3, 1.0)], "diverged": [(1, float("nan"))]})
    one, three = (Image.open(tmp_path / f"{name}.png") for name in ("one", "three"))
    assert one.width == three.width and three.height == 3 * one.height
    assert min(colours(tmp_path / "one.png", (CURVE, RAW))) > 100
    with pytest.raises(ValueError, match="there is no point to draw"):
        draw_curves(tmp_path / "none.png", {"never": []})


def test_runs_are_compared_in_one_panel(tmp_path: Path) -> None:
    runs = {f"run {number}": [(step, step * (number + 1.0)) for step in range(50)] for number in range(3)}
    draw_comparison(tmp_path / "runs.png", "Return", runs)
    assert min(colours(tmp_path / "runs.png", SERIES[:3])) > 100 and not any(colours(tmp_path / "runs.png", SERIES[3:]))
    with pytest.raises(ValueError, match="expected 1 to 8 runs"):
        draw_comparison(tmp_path / "runs.png", "Return", {})


def test_only_who_draws_loads_matplotlib() -> None:
    program = "import sys, cluster.records.curves; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
