"""Trains a critic (MotionCritic, Wang et al. 2025), which scores how natural a motion looks.

    python -m jobs.train_critic --preset critic_small --save_dir runs/critic
    python -m jobs.train_critic --pairs_path mlist_mdmfull_train_corrected.pth \\
        --eval_pairs_path mlist_mdmfull_val_corrected.pth --num_steps 290000 --save_dir runs/motioncritic
    python -m jobs.train_critic --pairs choices.json --save_dir runs/taste

It learns from pairs of motions of which one is better: from a list in MotionCritic's format, from a person's choices on
the page of `jobs.prefer`, which change the built-in critic, or from synthetic pairs of clean and flawed motions
(jittered, skating, self-intersecting, floating, frozen) that are made from the data. `--save_dir` gets the weights,
`motioncritic.pth`, which MotionCritic's own programs read, or `critic.safetensors` of a critic that sees more than its
(`--critic_inputs movement`), and `config.json`. At every checkpoint accuracy, log-loss and the accuracy on each flaw
are measured on motions of recordings that are not trained on. Those under `validation` may choose a checkpoint
(`--best_metric`); those under `test` choose nothing. The report also shows how often the critic is right by how sure it
is. `--resume` continues a training that was stopped, bit for bit.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.critic.settings import CriticConfig

run = cli.later("jobs.critic.training:run")
plan = cli.later("jobs.critic.training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(CriticConfig, run, __doc__, "jobs.train_critic", plan=plan))
