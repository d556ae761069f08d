"""Which options of the jobs may be others when a run goes on, and that runs of earlier versions may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.records.checkpoints import RunDirectoryError
from cluster.records.opening import as_begun, changed_options, config_sha256
from cluster.records.run_directory import RunDirectory
from jobs.character.deepmimic_run import clone_config, trpo_config
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from jobs.configs.sft import SFTConfig
from jobs.configs.trpo import TRPOJobConfig
from jobs.critic.settings import CriticConfig
from learners.grpo.settings import GRPOSettings
from motions.settings import Settings, options_of, redeclared

CHANGES: dict[str, Any] = {
    **{"num_steps": 8, "group_size": 4, "learning_rate": 0.003, "kl_weighting": "x0", "use_dense_reward": True},
    **{"num_rollout_actors": 2, "eval_every": 0, "use_lora": False, "sde_window": 3, "num_eval_prompts": 3},
}


def grpo(folder: Path, **changes: Any) -> GRPOConfig:
    return GRPOConfig.of({"save_dir": str(folder), **CHANGES, **changes})


def old_file(folder: Path) -> dict[str, Any]:
    """What `config.yaml` held when options were one flat list, with two that had one legal value."""
    flat = grpo(folder).flat()
    assert not any("." in name or isinstance(value, dict) for name, value in flat.items())
    return {**flat, "lora_dropout": 0.0, "reward_model_type": "tmr"}


def opened(config: GRPOConfig) -> RunDirectory:
    return RunDirectory.open(config.run, config, "data")


def begun(config: GRPOConfig) -> None:
    """A run that has made a step."""
    directory = opened(config)
    directory.append_metrics({"step": 1})
    directory.close()


def test_an_old_flat_file_is_the_nested_one(tmp_path: Path) -> None:
    config = grpo(tmp_path / "run")
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(yaml.safe_dump(old_file(tmp_path / "run")))
    new.write_text(cli.settings_yaml(config))
    assert yaml.safe_load(new.read_text())["grpo"]["group_size"] == 4
    for file in (old, new):
        assert cli.parse(GRPOConfig, ["--config", str(file)], "jobs.grpo").settings == config
    assert GRPOConfig.of(yaml.safe_load(old.read_text())) == config
    assert changed_options(yaml.safe_load(old.read_text()), config) == {}


def test_a_run_with_an_old_flat_file_may_be_resumed(tmp_path: Path) -> None:
    begun(grpo(tmp_path / "run"))
    file = tmp_path / "run/config.yaml"
    file.write_text(yaml.safe_dump(old_file(tmp_path / "run")))
    with pytest.raises(RunDirectoryError, match=r"learning_rate was 0\.003, is 0\.1.*--allow_changed learning_rate"):
        opened(grpo(tmp_path / "run", resume=True, learning_rate=0.1))
    opened(grpo(tmp_path / "run", resume=True, num_steps=9, num_rollout_actors=1, log_interval=3)).close()
    assert yaml.safe_load(file.read_text())["run"]["num_steps"] == 9


@pytest.mark.parametrize("name", ["learning_rate", "lr", "grpo.learning_rate", "grpo.lr"])
def test_a_change_is_allowed_by_any_of_the_options_names(tmp_path: Path, name: str) -> None:
    begun(grpo(tmp_path / "run"))
    opened(grpo(tmp_path / "run", resume=True, learning_rate=0.1, allow_changed=(name,))).close()
    # The options of the steps before are kept beside.
    assert (
        yaml.safe_load((tmp_path / "run/config_until_step_000000000.yaml").read_text())["grpo"]["learning_rate"]
        == 0.003
    )


def test_retired_options_with_another_value_were_another_run(tmp_path: Path) -> None:
    before = {**old_file(tmp_path), "lora_dropout": 0.1, "policy": {"forgotten": 1}}
    assert changed_options(before, grpo(tmp_path)) == {
        "lora_dropout": "is gone (was 0.1)",
        "policy.forgotten": "is gone (was 1)",
    }


@pytest.mark.parametrize(
    ("name", "value", "may_change"),
    [
        ("save_interval", 3, True),
        ("train_platform_type", "TensorboardPlatform", True),
        ("trace", True, True),
        ("num_reward_actors", 4, True),
        ("runtime", "local", True),
        ("num_steps", 500, True),
        ("eval_sampling_steps", 5, True),
        ("threads_per_actor", 2, False),
        ("deterministic", False, False),
        ("seed", 11, False),
        ("kl_penalty", 0.5, False),
        ("policy_loss", "spo", False),
        ("sampling_steps", 5, False),
        ("device", "cuda", False),
        ("beta_s", 0.5, False),
        ("num_prompts", 7, False),
    ],
)
def test_what_an_option_changes_decides(tmp_path: Path, name: str, value: Any, may_change: bool) -> None:
    before, after = grpo(tmp_path), grpo(tmp_path, **{name: value})
    changed = changed_options(before.model_dump(mode="json"), after)
    assert changed.keys() == (set() if may_change else {name})
    assert (config_sha256(before) == config_sha256(after)) == may_change


JOBS: dict[type[Settings], dict[str, Any]] = {
    PretrainConfig: {"save_dir": "run", "latent_dim": 64, "num_steps": 7, "composite_fraction": 0.5, "device": "cpu"},
    CriticConfig: {"save_dir": "run", "num_steps": 7, "critic_depth": 2, "pairs_path": "list.pth"},
    RetrievalConfig: {"save_dir": "run", "captions": "judge", "num_steps": 7, "tmr_layers": 2, "max_frames": 90},
    SFTConfig: {"save_path": "run", "motion": ["run", "kick"], "lookahead": "2", "epochs": 3, "evaluate": False},
    TRPOJobConfig: {"save_dir": "run", "num_timesteps": 500, "save_per_iter": 2, "max_kl": 0.5, "num_envs": 6},
    DeepMimicConfig: {"save_dir": "run", "gamma": 0.9, "epochs": 3, "num_timesteps": 500, "eval_steps": 9},
}
"""Options of the other jobs under their names of when they were one flat list."""


@pytest.mark.parametrize("kind", JOBS)
def test_each_job_reads_flat_and_nested_files(kind: type[Settings], tmp_path: Path) -> None:
    config = kind.of(JOBS[kind])
    # No name is in two groups of one job, so that the flat file has the names of old.
    flat = config.flat()
    assert flat.keys() >= JOBS[kind].keys() and not any("." in name for name in flat)
    for written in (flat, config.model_dump(mode="json")):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(written))
        assert cli.parse(kind, ["--config", str(file)], "jobs.x").settings == config
        assert changed_options(written, config) == {}


def may_change(kind: type[Settings], name: str, value: Any, **given: Any) -> bool:
    """Whether a run goes on with another value of an option."""
    before, after = kind.of(JOBS[kind] | given), kind.of(JOBS[kind] | given | {name: value})
    changed = changed_options(before.flat(), after)
    assert changed.keys() <= {name}
    return not changed


@pytest.mark.parametrize(
    ("kind", "free", "fixed"),
    [
        (
            PretrainConfig,
            {"num_samples": 9, "guidance_scale": 1.0, "device": "cuda", "num_steps": 9, "keep_checkpoints": 4},
            {"max_frames": 90, "weights_dtype": "float16", "latent_dim": 32, "seed": 1, "num_composites": 9},
        ),
        (CriticConfig, {"num_eval_pairs": 3, "device": "cpu"}, {"graded_share": 0.5, "pairs_path": "other.pth"}),
        (RetrievalConfig, {"device": "cuda", "best_metric": "loss"}, {"captions": "train", "tmr_layers": 3}),
        (
            SFTConfig,
            {"evaluate": True, "eval_steps": 5, "num_workers": 3, "max_failures": 9, "wandb_project": "x"},
            {"gpus_per_worker": 1.0, "threads_per_worker": 2, "epochs": 9, "lookahead": "3", "expert": "reference"},
        ),
        (
            TRPOJobConfig,
            {"task": "evaluate", "num_timesteps": 9, "num_learners": 2, "runtime": "local", "max_episode_steps": 4},
            {"save_per_iter": 3, "num_envs": 8, "num_env_runners": 2, "hidden_size": 9, "motion": ["kick"]},
        ),
        (
            DeepMimicConfig,
            {"num_timesteps": 9, "eval_steps": 5, "video_s": 0.0, "num_workers": 2},
            {"trpo": False, "critic_warm_gamma": 0.5, "max_kl": 0.5, "hidden_size": [9], "save_per_iter": 9},
        ),
    ],
)
def test_what_may_change_in_each_job(kind: type[Settings], free: dict[str, Any], fixed: dict[str, Any]) -> None:
    for name, value in free.items():
        assert may_change(kind, name, value), name
    for name, value in fixed.items():
        assert not may_change(kind, name, value), name


def test_a_run_from_before_a_better_default_keeps_its_own(tmp_path: Path) -> None:
    """The physics reward's constants were numbers, and its exemption of swinging feet was a cliff."""
    folder = tmp_path / "run"
    begun(grpo(folder))
    file = folder / "config.yaml"
    old = yaml.safe_load(file.read_text())
    assert old["rewards"]["physics"].pop("swing_exemption") == "smooth"
    assert old["rewards"]["physics"].pop("spare_still_prompts") is True
    old["rewards"]["physics"] |= {"jerk_scale": 250.0, "jerk_floor": 0.35, "min_joint_speed": 0.1}
    file.write_text(yaml.safe_dump(old))

    resumed = as_begun(grpo(folder, resume=True).run, grpo(folder, resume=True))
    physics = resumed.rewards.physics
    assert (physics.swing_exemption, physics.jerk_scale, physics.min_joint_speed) == ("cliff", 250.0, 0.1)
    assert not physics.spare_still_prompts
    assert changed_options(old, resumed) == {}
    assert as_begun(resumed.run, resumed) == resumed
    opened(resumed).close()

    # What the user gives is the user's, and is a change.
    asked = grpo(folder, resume=True, swing_exemption="smooth")
    file.write_text(yaml.safe_dump(old))
    assert changed_options(old, as_begun(asked.run, asked)) == {"swing_exemption": "is new (smooth)"}
    new = grpo(tmp_path / "new")
    assert as_begun(new.run, new) is new and new.rewards.physics.swing_exemption == "smooth"


