"""The demonstration of `make demo`: a small policy is trained to follow composite prompts, and a report shows it.

    python -m jobs.demo
    python -m jobs.demo --fresh

1. Uses the small weights that come with kinetune (policy, reward, judge); missing ones are trained first.
2. Writes a first page with the policy's motions, and says where: something moves on it within half a minute.
3. Starts its own Ray cluster and runs `jobs.grpo` with preset `demo` into `--save_dir`.
4. Evaluates before and after on held-out captions with fixed seeds, also by a TMR that is never used as a reward.
5. Prints in three lines what improved, by how much, and where to look.

Finished work is not repeated: a finished run with the same options is only reported, a stopped one continues.
`--fresh`, or options that have changed, start a new folder beside it.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.demo import DemoConfig

run = cli.later("jobs.text.demonstration:run")
plan = cli.later("jobs.text.demonstration:plan")

if __name__ == "__main__":
    sys.exit(cli.main(DemoConfig, run, __doc__, "jobs.demo", plan=plan))
