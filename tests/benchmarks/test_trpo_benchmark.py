"""The benchmark of TRPO: what it judges, and that both contenders run (on a few steps)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import trpo

pytestmark = pytest.mark.slow


def figures(ours: list[float], wall: float) -> dict[str, Any]:
    def lines(values: list[float], wall: float) -> dict[int, dict[str, float]]:
        common = {"wall": wall, "cpu": wall / 2, "rollout_share": 0.6, "update_share": 0.3}
        return {seed: {"train": value, "evaluation": 2 * value, **common} for seed, value in enumerate(values)}

    return {"Hopper-v5": {"sb3": lines([900.0, 1000.0, 1100.0], 50.0), "ours": lines(ours, wall)}}


def test_targets_are_judged_against_the_spread_of_the_seeds() -> None:
    table = trpo.summary(figures([700.0, 1000.0, 1050.0], 20.0))
    assert table["Hopper-v5"]["wall_ratio"] == pytest.approx(0.4)
    assert trpo.missed_targets(table) == []
    missed = trpo.missed_targets(trpo.summary(figures([700.0, 800.0, 900.0], 40.0)))
    assert missed == [
        "Hopper-v5 train 800 of 900 (-100)",
        "Hopper-v5 evaluation 1600 of 1800 (-200)",
        "Hopper-v5 wall time 0.80 of 0.6 (+0.20)",
    ]


def test_one_percent_is_allowed_only_where_all_seeds_reach_the_same() -> None:
    assert trpo.least_return([9330.0, 9345.0, 9360.0]) == pytest.approx(9330 * 0.99)
    assert trpo.least_return([900.0, 905.0, 1100.0]) == 900.0
    assert trpo.least_return([-9360.0, -9330.0]) == pytest.approx(-9360 * 1.01)
    assert trpo.least_return([9330.0]) == 9330.0
    # Hopper's seeds are far apart: a mean just below their least is a miss.
    missed = trpo.missed_targets(trpo.summary(figures([890.0, 895.0, 900.0], 20.0)))
    assert missed == ["Hopper-v5 train 895 of 900 (-5)", "Hopper-v5 evaluation 1790 of 1800 (-10)"]


def test_figures_are_printed_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trpo, "measure", lambda *_: figures([700.0, 800.0, 900.0], 40.0))
    assert trpo.main(["--check", "--json", str(tmp_path / "figures.json")]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("missed: Hopper-v5 train 800 of 900")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["environment"]["versions"]["sb3-contrib"] and written["missed"]


def test_ours_gets_the_trust_region_of_sb3() -> None:
    hopper, pendulum = (trpo.our_config(task, 0, 4096, 0) for task in trpo.TASKS)
    assert (hopper.trpo.max_kl, hopper.trpo.cg_damping) == pytest.approx((0.03, 0.3))
    assert (pendulum.trpo.max_kl, pendulum.trpo.cg_damping) == pytest.approx((0.01, 0.1))
    assert trpo.our_config("Hopper-v5", 0, 4096, 0, same=True).trpo.steps_per_batch == 2048


@pytest.mark.ray
def test_both_contenders_run() -> None:
    measured = trpo.measure(["InvertedDoublePendulum-v5"], [0], 2048, ["--same"])["InvertedDoublePendulum-v5"]
    for name in trpo.CONTENDERS:
        line = measured[name][0]
        assert 20 < line["train"] < 200 and line["wall"] > 0 and line["cpu"] > 0


def test_bad_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in ((["--steps", "100"], "at least one batch"), (["--env_runners", "3"], "a divisor of 8")):
        with pytest.raises(SystemExit):
            trpo.main(words)
        assert message in capsys.readouterr().err