def test_what_is_not_heard_may_change() -> None:
    """A clone brings its shape, and without reinforcement learning its options are not used."""
    cloned = {"load_sft_pretrain": "clone"}
    before = TRPOJobConfig.of(cloned).flat() | {"hidden_size": 64}
    assert changed_options(before, TRPOJobConfig.of(cloned)) == {}
    assert may_change(DeepMimicConfig, "max_kl", 0.5, trpo=False)
    assert not may_change(DeepMimicConfig, "epochs", 9, trpo=False)


def test_the_pipeline_holds_two_learners_and_hands_each_its_options(tmp_path: Path) -> None:
    given = {"save_dir": tmp_path, "cloning.batch_size": 32, "trpo.critic_batch_size": 64, "seed": 3, "resume": True}
    recorded = {
        "keep_checkpoints": 5,
        "log_interval": 7,
        "best_metric": "rollout/reward",
        "allow_changed": ["max_kl", "seed"],
    }
    config = DeepMimicConfig.of(given | recorded | {"train_platform_type": "TensorboardPlatform", "num_envs": 8})
    clone, reinforcement = clone_config(config, tmp_path), trpo_config(config, tmp_path)
    assert (clone.cloning.batch_size, reinforcement.trpo.critic_batch_size) == (32, 64)
    assert (clone.run.save_dir, reinforcement.run.save_dir) == (tmp_path / "clone", tmp_path / "trpo")
    assert (clone.run.best_metric, reinforcement.run.best_metric) == (None, "rollout/reward")
    assert reinforcement.processes.num_envs == 8 and reinforcement.run.save_interval == 50
    for run in (clone.run, reinforcement.run):
        assert (run.seed, run.resume, run.keep_checkpoints, run.log_interval) == (3, True, 5, 7)
        assert run.train_platform_type == "TensorboardPlatform"
    # Each stage is told of those that it has.
    assert (clone.run.allow_changed, reinforcement.run.allow_changed) == (("seed",), ("max_kl", "seed"))


