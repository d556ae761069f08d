"""The benchmark of the environments: that its contenders run (for a few steps), and what it judges and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import envs
from envs.settings import DeepMimicSettings

CONTENDERS = ("raw", "batched", "single", "pybullet")


def speeds(batched: float, single: float) -> dict[str, dict[str, list[float]]]:
    """Three turns in which the machine is slower and slower, and one of ours that is an outlier."""
    base = {"raw": 1000.0, "batched": batched, "single": single, "pybullet": 100.0}
    turns = {name: [value, value / 2, value / 4] for name, value in base.items()}
    turns["batched"][1] = 1.0
    return {name: {"cpu": values, "wall": [value / 2 for value in values]} for name, values in turns.items()}


def test_every_contender_works_and_counts_its_control_steps() -> None:
    settings = DeepMimicSettings()
    runs = {
        "raw": (envs.raw_contender(settings), 16 * envs.RAW_STEPS),
        "batched": (envs.batched_contender(settings), 8 * envs.NUM_ENVS),
        "single": (envs.single_contender(settings), 256),
        "pybullet": (envs.pybullet_contender(), 32),
    }
    assert tuple(runs) == CONTENDERS
    for name, (run, steps) in runs.items():
        assert run() == steps, name


def test_contenders_take_turns_and_the_first_is_dropped() -> None:
    order: list[str] = []

    def contender(name: str) -> envs.Contender:
        return lambda: order.append(name) or 7

    measured = envs.measure({name: contender(name) for name in ("a", "b")}, repeats=2, seconds=1e-4)
    assert [name for name, before in zip(order, [None, *order], strict=False) if name != before] == list("ababab")
    for clocks in measured.values():
        assert len(clocks["cpu"]) == len(clocks["wall"]) == 2 and min(clocks["cpu"]) > 0


def test_targets_are_judged_by_the_median_of_the_turns_ratios() -> None:
    ratios = envs.report(speeds(800.0, 610.0))["ratios"]
    assert ratios == pytest.approx(
        {"batched / raw": 0.8, "single / raw": 0.61, "batched / pybullet": 8.0, "single / pybullet": 6.1}
    )
    assert envs.missed_targets(ratios) == []
    missed = envs.missed_targets(envs.report(speeds(700.0, 490.0))["ratios"])
    assert missed == [
        "batched / raw 0.700 of 0.75 (-0.050)",
        "single / raw 0.490 of 0.5 (-0.010)",
        "single / pybullet 4.900 of 6.0 (-1.100)",
    ]
    assert envs.missed_targets({"batched / raw": float("nan")}), "a ratio that is no number is no success"


@pytest.mark.parametrize(("batched", "code", "last"), [(800.0, 0, "all targets met"), (700.0, 1, "missed: batched")])
def test_figures_are_printed_judged_and_written(
    batched: float,
    code: int,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[tuple[str, ...], int, float]] = []

    def measured(
        contenders: dict[str, envs.Contender], repeats: int, seconds: float
    ) -> dict[str, dict[str, list[float]]]:
        asked.append((tuple(contenders), repeats, seconds))
        return speeds(batched, 610.0)

    monkeypatch.setattr(envs, "measure", measured)
    path = tmp_path / "figures.json"
    assert envs.main(["--check", "--json", str(path), "--repeats", "3", "--seconds", "0.5"]) == code
    assert asked == [(CONTENDERS, 3, 0.5)]
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith(last) and "single / pybullet" in printed
    written = json.loads(path.read_text())
    assert bool(written["targets"]["missed"]) == bool(code) and written["task"]["motion"] == ["walk"]
    assert written["environment"]["mujoco"] and written["environment"]["pybullet"]
    assert written["figures"]["steps_per_second"]["raw"]["cpu_high"] == 1000.0
    assert envs.main([]) == 0, "without --check a miss is only a figure"


def test_bad_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in ((["--repeats", "0"], "at least 1"), (["--seconds", "0"], "more than 0")):
        with pytest.raises(SystemExit):
            envs.main(words)
        assert message in capsys.readouterr().err
