"""What the service costs: figures of short sleeps on a real cluster, and when a target is missed."""

from __future__ import annotations

import pytest

from benchmarks import engine
from benchmarks.fixtures.sleepers import SleepTimes
from benchmarks.fixtures.sleeping_runs import sleeping_roles, sleeping_run, step_seconds
from cluster.runtime.local import LocalRuntime

GOOD: dict[str, engine.Figure] = {
    "overlap": {"efficiency": 0.97, "speedup": 1.8},
    "overhead": {"share": 0.02},
    "tax": {"share": -0.01},
    "scaling": {"efficiency_32": 0.93},
    "recovery": {"seconds": 1.5, "repeated_calls": 1.0},
    "publish": {"share": 0.01},
}


def test_targets_are_those_of_the_docstring() -> None:
    assert engine.missed_targets(GOOD) == []
    for name, key, bad, phrase in (
        ("overlap", "efficiency", 0.94, "overlap efficiency is 0.94, the target at least 0.95"),
        ("overlap", "speedup", 1.5, "overlap speedup is 1.5, the target at least 1.6"),
        ("overhead", "share", 0.05, "overhead share is 0.05, the target at most 0.03"),
        ("tax", "share", 0.2, "tax share is 0.2, the target at most 0.1"),
        ("scaling", "efficiency_32", 0.5, "scaling efficiency_32 is 0.5, the target at least 0.9"),
        ("recovery", "seconds", 4.0, "recovery seconds is 4, the target at most 3"),
        ("recovery", "repeated_calls", 3.0, "recovery repeated_calls is 3, the target at most 2"),
        ("publish", "share", float("nan"), "publish share is nan, the target at most 0.02"),
    ):
        assert engine.missed_targets(GOOD | {name: {**GOOD[name], key: bad}}) == [phrase]
    assert engine.missed_targets({"tax": {"share": 0.0}}) == [], "what was not measured is not missed"


@pytest.mark.parametrize(("words", "message"), [("--steps=1", "--steps is 1"), ("--only=speed", "invalid choice")])
def test_bad_options(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main([words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("staleness", [0, 1])
def test_sleeping_steps_take_at_least_what_is_slept(staleness: int) -> None:
    """In one process nothing overlaps: two groups, their rewards and the update."""
    times = SleepTimes(rollout=0.01, reward=0.005, update=0.01)
    run = sleeping_run(LocalRuntime(), sleeping_roles(times, 1, 1), num_groups=2, num_steps=4, staleness=staleness)
    with run as (controller, save_dir):
        assert controller.run().policy_version == 4
        seconds = step_seconds(save_dir, warm_up=1)
    assert len(seconds) == 2
    # The last step has nothing to roll out where that is done a step ahead.
    assert seconds[0] >= 2 * 0.015 + 0.01


@pytest.mark.ray
def test_a_death_and_many_actors_are_measured_on_a_real_cluster(
    monkeypatch: pytest.MonkeyPatch, ray_cluster: object
) -> None:
    monkeypatch.setattr(engine, "SCALING_SECONDS", 0.05)
    scaling = engine.measure_scaling(2, actors=(1, 2))
    assert scaling.keys() == {"efficiency_1", "efficiency_2"}
    assert all(0 < value <= 1 for value in scaling.values())
    recovery = engine.measure_recovery(2)
    assert recovery["restarts"] == 1 and recovery["repeated_calls"] == 1 and recovery["seconds"] > 0