@pytest.mark.parametrize("kind", [PretrainConfig, RetrievalConfig])
def test_the_length_may_not_change_under_a_cosine(kind: type[PretrainConfig | RetrievalConfig]) -> None:
    for schedule, expected in (("constant", {}), ("cosine", {"num_steps": "was 5, is 9"})):
        given = {"save_dir": "run", "lr_schedule": schedule, "num_steps": 5}
        assert changed_options(given, kind.of({**given, "num_steps": 9})) == expected
        assert changed_options(given, kind.of({**given, "keep_checkpoints": 3})) == {}


def test_every_learner_option_of_grpo_changes_results() -> None:
    assert {option.affects for path, option in options_of(GRPOConfig).items() if path.startswith("grpo.")} == {
        "results"
    }


def test_a_job_may_hold_two_learners(tmp_path: Path) -> None:
    """A second group of GRPO's options beside the first: flat names stay GRPO's, and runs of before stay theirs."""

    class Second(GRPOSettings):
        """Another learner."""

        group_size: int = redeclared(GRPOSettings, "group_size", 2)

    class Both(GRPOConfig):
        """GRPO with two learners."""

        second: Second = Second()

        preferred = ("grpo",)

    config = Both.of({"save_dir": str(tmp_path), **CHANGES, "second.learning_rate": 1.0})
    assert (config.grpo.group_size, config.grpo.learning_rate) == (4, 0.003)
    assert (config.second.group_size, config.second.learning_rate) == (2, 1.0)
    words = ["--save_dir", "out", "--lr", "0.5", "--second.lr", "0.7", "--second.group_size", "3"]
    parsed = cli.parse(Both, words, "jobs.both").settings
    assert (parsed.grpo.learning_rate, parsed.second.learning_rate, parsed.second.group_size) == (0.5, 0.7, 3)
    unchanged = Both.of({"save_dir": str(tmp_path), **CHANGES})
    assert changed_options(old_file(tmp_path), unchanged) == {}
    assert changed_options(old_file(tmp_path), config) == {"second.learning_rate": "is new (1.0)"}
