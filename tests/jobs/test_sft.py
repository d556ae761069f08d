"""jobs.sft: the whole cloning, here and on Ray Train, its folder, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.records.checkpoints import RunDirectoryError
from cluster.records.run import open_run
from cluster.runtime.connect import Connection
from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import DeepMimicSettings
from jobs import sft
from jobs.character import deepmimic_run, sft_training
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.sft import SFTConfig
from learners.cloning import rounds as clone_training
from learners.cloning.rounds import PLANNED
from learners.cloning.settings import CloneRounds
from learners.workers import OneWorker
from motions.humanoid.mocap import clips_folder
from rollouts.control.actor_critic import load_controller
from rollouts.imitation.demonstrations import Demonstrations
from tests.toys.characters.cloning_toys import SMALL_RUN
from tests.toys.running.cluster_runs import Terminal

pytestmark = pytest.mark.slow


def small(folder: Path, **changes: Any) -> SFTConfig:
    return SFTConfig.of({"save_path": folder / "clone", "runtime": "local", **SMALL_RUN, **changes})


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
    assert evaluation["kind"] == "character"
    assert list(evaluation["policies"]) == ["clone", "expert", "open loop", "hold pose", "zero action"]
    assert (tmp_path / "clone/training_curves_latest.png").is_file()
    with pytest.raises(RunDirectoryError, match="resume"):
        sft.run(config)


def test_an_interrupted_cloning_goes_on_to_the_same_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small(tmp_path / "whole", evaluate=False)
    sft.run(whole)
    rounds: list[int] = []
    collect = clone_training.collect_round

    def stop_after_one(config: CloneRounds, env: Any, expert: Any, controller: Any, index: int, rank: int) -> Any:
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


def test_the_cloning_is_recorded_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    sft.run(small(tmp_path, evaluate=False, train_platform_type="TensorboardPlatform", best_metric="val_rmse"))
    folder = tmp_path / "clone"
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    shown = terminal.getvalue()
    assert "<" in shown and "val_rmse=" in shown and shown.count(f"{len(steps)}/{len(steps)} [") >= 1
    events = EventAccumulator(str(folder / "tensorboard")).Reload().Scalars("val_loss")
    assert [event.step for event in events] == steps == list(range(1, len(steps) + 1))
    # A checkpoint after each round, with the clone of then.
    last = [step for step, record in zip(steps, records_of(folder), strict=True) if record["round"] == 0][-1]
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == [f"step_{last:09d}", f"step_{steps[-1]:09d}"]
    # The best clone is the one whose weights, as they were kept, have the least error.
    errors = {name: load_controller(folder / "checkpoints" / name).extra["clone"]["val_rmse"] for name in kept}
    best = json.loads((folder / "manifest.json").read_text())["best"]
    assert best["value"] == min(errors.values()) and best["folder"] == f"best/{min(errors, key=errors.__getitem__)}"
    assert "Cloning: negative log-likelihood" in (folder / "report.html").read_text()


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_workers_do_again_is_recorded_once(tmp_path: Path) -> None:
    config = small(tmp_path, evaluate=False)
    with open_run(config.run, config, "clips", 9, shown=("loss",)) as run:
        recorder = sft_training.Recorder(run)
        round_end = tmp_path / "round"
        round_end.mkdir()
        (round_end / "controller.safetensors").write_bytes(b"clone")
        for step in (1, 2):
            recorder({"step": step, PLANNED: 4, **dict.fromkeys(sft_training.CURVES, 1.0)}, None)
        recorder({"val_rmse": 1.0}, round_end)
        for step, value in ((3, 3.0), (4, 3.0), (3, 4.0)):
            recorder({"step": step, PLANNED: 4, "loss": value}, None)
        recorder({"val_rmse": 1.0}, tmp_path / "replaced by a newer one")
    assert [(record["step"], record["loss"]) for record in records_of(tmp_path / "clone")] == [
        (1, 1.0),
        (2, 1.0),
        (3, 4.0),
    ]
    assert (tmp_path / "clone/controller.safetensors").read_bytes() == b"clone"


def test_what_a_refinement_did_is_told_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    options = {"refine_actions": True, "refine_method": "feedback", "refine_iterations": 1, "dagger_rounds": 0}
    tracker = {"train_platform_type": "WandBPlatform", "wandb_mode": "offline"}
    sft.run(small(tmp_path, evaluate=False, **options, **tracker))
    assert len(list((tmp_path / "clone" / "wandb").glob("offline-run-*/*.wandb"))) == 1
    figures = load_controller(tmp_path / "clone").extra["refinement"]["walk"]
    assert figures["reward_after"] >= figures["reward_before"] > 0.5 and "joint_error_after" in figures
    assert (
        f"labels of walk refined by feedback: reward_before {figures['reward_before']:.4f}" in capsys.readouterr().out
    )


class Still:
    """An expert whose label is 0; the clone's actions are 2 in `collected_round`."""

    def label(self, env: DeepMimicVectorEnv, observations: np.ndarray) -> np.ndarray:
        return np.zeros((env.num_envs, 28))


