"""Continues a run of any training from its directory alone, bit for bit.

    python -m jobs.resume runs/mine
    python -m jobs.resume runs/mine --set num_steps=200 --dry_run

The options are those of the run's own `config.yaml`, which also says which training it is.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.service.runs import ResumeConfig

run = cli.later("jobs.service.resuming:run")
plan = cli.later("jobs.service.resuming:plan")

if __name__ == "__main__":
    sys.exit(cli.main(ResumeConfig, run, __doc__, "jobs.resume", plan=plan))
