"""Trains a MotionSSM: text to motion by state-space layers, a policy of one action that `jobs.grpo` can fine-tune.

    python -m jobs.train_motion_ssm --preset motion_ssm_small --save_dir runs/motion_ssm
    python -m jobs.train_motion_ssm --epochs 250 --batch-size 16 --lr 5e-5 --data-dir data/KIT-ML --device cuda

`--save_dir` gets the weights as safetensors, `config.json`, `Mean.npy` and `Std.npy`, and can be given as
`--model_path` to `jobs.generate` and `jobs.grpo`. `--latent_dim 0` trains a regressor, which gives every text one
motion. `--resume` continues a training that was stopped, bit for bit.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.ssm.settings import MotionSSMConfig

run = cli.later("jobs.ssm.motion_training:run")
plan = cli.later("jobs.ssm.motion_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(MotionSSMConfig, run, __doc__, "jobs.train_motion_ssm", plan=plan))
