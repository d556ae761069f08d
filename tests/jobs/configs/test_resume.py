"""Which options of the jobs may be others when a run goes on, and that runs of earlier versions may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.records.opening import RunDirectoryError, changed_options, config_sha256
from cluster.records.run_directory import RunDirectory
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.configs.pretrain import PretrainConfig
from jobs.configs.retrieval import RetrievalConfig
from learners.grpo.settings import GRPOSettings
from motions.settings import options_of, redeclared

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
    opened(grpo(tmp_path / "run")).close()
    file = tmp_path / "run/config.yaml"
    file.write_text(yaml.safe_dump(old_file(tmp_path / "run")))
    with pytest.raises(RunDirectoryError, match=r"learning_rate was 0\.003, is 0\.1.*--allow_changed learning_rate"):
        opened(grpo(tmp_path / "run", resume=True, learning_rate=0.1))
    opened(grpo(tmp_path / "run", resume=True, num_steps=9, num_rollout_actors=1, log_interval=3)).close()
    assert yaml.safe_load(file.read_text())["run"]["num_steps"] == 9


@pytest.mark.parametrize("name", ["learning_rate", "lr", "grpo.learning_rate", "grpo.lr"])
def test_a_change_is_allowed_by_any_of_the_options_names(tmp_path: Path, name: str) -> None:
    opened(grpo(tmp_path / "run")).close()
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
