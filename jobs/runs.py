"""Lists the runs in a folder: which training, in which state, how far, and their last metrics.

    python -m jobs.runs
    python -m jobs.runs sweeps/a/trials --metrics evaluation/total evaluation/judge_matching
    python -m jobs.runs runs --json_lines | jq 'select(.state == "stopped").folder'

A run is `running` while a process has it open, on this machine or, where the file system has locks that others see, on
another one; `finished` when it has written its report after its last step; else `stopped`: `python -m jobs.resume` goes
on with it.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.service.runs import RunsConfig

run = cli.later("jobs.service.runs:run")

if __name__ == "__main__":
    sys.exit(cli.main(RunsConfig, run, __doc__, "jobs.runs"))
