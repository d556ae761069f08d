"""What `jobs.resume` does: goes on with a run of any training from its directory alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.records.opening import CONFIG, read_config
from jobs.command_line import main as cli
from jobs.command_line.values import read_assignments
from jobs.configs.service.runs import ResumeConfig
from jobs.trainings.training_jobs import CONFIGS, job_of, plan_of, run_of
from motions.base.errors import UserError
from motions.settings import Settings, flat_values, options_of

_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.\-]*(=\S*)?")
"""`package.module:Class`, a reward's with its weight, and gymnasium's `package.module:Name-v0`. Addresses (`host:6379`)
and devices (`cuda:0`) have a digit behind the colon."""


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
        UserError: the folder holds no run, its `config.yaml` names a class to import that `set` does not name, or an
            option is none or has no legal value.
    """
    job = job_of(config.run)
    model = CONFIGS[job]
    changed = read_assignments("--set", config.set, model)
    _require_own_classes(config, model, {options_of(model)[path].flag for path in changed})
    given: Mapping[str, Mapping[str, Any]] = {
        "set": changed,
        "": {
            "save_dir": config.run,
            "resume": True,
            "allow_changed": tuple(options_of(model)[path].flag for path in changed),
        },
    }
    return job, cli.load_settings(model, f"jobs.{job}", given, file=config.run / CONFIG)


def _require_own_classes(config: ResumeConfig, model: type[Settings], own: set[str]) -> None:
    """Refuses a run whose options name a class: the directory may be somebody else's, and importing runs code.

    Args:
        own: flags of the options that the user gave.
    """
    for flag, value in flat_values(model, read_config(config.run)).items():
        named = [] if flag in own else [word for word in _words(value) if _CLASS.fullmatch(word)]
        if named:
            given = value if isinstance(value, str) else f"[{', '.join(named)}]"
            raise UserError(
                f"{config.run / CONFIG}: {flag} is {named[0]!r}, a class to import. Importing runs code, which a file "
                f"may not ask for; if you trust it, give --set '{flag}={given}'"
            )


def _words(value: object) -> Iterator[str]:
    """The texts in a value of a YAML file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)
