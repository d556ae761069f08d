"""The benchmark of stochastic steps: two trainings that differ in nothing else, and their curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import stochastic_steps


def test_two_runs_differ_in_the_window_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def train(preset: str, overrides: dict[str, object]) -> dict[str, object]:
        runs.append((preset, {name: value for name, value in overrides.items() if name != "save_dir"}))
        return {"seconds": 1.0, "held_out_curve": [(0, 0.5), (7, 0.5 + 0.1 * len(runs))]}

    monkeypatch.setattr(stochastic_steps, "train", train)
    assert stochastic_steps.main(["--num_steps", "7", "--runtime", "local", "--output", str(tmp_path)]) == 0
    (preset, window), (other_preset, every) = runs
    assert preset == other_preset == "demo" and window["num_steps"] == 7 and window["runtime"] == "local"
    assert every == {**window, "sde_window": 0}
    curves = json.loads((tmp_path / "stochastic_steps.json").read_text())["held_out_total"]
    assert [curve[-1][1] for curve in curves.values()] == [0.6, 0.7]
    assert (tmp_path / "stochastic_steps.png").stat().st_size > 0
