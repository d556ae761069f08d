"""What `jobs.runs` does: finds run directories, and says what is known of each. Loads neither torch nor Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cluster.records.checkpoints import MANIFEST, RunDirectoryError, last_commit
from cluster.records.measured import FINAL, last_metrics
from cluster.records.opening import CONFIG, in_use, read_config
from jobs.configs.service.runs import RunsConfig
from jobs.trainings.training_jobs import CONFIGS, job_of
from motions.base.errors import UserError
from motions.settings import flat_values

RunState = Literal["running", "finished", "stopped"]
LAST_FILES = {"grpo": FINAL}
"""What a training writes after its last step; the others write `report.html`."""
NOT_ENTERED = ("checkpoints", "best", "samples", "tune", "ray_train")
"""Folders of a run or of a search in which no runs are."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What is known of a run from its directory."""

    folder: str
    job: str
    state: RunState
    step: int
    """The last committed one."""
    num_steps: int | None
    """Of the whole run, as its options count it; None where its length is given in other units."""
    metrics: dict[str, float]
    """The last value of every metric."""
    best_metric: str | None


def run(config: RunsConfig) -> None:
    """Prints the runs, one a line.

    Raises:
        UserError: the folder does not exist, or there is no run in it.
    """
    summaries = [summary(folder) for folder in found_runs(config.folder)]
    if not summaries:
        raise UserError(f"folder {config.folder}: there is no run in it (no {CONFIG} of a training)")
    if config.json_lines:
        for one in summaries:
            print(json.dumps(asdict(one)))
        return
    rows = [("RUN", "TRAINING", "STATE", "STEP", "METRICS")]
    for one in summaries:
        step = str(one.step) if one.num_steps is None else f"{one.step}/{one.num_steps}"
        shown = "  ".join(f"{name} {value:.4g}" for name, value in chosen(one, config).items())
        rows.append((os.path.relpath(one.folder, config.folder), one.job, one.state, step, shown))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]).rstrip())


def found_runs(folder: Path) -> Iterator[Path]:
    """The run directories in a folder, and the folder itself if it is one, by name; not those inside a run.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist, or is no folder")
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if name not in NOT_ENTERED and not name.startswith("."))
        if CONFIG in files and is_run(Path(place)):
            inner.clear()
            yield Path(place)


def is_run(folder: Path) -> bool:
    """Whether a folder with a `config.yaml` is one of a training; other programs use this name too."""
    try:
        job_of(folder)
    except UserError:
        return False
    return True


def summary(folder: Path) -> RunSummary:
    """What the directory of a run says."""
    job = job_of(folder)
    options = flat_values(CONFIGS[job], read_config(folder))
    return RunSummary(
        folder=str(folder),
        job=job,
        state=state_of(folder, job),
        step=committed_step(folder),
        num_steps=options.get("num_steps"),
        metrics=last_metrics(folder),
        best_metric=options.get("best_metric"),
    )


def state_of(folder: Path, job: str) -> RunState:
    """Whether a run is open, has ended by itself, or neither."""
    if in_use(folder):
        return "running"
    last, manifest = folder / LAST_FILES.get(job, "report.html"), folder / MANIFEST
    if not last.is_file():
        return "stopped"
    # A run that was lengthened has committed further steps since.
    late = manifest.is_file() and manifest.stat().st_mtime > last.stat().st_mtime
    return "stopped" if late else "finished"


def committed_step(folder: Path) -> int:
    """The step from which the run would go on; 0 where its checkpoints are damaged or none was made."""
    try:
        commit = last_commit(folder)
    except RunDirectoryError:
        return 0
    return 0 if commit is None else commit.step


def chosen(one: RunSummary, config: RunsConfig) -> Mapping[str, float]:
    """The metrics that are shown of a run."""
    if config.metrics:
        return {name: one.metrics[name] for name in config.metrics if name in one.metrics}
    best: Sequence[str] = (one.best_metric,) if one.best_metric in one.metrics else ()
    held_out = [name for name in one.metrics if name.startswith(("evaluation/", "val_"))]
    names = dict.fromkeys((*best, *held_out, *one.metrics))
    return {name: one.metrics[name] for name in list(names)[: config.most_metrics]}
