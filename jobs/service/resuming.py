"""What `jobs.resume` does: goes on with a run of any training from its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.records.opening import CONFIG
from jobs.command_line import main as cli
from jobs.command_line.values import read_assignments
from jobs.configs.service.runs import ResumeConfig
from jobs.trainings.training_jobs import CONFIGS, job_of, plan_of, run_of
from motions.settings import Settings, options_of


def run(config: ResumeConfig) -> None:
    """Continues the run.

    Raises:
        UserError: the folder holds no run, an option of `set` is none, or the training refuses to go on.
    """
    job, settings = settings_of(config)
    print(f"going on: {cli.command_of(settings, f'jobs.{job}')}", flush=True)
    run_of(job)(settings)


def plan(config: ResumeConfig) -> None:
    """For `--dry_run`: what the training itself would print."""
    job, settings = settings_of(config)
    plan_of(job)(settings)


def settings_of(config: ResumeConfig) -> tuple[str, Settings]:
    """Name of the training, and its options: the run's own, and those of `set`.

    Raises:
        UserError: the folder holds no run, or an option is none or has no legal value.
    """
    job = job_of(config.run)
    model = CONFIGS[job]
    changed = read_assignments("--set", config.set, model)
    given: Mapping[str, Mapping[str, Any]] = {
        "set": changed,
        "": {
            "save_dir": config.run,
            "resume": True,
            "allow_changed": tuple(options_of(model)[path].flag for path in changed),
        },
    }
    return job, cli.load_settings(model, f"jobs.{job}", given, file=config.run / CONFIG)
