"""Trains a controller by a world model, from nothing, without clone or expert.

    python -m jobs.world_model --motion walk --save_dir runs/walk
    python -m jobs.world_model --motion run --torque_scale 2 --num_timesteps 1000000 --num_env_runners 2
    python -m jobs.deepmimic --task evaluate --motion walk --controller runs/walk --check

A model of the dynamics is learned from the character's own rollouts, and the policy by gradients of the imitation
reward through imagined steps. `--save_dir` gets `controller.safetensors` (the best one by evaluations during the
training), `metrics.jsonl`, `evaluations.jsonl`, `training_curves_latest.png`, `report.html` and `checkpoints/`.
`--resume` continues bit for bit, including the recorded rollouts.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.world_model import WorldModelJobConfig

run = cli.later("jobs.character.world_model_training:run", threads=lambda config: config.processes.threads)
plan = cli.later("jobs.character.world_model_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(WorldModelJobConfig, run, __doc__, "jobs.world_model", plan=plan))
