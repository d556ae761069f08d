"""The tuning benchmark: a contender is measured, and a missed target is named. Times and sizes are not judged."""

from __future__ import annotations

import json

import pytest

from benchmarks import tuning


@pytest.mark.parametrize(("name", "steps"), [("easytune-5", 5), ("opsd-50", 1), ("grpo-50", 1), ("awm-50", 1)])
def test_a_contender_is_measured(name: str, steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--contender", name, "--width", "16", "--frames", "8", "--repeats", "1"]
    assert tuning.main(arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["optimizer_steps"] == steps and found["steps_per_second"] > 0
    assert 0 <= found["extra_mb"] < found["peak_mb"]


def test_missed_targets_are_named() -> None:
    good = {"peak_mb": 500.0, "extra_mb": 40.0, "steps_per_second": 9.0}
    draft = {"peak_mb": 900.0, "extra_mb": 400.0, "steps_per_second": 1.0}
    figures = {"easytune-5": good, "easytune-50": good, "draft-50": draft}
    assert tuning.missed_targets(figures) == []
    bad = figures | {"easytune-50": {"peak_mb": 600.0, "extra_mb": 140.0, "steps_per_second": 2.0}}
    assert [line.split(" of ")[0] for line in tuning.missed_targets(bad)] == [
        "peak",
        "extra memory",
        "optimizer steps per second",
    ]
