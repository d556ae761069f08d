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

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_TRPO
from jobs.configs.trpo import TRPOJobConfig

run = cli.later("jobs.character.trpo_training:run", threads=lambda config: config.processes.threads)
plan = cli.later("jobs.character.trpo_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(TRPOJobConfig, run, __doc__, "jobs.trpo", plan=plan, foreign=FOREIGN_TO_TRPO))
