"""The sampling benchmark: its contenders compute the same, and a missed target is named. Times are not judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sampling
from rollouts.networks.mdm import MDMConfig

SMALL = MDMConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, text_dim=4, max_positions=32)


def test_figures_and_environment_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sampling.json"
    arguments = ["--repeats", "2", "--steps", "4", "--threads", "1", "--json", str(path)]
    assert sampling.main(arguments, SMALL, frames=6) == 0
    written = json.loads(path.read_text())
    assert written["task"]["latent_dim"] == 16 and written["task"]["steps"] == 4
    assert written["environment"]["torch"] and written["environment"]["threads"] == 1
    for name in ("plain", "fp32", "bf16"):
        figures = written["figures"][name]
        assert len(figures["runs"]["wall"]) == 2 and len(figures["runs"]["steps"]) == 2 * 3
        assert min(figures["process_min"], figures["wall_min"], figures["steps_seconds"]) > 0
    assert written["figures"]["plain"]["speed"] == 1.0
    assert written["figures"]["fp32"]["deviation"]["max"] < 1e-4
    assert 1e-4 < written["figures"]["bf16"]["deviation"]["max"] < 1.0
    output = capsys.readouterr().out
    assert all(name in output for name in ("plain", "fp32 against plain", "bf16 against plain"))


@pytest.mark.parametrize(
    ("speed", "difference", "expected"), [(1.2, 1e-6, []), (1.0, 2e-4, ["fp32 1.000x", "2.00e-04"])]
)
def test_missed_targets_are_named_with_their_margin(speed: float, difference: float, expected: list[str]) -> None:
    figures = {
        "fp32": {"speed": speed, "deviation": {"max": difference}},
        "bf16": {"speed": 2.5, "deviation": {"max": 0.1}},
    }
    missed = sampling.missed_targets(figures)
    assert len(missed) == len(expected)
    assert all(phrase in line for phrase, line in zip(expected, missed, strict=True))


def test_check_fails_with_the_missed_targets_on_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sampling, "SPEED_TARGETS", {"fp32": 1e6, "bf16": 0.0})
    arguments = ["--repeats", "1", "--steps", "3", "--threads", "1"]
    assert sampling.main([*arguments, "--check"], SMALL, frames=6) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("missed: fp32 ") and "bf16" not in last
    assert sampling.main(arguments, SMALL, frames=6) == 0
    monkeypatch.setattr(sampling, "SPEED_TARGETS", {"fp32": 0.0, "bf16": 0.0})
    assert sampling.main([*arguments, "--check"], SMALL, frames=6) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all targets met"


def test_impossible_options() -> None:
    with pytest.raises(SystemExit) as error:
        sampling.main(["--repeats", "0"])
    assert error.value.code == 2
