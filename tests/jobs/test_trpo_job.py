"""`python -m jobs.trpo`: training, resume, evaluation, sampling, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from jobs import trpo
from jobs.character.controller_evaluation import RESULTS
from jobs.character.deepmimic_run import trpo_config
from jobs.character.trpo_training import rllib_config
from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_TRPO
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.trpo import ActorCriticSettings, TRPOJobConfig
from rollouts.control.actor_critic import ControllerError, load_controller
from tests.toys.running.cluster_runs import Terminal

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from cluster.runtime.connect import Connection

TOY = "tests.toys.characters.control_toys:Reach-v0"
PLAIN = "tests.toys.characters.control_toys:PlainReach-v0"
SMALL: dict[str, Any] = {
    **{"num_envs": 6, "steps_per_batch": 120, "critic_epochs": 2, "hidden_size": 16, "num_layers": 1},
    **{"gamma": 0.9, "initial_log_std": -0.5, "runtime": "local", "log_interval": 100},
}


def settings(folder: Path, env: str = TOY, **options: Any) -> TRPOJobConfig:
    return TRPOJobConfig.of({**SMALL, "env_id": env, "save_dir": folder, "num_timesteps": 400, **options})


def main(*words: str) -> int:
    return cli.main(
        TRPOJobConfig, trpo.run, trpo.__doc__, "jobs.trpo", plan=trpo.plan, foreign=FOREIGN_TO_TRPO, argv=words
    )


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_controller(folder).controller.state_dict())


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def without_times(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if not name.startswith("seconds/")} for line in lines]


@pytest.mark.ray
def test_ray_and_this_process_train_alike(ray_cluster: Connection, tmp_path: Path) -> None:
    for runtime in ("local", "ray"):
        trpo.run(settings(tmp_path / runtime, runtime=runtime))
    assert_same(weights(tmp_path / "local"), weights(tmp_path / "ray"))
    assert without_times(records(tmp_path / "ray")) == without_times(records(tmp_path / "local"))


@pytest.mark.parametrize("runtime", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_observations_can_be_left_as_they_are(runtime: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if runtime == "ray":
        request.getfixturevalue("ray_cluster")
    trpo.run(settings(tmp_path / "run", runtime=runtime, num_timesteps=120, normalize_observations=False))
    controller = load_controller(tmp_path / "run").controller
    far = torch.tensor([[30.0, -0.2, 7.0]])
    assert float(controller.statistics.count) > 0 and torch.equal(controller.statistics(far), far)


def test_a_run_leaves_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    trpo.run(settings(tmp_path / "run", save_per_iter=2, keep_checkpoints=1))
    lines = records(tmp_path / "run")
    # Steps that only begin an episode do not count, so that an iteration more is needed than by the sizes of batches.
    assert len(lines) == 4 and "4/4 [" in terminal.getvalue() and "4/3" not in terminal.getvalue()
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["timesteps"] >= 400 > lines[-2]["timesteps"]
    assert {"rollout/return", "policy/kl", "critic/explained_variance", "env/distance"} <= lines[-1].keys()
    loaded = load_controller(tmp_path / "run")
    assert loaded.schema == {"env": "Reach-v0", "observation_dim": 3, "action_dim": 1}
    assert loaded.extra["timesteps"] == lines[-1]["timesteps"] and loaded.controller.config.hidden_sizes == (16,)
    assert [folder.name for folder in (tmp_path / "run/checkpoints").iterdir()] == [f"step_{len(lines):09d}"]
    assert (tmp_path / "run/training_curves_latest.png").is_file()
    best = json.loads((tmp_path / "run/manifest.json").read_text())["best"]
    assert best["metric"] == "rollout/return" and load_controller(tmp_path / "run" / best["folder"]).path.is_file()
    assert "TRPO: return of an episode" in (tmp_path / "run/report.html").read_text()
    assert "controller.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize("env", [TOY, PLAIN, "DeepMimic"])
def test_a_resumed_run_is_the_run_that_went_on(tmp_path: Path, env: str) -> None:
    options: dict[str, Any] = {"save_per_iter": 2, "num_timesteps": 650}
    if env == "DeepMimic":
        options |= {"num_envs": 3, "steps_per_batch": 60, "num_timesteps": 330}
    trpo.run(settings(tmp_path / "whole", env, **options))
    half = {**options, "num_timesteps": options["num_timesteps"] // 3}
    trpo.run(settings(tmp_path / "parts", env, **half))
    assert len(records(tmp_path / "parts")) == 2, "the first part ends at a checkpoint of the whole"
    trpo.run(settings(tmp_path / "parts", env, **options, resume=True))
    assert without_times(records(tmp_path / "parts")) == without_times(records(tmp_path / "whole"))
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_a_resumed_run_keeps_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    trpo.run(settings(tmp_path, num_timesteps=100, train_platform_type="WandBPlatform", wandb_mode="offline"))
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1
    with pytest.raises(ValueError, match="max_kl"):
        trpo.run(settings(tmp_path, num_timesteps=200, max_kl=0.5, resume=True))
    trpo.run(settings(tmp_path, num_timesteps=200, max_kl=0.5, resume=True, allow_changed=("max_kl",)))
    with pytest.raises(ValueError, match="resume"):
        trpo.run(settings(tmp_path))


def test_training_starts_from_a_clone(tmp_path: Path) -> None:
    trpo.run(settings(tmp_path / "clone", num_timesteps=100))
    shape = {name: field.default for name, field in ActorCriticSettings.model_fields.items()}
    options: dict[str, Any] = {
        "critic_warmup_batches": 1,
        "clone_kl_weight": 0.1,
        "load_sft_pretrain": tmp_path / "clone",
        **shape,
    }
    trpo.run(settings(tmp_path / "tuned", num_timesteps=100, **options))
    before, after = weights(tmp_path / "clone"), weights(tmp_path / "tuned")
    assert torch.equal(before["policy.0.weight"], after["policy.0.weight"]), "the critic warms up first"
    assert not torch.equal(before["critic.0.weight"], after["critic.0.weight"])
    # A run from before the shape was left to the clone names another one, and goes on.
    config = yaml.safe_load((tmp_path / "tuned/config.yaml").read_text())
    config["network"]["hidden_size"] = 16
    (tmp_path / "tuned/config.yaml").write_text(yaml.safe_dump(config))
    trpo.run(settings(tmp_path / "tuned", num_timesteps=200, resume=True, **options))
    with pytest.raises(ControllerError, match="other observations: env is"):
        trpo.run(settings(tmp_path / "other", PLAIN, **options))


def test_evaluation_and_sampling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trpo.run(settings(tmp_path / "run", num_timesteps=100))
    trpo.run(settings(tmp_path / "run", task="evaluate", num_eval_episodes=3))
    figures = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert figures["kind"] == "episodes"
    assert figures["length_mean"] == 12.0 and figures["survived"] == 1.0
    assert figures["return_mean"] == pytest.approx(12 * figures["reward_per_step"])
    assert not (tmp_path / "run/samples.npz").exists() and "survived" in capsys.readouterr().out
    options = {"load_model_path": tmp_path / "run", "num_eval_episodes": 3, "stochastic_policy": True}
    trpo.run(settings(tmp_path / "samples", task="sample", max_episode_steps=7, **options))
    arrays = np.load(tmp_path / "samples/samples.npz", allow_pickle=False)
    assert arrays["observations"].shape == (21, 3) and arrays["lengths"].tolist() == [7, 7, 7]
    assert np.abs(arrays["actions"]).std() > 0.05
    trpo.run(settings(tmp_path / "kept", task="evaluate", save_sample=True, **options))
    assert (tmp_path / "kept/samples.npz").is_file()
    with pytest.raises(ControllerError, match="there is no such file"):
        trpo.run(settings(tmp_path / "nowhere", task="evaluate"))


def test_commands_of_the_guide_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--env_id", "DeepMimic", "--dry_run", "--save_dir", str(tmp_path / "run"), "--runtime", "local"]
    words = "--task train --seed 0 --g_step 3 --policy_entcoeff 0 --max_kl 0.01 --policy_hidden_size 100 --cpu"
    words += " --num_timesteps 5000000 --save_per_iter 100 --mocap dance_a"
    assert main(*words.split(), *common) == 0
    printed = capsys.readouterr()
    assert "hidden_size: 100" in printed.out and "max_kl: 0.01" in printed.out and "2048" in printed.out
    assert "--g_step 3 changes nothing" in printed.err
    controller = ["--load_model_path", str(RESULTS / "deepmimic_walk")]
    words = "--task evaluate --num_eval_episodes 10 --max_episode_steps 2048 --stochastic_policy"
    assert main(*words.split(), *controller, "--save_sample", *common) == 0
    assert main("--task", "sample", *controller, *common) == 0
    assert not list(tmp_path.iterdir()), "a dry run starts nothing"
    assert main("--g_step", "7", *common) == 2
    assert main("--help") == 0
    assert "Trust region policy optimisation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--env_id Hoper-v5", "did you mean Hopper-v5"),
        ("--env_id Hopper-v5 --motion walk", "motion: options of DeepMimic, but env_id is Hopper-v5"),
        ("--env_id Hopper-v5 --env_options gravity", "each is name=value"),
        ("--env_id Hopper-v5 --env_options frame_skips=2", "does not take these options"),
        ("--env_id Hopper-v5 --cloning_weight 1", "Hopper-v5 has none"),
        ("--motion wlak", "walk"),
        ("--num_envs 6 --num_env_runners 4", "a multiple of num_env_runners"),
        ("--runtime local --num_learners 2", "num_env_runners and num_learners must be 0"),
        ("--max_kl 0", "max_kl"),
        ("--resume --overwrite", "resume and overwrite are both set"),
        ("--load_model_path x", "a training starts from load_sft_pretrain"),
        ("--load_sft_pretrain /nowhere", "there is no such file"),
        ("--load_sft_pretrain x --hidden_size 64", "hidden_size 64: of a new controller, but x brings its own"),
        ("--load_sft_pretrain x --num_layers 3 --activation relu", "num_layers 3, activation relu: of a new"),
        ("--load_sft_pretrain x --initial_log_std -2", "initial_log_std -2.0: of a new controller"),
        ("--load_sft_pretrain x --normalize_observations false", "normalize_observations False: of a new controller"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*words.split(), "--dry_run", "--save_dir", str(tmp_path / "run")) == 2
    assert message in capsys.readouterr().err


def test_the_default_folder_names_the_task() -> None:
    assert TRPOJobConfig.of(motion=("walk", "clips/run.txt"), seed=3).folder == Path("runs/trpo-walk-run-3")
    assert TRPOJobConfig.of(env_id="a.b:Hopper-v5").folder == Path("runs/trpo-a.b-Hopper-v5-0")


def test_the_config_of_a_run_can_be_read_back(tmp_path: Path) -> None:
    """`config.yaml` names every option; those of a new controller's shape, or of characters, may not be used."""
    for given in ({"load_sft_pretrain": tmp_path}, {"env_id": "Hopper-v5"}):
        first = TRPOJobConfig.of(given, save_dir=tmp_path)
        for written in (first.model_dump(mode="json"), first.flat()):
            assert TRPOJobConfig.of(written) == first


def test_the_pipeline_leaves_the_shape_to_its_clone(tmp_path: Path) -> None:
    whole = DeepMimicConfig.of(save_dir=tmp_path, hidden_size=(64, 32, 16), num_layers=3, activation="relu", max_kl=0.3)
    config = trpo_config(whole, tmp_path)
    assert config.run.load_sft_pretrain == tmp_path / "clone" and config.trpo.max_kl == 0.3
    assert config.network == ActorCriticSettings()


def test_the_preset_for_walking_is_the_pipelines_training(tmp_path: Path) -> None:
    preset = cli.load_preset(TRPOJobConfig, "trpo_walk", "jobs.trpo").flat()
    pipeline = trpo_config(DeepMimicConfig.of(save_dir=tmp_path), tmp_path).flat()
    different = {name for name in preset if preset[name] != pipeline[name]}
    assert different == {"clone_kl_weight", "clone_kl_decay", "save_dir", "load_sft_pretrain"}


def test_runners_are_restarted_as_often_as_is_said() -> None:
    assert rllib_config(TRPOJobConfig.of(max_runner_restarts=3)).max_num_env_runner_restarts == 3
