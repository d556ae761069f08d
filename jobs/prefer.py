"""Writes a page on which a person says which of two motions looks better; a critic then learns from the answers.

    python -m jobs.prefer outputs/motions --save_dir pairs
    python -m jobs.prefer runs/demo --save_dir pairs --num_pairs 100
    python -m jobs.train_critic --pairs choices.json --save_dir runs/taste

Read are all files that `jobs.view` reads; a folder stands for the motions in it. Two motions of the same prompt, body,
frame rate and length make a pair, in random order and on random sides, and some pairs are asked again. The page needs
no network: it plays both motions at once, takes left, right, equal and skip from the keyboard, keeps the answers in the
browser, and saves them as one file, `choices.json`. Nothing is overwritten.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.critic.settings import PreferConfig

run = cli.later("jobs.critic.preferring:run")
plan = cli.later("jobs.critic.preferring:plan")

if __name__ == "__main__":
    sys.exit(cli.main(PreferConfig, run, __doc__, "jobs.prefer", plan=plan))
