"""jobs.sft: the whole cloning, here and on Ray Train, its folder, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.connect import Connection
from cluster.run_directory import RunDirectoryError
from envs.deepmimic_vector import make_vector_env
from jobs import cli, clone_training, sft
from jobs.control_configs import SFTConfig
from learners.workers import OneWorker
from motions.mocap import clips_folder
from rollouts.controllers import load_controller

SMALL: dict[str, Any] = {
    "num_demo_envs": 4,
    "demo_s": 1.0,
    "dagger_rounds": 1,
    "epochs": 4,
    "hidden_size": (16,),
    "critic_warm_s": 1.0,
    "critic_warm_epochs": 2,
    "eval_episodes": 2,
    "eval_steps": 20,
    "eval_push_forces": (100.0,),
    "eval_push_directions": (0.0,),
    "eval_push_at_s": 0.1,
}


def small(folder: Path, **changes: Any) -> SFTConfig:
    return SFTConfig.model_validate({"save_path": folder / "clone", "runtime": "local", **SMALL, **changes})


def test_a_cloning_leaves_a_controller_its_curves_and_an_evaluation(tmp_path: Path) -> None:
    config = small(tmp_path)
    sft.run(config)
    env = make_vector_env(config.task_settings, 1)
    loaded = load_controller(tmp_path / "clone", env.observation_schema)
    clone = loaded.controller
    assert loaded.extra["task"]["motion"] == ["walk"]
    # Normaliser from all samples, std from the likelihood, critic in the units of returns.
    records = [json.loads(line) for line in (tmp_path / "clone/metrics.jsonl").read_text().splitlines()]
    assert int(clone.statistics.count) == records[-1]["samples"] > 200
    assert -2.3 <= clone.log_std.max().item() < 0.0
    assert clone.value_std.item() != 1.0 and "explained_variance" in loaded.extra["critic"]
    assert {record["round"] for record in records} == {0, 1}
    evaluation = json.loads((tmp_path / "clone/evaluation.json").read_text())
    assert list(evaluation["policies"]) == ["clone", "expert", "open loop", "hold pose", "zero action"]
    assert (tmp_path / "clone/training_curves_latest.png").is_file()
    with pytest.raises(RunDirectoryError, match="resume"):
        sft.run(config)


def test_an_interrupted_cloning_goes_on_to_the_same_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(tmp_path / "whole", evaluate=False)
    sft.run(whole)
    rounds: list[int] = []
    collect = clone_training.collect_round

    def stop_after_one(config: SFTConfig, env: Any, expert: Any, controller: Any, index: int, rank: int) -> Any:
        rounds.append(index)
        if rounds == [0, 1]:
            raise KeyboardInterrupt
        return collect(config, env, expert, controller, index, rank)

    monkeypatch.setattr(clone_training, "collect_round", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        sft.run(small(tmp_path / "cut", evaluate=False))
    sft.run(small(tmp_path / "cut", evaluate=False, resume=True))
    assert rounds == [0, 1, 1]
    first, second = (load_controller(tmp_path / name / "clone").controller.state_dict() for name in ("whole", "cut"))
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


@pytest.mark.ray
def test_two_workers_on_ray_train_clone_together(ray_cluster: Connection, tmp_path: Path) -> None:
    config = small(tmp_path, runtime="ray", num_workers=2, evaluate=False, critic_warm_s=0.5, dagger_rounds=0)
    sft.run(config)
    records = [json.loads(line) for line in (tmp_path / "clone/metrics.jsonl").read_text().splitlines()]
    # Four environments of 30 steps, less the steps that only reset.
    assert 100 <= records[-1]["samples"] <= 120
    assert load_controller(tmp_path / "clone").controller.statistics.count.item() == records[-1]["samples"]


def test_workers_share_the_environments() -> None:
    class Rank(OneWorker):
        def __init__(self, rank: int) -> None:
            self.rank, self.size = rank, 3

    assert [clone_training.share_of(8, Rank(rank)) for rank in range(3)] == [3, 3, 2]
    assert [clone_training.share_of(1, Rank(rank)) for rank in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mocap", "wlak"], "walk"),
        (["--mocap", "nowhere/clip.txt"], "there is no motion file"),
        (["--hidden_size", "64", "32", "--num_layers", "3"], "one per layer"),
        (["--lookahead", "soon"], "lookahead"),
        (["--lookahead", "1", "--lookahead_s", "0.1"], "same time in two units"),
        (["--expert", "/nowhere"], "no such file"),
        (["--balance_gains", "/nowhere.json"], "nowhere.json"),
        (["--refine_method", "magic"], "feedback"),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*words, "--save_path", str(tmp_path / "clone"), "--dry_run"]
    assert cli.main(SFTConfig, sft.run, sft.__doc__, "jobs.sft", sft.plan, argv=argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "clone").exists()


def clip_text(change: str) -> str:
    rows = json.loads((clips_folder() / "humanoid3d_walk.txt").read_text())["Frames"]
    if change == "columns":
        rows[3] = rows[3][:-1]
    elif change == "duration":
        rows[3][0] = 0.0
    elif change == "nan":
        rows[3][9] = float("nan")
    elif change == "zero quaternion":
        rows[3][4:8] = [0.0] * 4
    else:
        rows[3][4:8] = [2.0 * value for value in rows[3][4:8]]
    return json.dumps({"Loop": "wrap", "Frames": rows})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("columns", "row 3 has 43 numbers"),
        ("duration", "row 3 lasts 0 s"),
        ("nan", "row 3, column 9 is nan"),
        ("zero quaternion", "quaternion of norm zero"),
        ("double quaternion", None),
    ],
)
def test_a_malformed_clip_is_refused_by_row(
    change: str, message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.txt"
    path.write_text(clip_text(change))
    argv = ["--mocap", str(path), "--save_path", str(tmp_path / "clone"), "--dry_run"]
    code = cli.main(SFTConfig, sft.run, sft.__doc__, "jobs.sft", sft.plan, argv=argv)
    # A quaternion that is not of unit length is normalised.
    assert code == (0 if message is None else 2)
    assert message is None or message in capsys.readouterr().err


GUIDE = (
    "--mocap dance_a --epochs 100 --batch_size 256 --lr 1e-3 --lookahead 1 --val_split .1 --refine_actions "
    "--refine_method feedback --refine_iterations 3 --eval_episodes 10 --eval_steps 500 --hidden_size 64 "
    "--num_layers 2 --save_path policy_sft_pretrained.pth --no_eval --device cpu"
)


def test_the_guides_command_line_is_understood() -> None:
    config = cli.parse(SFTConfig, GUIDE.split(), "jobs.sft").settings
    assert config.motion == ("dance_a",) and config.learning_rate == 1e-3 and not config.evaluate
    assert config.layer_widths == (64, 64) and config.refine_actions and config.eval_steps == 500
    assert config.task_settings.lookahead_s == pytest.approx(1 / 30)


def test_a_plan_says_what_would_be_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sft.plan(small(tmp_path, motion=("walk", "kick")))
    text = capsys.readouterr().out
    assert "walk (1.27 s, cyclic), kick (1.53 s, once)" in text and "rounds: 2 of 120 samples" in text
