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

import os
import sys

from jobs.command_line import main as cli
from jobs.command_line.flags import ForeignFlag
from jobs.configs.trpo import TRPOJobConfig

FOREIGN_TO_TRPO: dict[str, ForeignFlag] = {
    "g_step": ForeignFlag("an iteration is one rollout and one policy step", ("1", "3")),
    "cpu": ForeignFlag("everything runs on the CPU unless --gpus_per_learner asks for a GPU", ("true", "1")),
}


def run(config: TRPOJobConfig) -> None:
    """Runs the task that `task` names."""
    # Read by libraries when they are imported, in this process and in those that it starts.
    os.environ["OMP_NUM_THREADS"] = str(config.processes.threads)
    if config.run.task == "train":
        from jobs.character import trpo_training

        trpo_training.run(config)
    else:
        from jobs.character import controller_episodes

        controller_episodes.play(config)


def plan(config: TRPOJobConfig) -> None:
    """For `--dry_run`: builds environment and controller, prints the sizes of a batch, and starts nothing.

    Raises:
        UserError: the run cannot start.
    """
    print(cli.settings_yaml(config))
    if config.run.task != "train":
        from jobs.character import controller_episodes

        loaded = controller_episodes.prepare(config, num_envs=1)[1]
        print(f"\n{config.run.task} {loaded.path} on {config.environment.gymnasium_id}")
        return
    from jobs.character import trpo_training

    print("\n" + trpo_training.describe(config))


if __name__ == "__main__":
    sys.exit(cli.main(TRPOJobConfig, run, __doc__, "jobs.trpo", plan=plan, foreign=FOREIGN_TO_TRPO))
