"""Trains a PhysicsSSM: a network that takes back what is wrong with a motion's physics.

    python -m jobs.train_physics_ssm --preset refiner_small --save_dir runs/refiner
    python -m jobs.train_physics_ssm --epochs 100 --batch-size 16 --lr 5e-5 --lambda-physics 0.1 --device cuda
    python -m jobs.generate --refiner runs/refiner --text "a person walks"

It learns from motions that were sunk or lifted, slid over the floor and shaken, and has to say what they were; with
`--lambda_physics` its result is also told what bodies do not do: sliding feet, feet in the floor, floating, and more
jerk than the data's. What it reads of a motion, with the physics state of 64 numbers a frame, is computed from the
motion that it refines. `--gate`, `--constraints` and `--lambda_physics 0` are for comparisons.

`--save_dir` (also `--checkpoint_dir`) becomes the refiner's folder: `physics_ssm.safetensors`, `config.json` with the
statistics of the physics state, `Mean.npy` and `Std.npy`. Data with a `val.txt` keeps the best checkpoint in `best/`,
too. `--resume` continues a training that was stopped, bit for bit; `--resume_from` starts a new one from other weights.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.state_space.refiner_settings import PhysicsSSMConfig

run = cli.later("jobs.state_space.refiner_training:run")
plan = cli.later("jobs.state_space.refiner_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(PhysicsSSMConfig, run, __doc__, "jobs.train_physics_ssm", plan=plan))
