"""Draws runs side by side in one report: curves, evaluations, and the options in which they differ.

    python -m jobs.compare runs/exp1 runs/exp5
    python -m jobs.compare base=outputs/evaluation/base exp5=outputs/evaluation/exp5 --save_dir outputs/compare_exp5

A run is any run directory, or a result of jobs.evaluate. Written are `compare.html`, one page that needs no network,
`compare.md` with the tables alone, and `compare.json` with the numbers.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.service.compare import CompareConfig

run = cli.later("jobs.report.comparing:run")
plan = cli.later("jobs.report.comparing:plan")

if __name__ == "__main__":
    sys.exit(cli.main(CompareConfig, run, __doc__, "jobs.compare", plan=plan))
