"""The benchmark of cloning: both contenders train under the same conditions, and what is saved is counted honestly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cloning
from rollouts.control.actor_critic import load_controller

TINY = [
    *("--num_demo_envs", "4", "--demo_s", "1", "--dagger_rounds", "0", "--epochs", "2", "--hidden_size", "16"),
    *("--critic_warm_s", "1", "--num_timesteps", "256", "--steps_per_batch", "128", "--num_envs", "4"),
]


def test_both_train_with_the_same_network_and_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "--motion", "jump", "--action_mode", "absolute", "--log_std_floor", "-1.5"]
    files = ["--json", str(tmp_path / "figures.json"), "--png", str(tmp_path / "curves.png")]
    assert cloning.main([*words, *files, "--save_dir", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "figures.json").read_text())
    assert set(written["curves"]) == {cloning.CLONED, cloning.ALONE} and written["labelled_states"] > 50
    assert all(len(curve) >= 2 for curve in written["curves"].values())
    assert (tmp_path / "curves.png").stat().st_size > 0 and "saving" in capsys.readouterr().out
    cloned, alone = (load_controller(tmp_path / name) for name in ("trpo", "alone"))
    assert cloned.schema == alone.schema
    assert replace(cloned.controller.config, initial_log_std=-1.5) == alone.controller.config
    assert alone.extra["task"]["motion"] == ["jump"]


def test_labelled_states_count_and_a_level_that_is_never_reached_saves_nothing() -> None:
    alone = [(100.0, 1.0), (200.0, 4.0), (300.0, 3.0)]
    quick = cloning.compare({cloning.CLONED: [(10.0, 2.0), (20.0, 5.0)], cloning.ALONE: alone}, labelled=30)
    assert (quick["level"], quick["steps_alone"], quick["steps_cloned"], quick["saving"]) == (4.0, 200.0, 50.0, 4.0)
    never = cloning.compare({cloning.CLONED: [(10.0, 2.0)], cloning.ALONE: alone}, labelled=30)
    assert never["saving"] == 0.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_kl", "-1"], "max_kl"),
        (["--hidden_size", "16", "8", "--num_layers", "2"], "--hidden_size is (16, 8); legal: one width"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cloning.main(words)
    assert message in capsys.readouterr().err


def test_check_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cloning, "clone", lambda *_: 10)
    monkeypatch.setattr(
        cloning, "train", lambda config: [(100.0, 1.0)] if config.run.load_sft_pretrain else [(50.0, 2.0)]
    )
    (tmp_path / "clone").mkdir()
    assert cloning.main(["--motion", "walk", "--check", "--save_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "missed: cloning saves 0.00x of the steps, 4x expected"
