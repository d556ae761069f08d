"""Shows any motion that kinetune reads on one page without network, and writes it as files of other tools.

    python -m jobs.view clip.bvh
    python -m jobs.view outputs/kick outputs/before.npy
    python -m jobs.view runs/demo --formats html,bvh,glb,mp4 --save_dir exported

Read are BVH files, features and joints (.npy) of HumanML3D and KIT, clips of the DeepMimic humanoid (.txt), SMPL
parameters as in AMASS (.npz), rotations of SMPL's joints as MotionCritic keeps them (.pth), what `jobs.generate` wrote,
samples of a run of `jobs.grpo`, imitations of `jobs.deepmimic` and datasets; a folder stands for the motions in it. On
the page motions play, are turned, are stepped through, and any of them are compared side by side. The SMPL parameters
of `--formats npz` are approximate. Nothing is overwritten.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.view import ViewConfig

run = cli.later("jobs.report.viewing:run")
plan = cli.later("jobs.report.viewing:plan")

if __name__ == "__main__":
    sys.exit(cli.main(ViewConfig, run, __doc__, "jobs.view", plan=plan))
