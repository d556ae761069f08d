"""Scores motions by how natural they look, from any files that kinetune reads, and sorts them from best to worst.

    python -m jobs.critic_score outputs/kick --critic_checkpoint_path runs/critic
    python -m jobs.critic_score clips/ --critic_checkpoint_path motioncritic_pre.pth --save_dir outputs/scores

Read are BVH files, features and joints (.npy) of HumanML3D and KIT, rotations of SMPL's joints as MotionCritic and MDM
on HumanAct12 keep them (.pth, .npy), SMPL parameters as in AMASS (.npz), what `jobs.generate` wrote, samples of a run,
clips of the DeepMimic humanoid (.txt) and datasets; a folder stands for the motions in it. The critic is published
weights of MotionCritic, or one of `jobs.train_critic`. Printed is a table; `scores.csv` and `index.html`, a page that
plays the motions from best to worst, are written to `--save_dir`. Scores of motions that have no rotations of their own
are approximate, and are compared best with others of their kind. Nothing is overwritten.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.critic.settings import CriticScoreConfig

run = cli.later("jobs.critic.scores:run")
plan = cli.later("jobs.critic.scores:plan")

if __name__ == "__main__":
    sys.exit(cli.main(CriticScoreConfig, run, __doc__, "jobs.critic_score", plan=plan))
