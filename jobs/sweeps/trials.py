"""One trial of a search as a run of its training: its options, and the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.trainings.training_jobs import CONFIGS, run_of
from motions.settings import Settings, options_of, spellings_of

OF_THE_SEARCH = ("save_dir", "resume", "overwrite", "allow_changed", "runtime", "save_interval", "eval_every")
"""Options of a training that a search sets itself; `save_interval` and `eval_every` where it has `report_every`."""
ALL_CHECKPOINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Trials:
    """Makes trials of a training; picklable, and called in their processes (`cluster.sweeps.trial.RunTrial`)."""

    job: str
    base: Mapping[str, Any]
    """Every option of the training by dotted path, as plain values."""
    threads: int

    def __call__(self, options: Mapping[str, Any], place: Path, changed: Sequence[str]) -> None:
        """Runs or resumes a trial."""
        torch.set_num_threads(self.threads)
        run_of(self.job)(self.settings(options, place, changed))

    def settings(self, options: Mapping[str, Any], place: Path, changed: Sequence[str] = ()) -> Settings:
        """The options of a trial.

        Raises:
            UserError: one of them is not legal.
        """
        config = CONFIGS[self.job]
        own = {"save_dir": place, "resume": True, "allow_changed": tuple(changed)}
        opened = {spellings_of(config)[name]: value for name, value in own.items()}
        return config.of({**self.base, **options, **opened})


def set_by_search(config: type[Settings], report_every: int | None, keep_all: bool) -> dict[str, Any]:
    """Options of a training that a search sets for every trial, by dotted path.

    Args:
        report_every: steps between reports.
        keep_all: whether every checkpoint may be needed again.
    """
    values: dict[str, Any] = {"runtime": "local"}
    if report_every is not None:
        values |= {"save_interval": report_every, "eval_every": report_every}
    if keep_all:
        values["keep_checkpoints"] = ALL_CHECKPOINTS
    spellings, options = spellings_of(config), options_of(config)
    return {path: value for name, value in values.items() if (path := spellings.get(name)) in options and path}