def collected_round(
    monkeypatch: pytest.MonkeyPatch, index: int = 0, **options: Any
) -> tuple[Demonstrations, np.ndarray, np.ndarray]:
    """Data of a round of one second, executed actions in radians [T, N, 28], and rewards [T, N]."""
    values = {"demo_s": 1.0, "demo_noise": 0.0, "early_termination": False, **options}
    config = CloneRounds.of(values)
    env = make_vector_env(config.task_settings, 3)
    acted: list[np.ndarray] = []
    rewards: list[np.ndarray] = []
    step = env.step

    def recorded(actions: np.ndarray) -> Any:
        result = step(actions)
        acted.append(actions * np.array(env.observation_schema["action_range"]))
        rewards.append(result[1])
        return result

    monkeypatch.setattr(env, "step", recorded)
    monkeypatch.setattr(clone_training, "acting", lambda _: lambda observations: np.full((3, 28), 2.0))
    controller = clone_training.new_clone(config.cloning, env.observation_schema)
    data = clone_training.collect_round(config, env, Still(), controller, index, 0)
    return data, np.stack(acted), np.stack(rewards)


def test_the_betas_say_who_acts_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    for index, betas, share in ((0, (1.0, 0.0), 0.0), (1, (1.0, 0.0), 1.0), (5, (1.0, 0.0), 1.0), (0, (0.5,), 0.5)):
        data, acted, _ = collected_round(monkeypatch, index, dagger_betas=betas)
        assert (acted != 0).mean() == pytest.approx(share, abs=0.15 if share == 0.5 else 0.0)
        assert not data.actions.any(), "the labels are the expert's, whoever acts"


def test_the_noise_has_its_size_in_radians_and_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, size, hold_s, steps in (("residual", 0.05, 0.1, 3), ("absolute", 0.2, 0.2, 6)):
        _, acted, _ = collected_round(monkeypatch, action_mode=mode, demo_noise=size, demo_noise_hold_s=hold_s)
        held = acted.reshape(30 // steps, steps, -1)
        assert (held == held[:, :1]).all() and (np.diff(held[:, 0], axis=0) != 0).all()
        assert held[:, 0].std() == pytest.approx(size, rel=0.15)


def test_blocks_of_validation_have_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, sizes in ((0.5, [15, 15]), (0.8, [24, 6])):
        data, _, _ = collected_round(monkeypatch, val_block_s=seconds)
        assert np.unique(data.blocks, return_counts=True)[1].tolist() == sizes * 3


def test_samples_weigh_alike_or_by_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    uniform, _, _ = collected_round(monkeypatch)
    assert (uniform.weights == 1.0).all()
    weighed, _, rewards = collected_round(monkeypatch, label_weighting="reward")
    np.testing.assert_allclose(weighed.weights, rewards.T.reshape(-1), rtol=1e-6)
    assert np.ptp(rewards) > 0.1


def test_the_critic_starts_with_the_discount_of_what_follows(tmp_path: Path) -> None:
    env = make_vector_env(DeepMimicSettings(early_termination=False), 2)
    returns = []
    for gamma in (1e-6, 0.8):
        config = CloneRounds.of(early_termination=False, critic_warm_s=1.0, critic_warm_gamma=gamma)
        controller = clone_training.new_clone(config.cloning, env.observation_schema)
        returns.append(clone_training.critic_rollouts(config, env, controller, 0).returns)
    # The same rollout: rewards of one step, and sums over about five.
    assert returns[0].min() > 0.0 and returns[0].max() <= 1.0
    first, sums = (values.reshape(-1, 2) for values in returns)
    rows = len(sums)
    expected = np.sum([0.8**k * first[k : k + rows] for k in range(len(first) - rows + 1)], axis=0)
    np.testing.assert_allclose(sums[:5], expected[:5], rtol=0.05)
    whole = DeepMimicConfig.of(save_dir=tmp_path, gamma=0.9)
    assert deepmimic_run.clone_config(whole, tmp_path).cloning.critic_warm_gamma == 0.9
    apart = DeepMimicConfig.of(save_dir=tmp_path, gamma=0.9, critic_warm_gamma=0.5)
    assert deepmimic_run.clone_config(apart, tmp_path).cloning.critic_warm_gamma == 0.5


@pytest.mark.ray
def test_two_workers_on_ray_train_clone_together(ray_cluster: Connection, tmp_path: Path) -> None:
    config = small(tmp_path, runtime="ray", num_workers=2, evaluate=False, critic_warm_s=0.5, dagger_rounds=0)
    sft.run(config)
    records = [json.loads(line) for line in (tmp_path / "clone/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    manifest = json.loads((tmp_path / "clone/manifest.json").read_text())
    assert manifest["step"] == len(records) and "controller.safetensors" in manifest["files"]
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
        (["--lookahead", "20"], "lookahead is '20', 0.667 s at 30 Hz; legal: 0 to 0.5 s, which are 15 control steps"),
        (["--lookahead", "0.6s"], "lookahead is '0.6s', 0.6 s at 30 Hz; legal: 0 to 0.5 s"),
        (["--mocap", "./docs/"], "docs holds no motion"),
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
    assert config.character.motion == ("dance_a",) and config.cloning.learning_rate == 1e-3
    assert not config.evaluation.evaluate and config.evaluation.eval_steps == 500
    assert config.cloning.layer_widths == (64, 64) and config.demonstrations.refine_actions
    assert config.run.save_dir == Path("policy_sft_pretrained.pth") and config.cloning.cloning_device == "cpu"
    assert config.task_settings.lookahead_s == pytest.approx(1 / 30)
    assert SFTConfig.of(lookahead="15").task_settings.lookahead_s == 0.5, "the environment's largest"
    with pytest.raises(ValueError, match=r"less than or equal to 0\.5"):
        SFTConfig.of(lookahead_s=0.51)


def test_a_plan_says_what_would_be_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sft.plan(small(tmp_path, motion=("walk", "kick")))
    text = capsys.readouterr().out
    assert "walk (1.27 s, cyclic), kick (1.53 s, once)" in text and "rounds: 2 of 120 samples" in text
