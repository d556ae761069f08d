"""`python -m jobs.world_model`: training, resume, processes, the choice of the best controller, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from cluster.runtime.stopping import Stopped, handled
from jobs import world_model
from jobs.character.world_model_training import WorldModelIterations, local_training, prepare
from jobs.command_line import main as cli
from jobs.configs.world_model import WorldModelJobConfig
from motions.base.errors import UserError
from rollouts.control.actor_critic import load_controller

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from cluster.runtime.connect import Connection

SMALL: dict[str, Any] = {
    **{"num_envs": 6, "rollout_steps": 60, "warmup_iterations": 1, "model_hidden_size": 16, "model_batch_size": 16},
    **{"model_window": 3, "model_warmup_updates": 2, "model_updates": 1, "policy_updates": 1, "imagined_starts": 8},
    **{"imagined_steps": 3, "hidden_size": 16, "num_layers": 1, "eval_episodes": 2, "save_interval": 3},
    **{"num_timesteps": 230, "runtime": "local", "log_interval": 100},
}


def settings(folder: Path, **options: Any) -> WorldModelJobConfig:
    return WorldModelJobConfig.of({**SMALL, "save_dir": folder, **options})


def records(folder: Path, name: str = "metrics") -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_controller(folder).controller.state_dict())


def assert_same(first: Path, second: Path) -> None:
    assert records(first) == records(second) and records(first, "evaluations") == records(second, "evaluations")
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


def test_a_resumed_run_is_the_run_that_went_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world_model.run(settings(tmp_path / "whole"))
    world_model.run(settings(tmp_path / "parts", num_timesteps=170))
    assert len(records(tmp_path / "parts")) == 3, "the first part ends at a checkpoint of the whole"
    world_model.run(settings(tmp_path / "parts", resume=True))
    assert_same(tmp_path / "whole", tmp_path / "parts")
    lines = records(tmp_path / "whole")
    assert lines[-1]["timesteps"] >= 230 > lines[-2]["timesteps"]
    assert {"rollout/length", "model/loss", "imagined/reward", "env/joint_error"} <= lines[-1].keys()
    loaded = load_controller(tmp_path / "whole")
    assert loaded.extra["task"]["push_force"] == 150.0 and "key_positions" not in loaded.schema["observation"]
    assert "model/loss" in (tmp_path / "whole/report.html").read_text()
    assert "controller.safetensors" in capsys.readouterr().out


@pytest.mark.ray
def test_processes_train_alike(ray_cluster: Connection, tmp_path: Path) -> None:
    world_model.run(settings(tmp_path / "local"))
    world_model.run(settings(tmp_path / "driver", runtime="ray"))
    assert_same(tmp_path / "local", tmp_path / "driver")
    world_model.run(settings(tmp_path / "runners", runtime="ray", num_env_runners=2, num_timesteps=60))
    assert records(tmp_path / "runners")[-1]["timesteps"] >= 60


def test_a_run_that_is_stopped_before_its_first_evaluation_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = WorldModelIterations.step

    def stop(training: WorldModelIterations) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return made(training)

    monkeypatch.setattr(WorldModelIterations, "step", stop)
    with pytest.raises(Stopped) as stopped, handled():
        world_model.run(settings(tmp_path))
    assert "saved" in stopped.value.saved
    assert weights(tmp_path)
    monkeypatch.undo()
    world_model.run(settings(tmp_path, resume=True))
    assert records(tmp_path)[-1]["timesteps"] >= 230


def test_the_best_controller_is_kept(tmp_path: Path) -> None:
    config = settings(tmp_path)
    schema, network = prepare(config)
    training = WorldModelIterations(config, local_training(config, network), network, schema)
    training.step()
    figures = training.evaluate()
    assert figures["score"] == (figures["normalised_return"] + figures["pushed_normalised_return"]) / 2
    good = training.algorithm.weights()
    spoiled = {name: value + np.float32(0.5) for name, value in good.items() if name.startswith("policy.")}
    learner_state = training.algorithm.learner_state()
    learner_state["controller"] |= {name: torch.from_numpy(value) for name, value in spoiled.items()}
    training.algorithm.load_learner_state(learner_state)
    assert training.evaluate()["score"] < figures["score"]
    training.export(tmp_path / "kept")
    for name, value in weights(tmp_path / "kept").items():
        np.testing.assert_array_equal(value.numpy(), good[name])


def test_it_starts_from_a_controller(tmp_path: Path) -> None:
    world_model.run(settings(tmp_path / "first", num_timesteps=60))
    start = {"load_sft_pretrain": tmp_path / "first", "hidden_size": 256, "num_layers": 2}
    with pytest.raises(ValueError, match=r"initial_log_std -3\.0: of a new controller"):
        settings(tmp_path / "second", initial_log_std=-3.0, **start)
    world_model.run(settings(tmp_path / "second", num_timesteps=60, **start))
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert torch.equal(first["log_std"], second["log_std"]) and first["policy.0.weight"].shape[0] == 16
    assert torch.equal(first["statistics.mean"], second["statistics.mean"])


def test_what_cannot_be_trained_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_window is 11; legal: at most the 10 steps"):
        settings(tmp_path, model_window=11)
    with pytest.raises(ValueError, match="num_env_runners must be 0"):
        settings(tmp_path, num_env_runners=2)
    for options, words in (
        ({"observation_blocks": ("root", "bodies")}, "observation_blocks has bodies"),
        ({"keep_cycle_height": True, "seam_blend_s": 0.0}, "keep_cycle_height"),
    ):
        for start in (world_model.run, world_model.plan):
            with pytest.raises(UserError, match=words):
                start(settings(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--motion", "walk", "--dry_run")
    assert (
        cli.main(WorldModelJobConfig, world_model.run, None, "jobs.world_model", plan=world_model.plan, argv=words) == 0
    )
    shown = capsys.readouterr().out
    assert "folder runs/world-model-walk-0: new" in shown and "iteration: 30 steps of 64 environments" in shown
