"""Searches over the options of a training, on Ray Tune: for a better reward, or for a front of best compromises.

    python -m jobs.sweep --job grpo --preset demo --space grpo --set num_steps=40 --report_every 10 --save_dir sweeps/a
    python -m jobs.sweep --preset demo --space my.yaml --search optuna --scheduler asha --save_dir sweeps/b
    python -m jobs.sweep --preset demo --space my.yaml --against min:final/fid --confirm_seeds 3 --save_dir sweeps/c
    ray job submit --working-dir . -- python -m jobs.sweep --space grpo --preset demo --save_dir /abs/path

`--save_dir` gets a run directory for each trial in `trials/`, `report.html`, `trials.json` and `best.yaml`, a preset of
the best configuration: `python -m jobs.grpo --config sweeps/a/best.yaml --save_dir runs/best`. A trial is one process
that reserves `--cpus_per_trial`; it survives failures, and `--resume` continues a search that was killed.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.trainings.sweep import SweepConfig

run = cli.later("jobs.sweeps.searching:run")
plan = cli.later("jobs.sweeps.searching:plan")

if __name__ == "__main__":
    sys.exit(cli.main(SweepConfig, run, __doc__, "jobs.sweep", plan=plan))
