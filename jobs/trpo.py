"""Trains a controller by trust region policy optimisation, on RLlib.

    python -m jobs.trpo --motion walk --load_sft_pretrain runs/clone --num_timesteps 10000000 --save_dir runs/walk
    python -m jobs.trpo --env_id Hopper-v5 --num_timesteps 1000000 --num_env_runners 2
    python -m jobs.trpo --task evaluate --motion walk --save_dir runs/walk --num_eval_episodes 20
    python -m jobs.trpo --task sample --env_id Hopper-v5 --load_model_path runs/hopper --stochastic_policy

`--save_dir` gets `controller.safetensors` (weights, observation statistics and schema of the observations),
`metrics.jsonl`, `training_curves_latest.png` and `checkpoints/`. `--resume` continues bit for bit, including noise and
environments.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from jobs.command_line import main as cli
from jobs.command_line.flags import GuideFlag
from jobs.configs.trpo import TRPOJobConfig

if TYPE_CHECKING:
    from rollouts.control.vector_sampler import Episodes

SAMPLES = "samples.npz"
EVALUATION = "evaluation.json"

TRPO_GUIDE: dict[str, GuideFlag] = {
    "g_step": GuideFlag("an iteration is one rollout and one policy step", ("1", "3")),
    "cpu": GuideFlag("everything runs on the CPU unless --gpus_per_learner asks for a GPU", ("true", "1")),
}


def run(config: TRPOJobConfig) -> None:
    """Runs the task that `task` names."""
    # Read by libraries when they are imported, in this process and in those that it starts.
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    if config.task == "train":
        from jobs.character import trpo_training

        trpo_training.run(config)
    else:
        play(config)


def play(config: TRPOJobConfig) -> None:
    """The tasks `evaluate` and `sample`: runs whole episodes of a controller.

    Raises:
        UserError: there is no controller, or it was made for other observations.
    """
    import torch

    from motions.base.atomic import atomic_write
    from rollouts.control.actor_critic import load_controller
    from rollouts.control.environments import make_control_env, observation_schema
    from rollouts.control.vector_sampler import run_episodes

    torch.set_num_threads(config.threads)
    path = config.load_model_path or config.folder
    env = make_control_env(config.gymnasium_id, config.num_eval_episodes, config.environment_options)
    loaded = load_controller(path, observation_schema(env))
    episodes = run_episodes(loaded.controller, env, config.seed, not config.stochastic_policy, config.max_episode_steps)
    env.close()
    figures = summary(episodes)
    print(f"{loaded.path}, {config.env_id}: {len(episodes.returns)} episodes, seed {config.seed}")
    for name, value in figures.items():
        print(f"{name:20} {value:.4g}")
    folder = config.save_dir or (path if path.is_dir() else path.parent)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"kind": "episodes", "controller": str(loaded.path), "seed": config.seed, **figures}
    with atomic_write(folder / EVALUATION) as file:
        file.write(json.dumps(document, indent=1).encode())
    if config.task == "sample" or config.save_sample:
        with atomic_write(folder / SAMPLES) as file:
            file.write(samples_file(episodes))
        print(f"{len(episodes.rewards)} steps: {folder / SAMPLES}")


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
    import numpy as np

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


def plan(config: TRPOJobConfig) -> None:
    """For `--dry_run`: builds environment and controller, prints the sizes of a batch, and starts nothing.

    Raises:
        UserError: the run cannot start.
    """
    print(cli.settings_yaml(config))
    if config.task != "train":
        print(f"\n{config.task} {config.load_model_path or config.folder} on {config.gymnasium_id}")
        return
    from jobs.character.trpo_training import describe

    print("\n" + describe(config))


def config_from(values: dict[str, Any], **changes: Any) -> TRPOJobConfig:
    """The configuration with the options that it shares with another job's, for pipelines."""
    shared = {name: values[name] for name in TRPOJobConfig.model_fields if name in values}
    return TRPOJobConfig.model_validate(shared | changes)


if __name__ == "__main__":
    sys.exit(cli.main(TRPOJobConfig, run, __doc__, "jobs.trpo", plan=plan, guide=TRPO_GUIDE))
