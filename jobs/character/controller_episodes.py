"""Whole episodes of a controller: the tasks `evaluate` and `sample` of `jobs.trpo`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from cluster.records.opening import check_place
from jobs.configs.trpo import TRPOJobConfig
from motions.base.atomic import atomic_write
from rollouts.control.actor_critic import LoadedController, load_controller
from rollouts.control.environments import make_control_env, observation_schema
from rollouts.control.vector_sampler import Episodes, run_episodes

SAMPLES = "samples.npz"
EVALUATION = "evaluation.json"


def play(config: TRPOJobConfig) -> None:
    """The tasks `evaluate` and `sample`: runs whole episodes of a controller.

    Raises:
        UserError: there is no controller, or it was made for other observations.
    """
    run, options, env_id = config.run, config.evaluation, config.environment.env_id
    torch.set_num_threads(config.processes.threads)
    env, loaded = prepare(config, options.num_eval_episodes)
    episodes = run_episodes(loaded.controller, env, run.seed, not options.stochastic_policy, options.max_episode_steps)
    env.close()
    figures = summary(episodes)
    print(f"{loaded.path}, {env_id}: {len(episodes.returns)} episodes, seed {run.seed}")
    for name, value in figures.items():
        print(f"{name:20} {value:.4g}")
    folder = folder_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"kind": "episodes", "controller": str(loaded.path), "seed": run.seed, **figures}
    with atomic_write(folder / EVALUATION) as file:
        file.write(json.dumps(document, indent=1).encode())
    if run.task == "sample" or options.save_sample:
        with atomic_write(folder / SAMPLES) as file:
            file.write(samples_file(episodes))
        print(f"{len(episodes.rewards)} steps: {folder / SAMPLES}")


def prepare(config: TRPOJobConfig, num_envs: int) -> tuple[VectorEnv, LoadedController]:
    """The environments, and the controller that acts in them.

    Raises:
        UserError: there is no such environment or controller, the controller was made for other observations, or the
            folder of the results cannot be written.
    """
    env = make_control_env(config.environment.gymnasium_id, num_envs, config.environment_options)
    loaded = load_controller(config.run.load_model_path or config.folder, observation_schema(env))
    check_place(folder_of(config))
    return env, loaded


def folder_of(config: TRPOJobConfig) -> Path:
    """Folder of the results: `save_dir`, or that of the controller."""
    path = config.run.load_model_path or config.folder
    return config.run.save_dir or (path if path.is_dir() else path.parent)


def summary(episodes: Episodes) -> dict[str, float]:
    """Scores of whole episodes; the reward per step is included because a return depends on the length."""
    lengths = episodes.lengths
    return {
        "return_mean": float(episodes.returns.mean()),
        "return_std": float(episodes.returns.std()),
        "length_mean": float(lengths.mean()),
        "length_min": float(lengths.min()),
        "reward_per_step": float(episodes.rewards.mean()),
        "survived": float(1.0 - episodes.terminated.mean()),
    }


def samples_file(episodes: Episodes) -> bytes:
    """Content of `samples.npz`: observations [S, O], actions [S, A], rewards [S]; returns, lengths, terminated [N]."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        observations=episodes.observations,
        actions=episodes.actions,
        rewards=episodes.rewards,
        returns=episodes.returns,
        lengths=episodes.lengths,
        terminated=episodes.terminated,
    )
    return buffer.getvalue()
