"""One trial of a search, in a process of its own: an ordinary run in `trials/NAME`, which reports at its checkpoints.

A trial may be begun again at any time (its process died, it was paused, the whole search was killed): the run continues
from its last checkpoint, bit for bit. What Ray Tune keeps as the trial's checkpoint is only a pointer to a committed
step of a run directory. In population-based training (Jaderberg et al. 2017) it may point to another trial's: the run
directory is then moved aside, and a copy of the other one, as it was at that step, goes on with changed options.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from cluster.records import commits
from cluster.records.checkpoints import (
    MANIFEST,
    checkpoint_name,
    last_commit,
    link_or_copy,
    read_manifest,
    write_manifest,
)
from cluster.records.measured import last_metrics
from cluster.records.opening import CONFIG, EVALUATIONS, METRICS, in_use, move_aside
from motions.base.atomic import atomic_write
from motions.base.errors import UserError

TRIAL_RUNS, LOGS = "trials", "logs"
STEP, COMPARED, FINISHED, ORIGIN = "step", "compared", "finished", "origin"
"""What a trial reports beside its metrics: its step, the step as which a scheduler compares it (0 at the end, when
there is nothing to decide any more), 1 when it has made all steps, the checkpoint of another trial from which it went
on."""
_POINTER = "pointer.json"
_FREE_TIMEOUT_S, _FREE_TICK_S = 300.0, 0.2

RunTrial = Callable[[Mapping[str, Any], Path, Sequence[str]], None]
"""Runs or resumes a training: chosen options by dotted path, run directory, options that may have changed since."""


@dataclass(frozen=True, slots=True)
class TrialJob:
    """What every trial of a search does."""

    run: RunTrial
    folder: Path
    """Of the search."""
    metric: str
    num_steps: int | None
    """Of every trial, if it is known before."""
    exploits: bool
    """Whether trials go on from checkpoints of others: then no checkpoint is deleted."""

    def __call__(self, options: dict[str, Any]) -> None:
        """Runs a trial; Ray Tune calls it.

        Raises:
            UserError: the first checkpoint comes without the metric that is searched for.
        """
        name = str(tune.get_context().get_trial_name())
        place = self.folder / TRIAL_RUNS / name
        checkpoint = tune.get_checkpoint()
        changed: Sequence[str] = ()
        beside: dict[str, Any] = {}
        if checkpoint is not None:
            with checkpoint.as_directory() as pointed:
                pointer = json.loads((Path(pointed) / _POINTER).read_text(encoding="utf-8"))
            if pointer["trial"] != name:
                take_over(self.folder / TRIAL_RUNS / pointer["trial"], pointer["step"], place)
                beside[ORIGIN] = [pointer["trial"], pointer["step"]]
            changed = tuple(options)
        wait_until_free(place)
        log = self.folder / LOGS / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(log, "a", encoding="utf-8", buffering=1) as text,
            redirect_stdout(text),
            redirect_stderr(text),
            commits.listening(functools.partial(self._report, beside)),
        ):
            self.run(options, place, changed)
        commit = last_commit(place)
        step = commit.step if commit else 0
        tune.report({**last_metrics(place), **beside, STEP: step, COMPARED: 0, FINISHED: 1})

    def _report(self, beside: Mapping[str, Any], place: Path, step: int) -> None:
        metrics = last_metrics(place)
        if self.metric not in metrics:
            if self.metric.startswith("final/"):
                return
            raise UserError(
                f"metric {self.metric} was not measured by step {step}; measured were {', '.join(sorted(metrics))}"
            )
        if self.exploits and step == self.num_steps:
            return  # Its result must stay its own; it is reported in a moment.
        report = {**metrics, **beside, STEP: step, COMPARED: step, FINISHED: 0}
        if not self.exploits:
            tune.report(report)
            return
        with tempfile.TemporaryDirectory() as pointed:
            pointer = {"trial": place.name, "step": step}
            (Path(pointed) / _POINTER).write_text(json.dumps(pointer), encoding="utf-8")
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(pointed))


def take_over(donor: Path, step: int, place: Path) -> None:
    """Makes a run directory that continues another one from one of its checkpoints; what was there is moved aside.

    Args:
        donor: run directory with a checkpoint of `step`.
        place: of the new one.
    """
    if place.exists():
        move_aside(place)
    manifest = read_manifest(donor / "checkpoints" / checkpoint_name(step) / MANIFEST)
    kept = place / "checkpoints" / manifest.checkpoint
    shutil.copytree(donor / "checkpoints" / manifest.checkpoint, kept, copy_function=link_or_copy)
    shutil.copyfile(donor / CONFIG, place / CONFIG)
    for name in (METRICS, EVALUATIONS):
        if (donor / name).is_file():
            lines = (donor / name).read_text(encoding="utf-8").splitlines(keepends=True)
            with atomic_write(place / name) as file:
                file.writelines(line.encode() for line in lines if json.loads(line)["step"] <= step)
    # Last of all: a directory that was only half made is moved aside and made again.
    write_manifest(place / MANIFEST, manifest)


def wait_until_free(place: Path) -> None:
    """Waits until no process has the run directory open: that of a trial that was paused may still be ending. After
    five minutes the run itself says that the directory is in use."""
    deadline = time.monotonic() + _FREE_TIMEOUT_S
    while in_use(place) and time.monotonic() < deadline:
        time.sleep(_FREE_TICK_S)
