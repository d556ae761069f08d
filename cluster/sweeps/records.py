"""What a search knows of its trials: `trials.json`, which is rewritten whenever a trial reports or ends.

    {"trials": [{"name", "options", "state", "step", "metrics", "history", "seconds", "error", "origins"}]}

The report is made from this file, so that it can be written at any time, also of a search that was killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from motions.base.atomic import atomic_write

TRIALS = "trials.json"
State = Literal["running", "finished", "stopped", "failed"]


@dataclass(slots=True)
class TrialRecord:
    """One trial, as far as it has come."""

    name: str
    """Of its run directory in `trials/`."""
    options: dict[str, Any]
    """Those that the search chose, by dotted path; after an exploitation the ones that it goes on with."""
    state: State = "running"
    """`finished`: it made all its steps. `stopped`: the search ended it early."""
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of every metric."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """Step and value of the searched metric at every report."""
    seconds: float = 0.0
    error: str = ""
    origins: list[tuple[str, int]] = field(default_factory=list)
    """Other trials, and their steps, from whose checkpoints it went on in population-based training."""


class TrialRecords:
    """The trials of a search, in the order in which they began.

    Args:
        folder: of the search.
        metric: which is searched for.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self.trials = read_trials(folder)
        self._by_name = {trial.name: trial for trial in self.trials}
        self._path = folder / TRIALS
        self._metric = metric

    def of(self, name: str, options: Mapping[str, Any]) -> TrialRecord:
        """The record of a trial, which is new where it is not known yet."""
        if name not in self._by_name:
            self._by_name[name] = TrialRecord(name, dict(options))
            self.trials.append(self._by_name[name])
        return self._by_name[name]

    def report(
        self,
        name: str,
        options: Mapping[str, Any],
        step: int,
        metrics: Mapping[str, float],
        seconds: float,
        origin: tuple[str, int] | None = None,
    ) -> None:
        """Takes over what a trial measured at a step. A trial that went back, to its own last checkpoint or to that of
        another trial, loses what it measured beyond it.

        Args:
            origin: the other trial, and its step, from whose checkpoint it went on; what that one had measured by
                then is its own past now.
        """
        trial = self.of(name, options)
        trial.options, trial.state, trial.step, trial.seconds = dict(options), "running", step, seconds
        trial.metrics = dict(metrics)
        if origin is not None and origin not in trial.origins:
            trial.origins.append(origin)
            trial.history = [point for point in self.of(origin[0], {}).history if point[0] <= origin[1]]
        trial.history = [point for point in trial.history if point[0] < step]
        if self._metric in metrics:
            trial.history.append((step, metrics[self._metric]))
        self.save()

    def ended(self, name: str, options: Mapping[str, Any], state: State, error: str = "") -> TrialRecord:
        """Notes how a trial ended."""
        trial = self.of(name, options)
        trial.state, trial.error = state, error
        self.save()
        return trial

    def save(self) -> None:
        """Writes `trials.json` anew."""
        with atomic_write(self._path) as file:
            file.write(json.dumps({"trials": [asdict(trial) for trial in self.trials]}, indent=1).encode())


def read_trials(folder: Path) -> list[TrialRecord]:
    """The trials of a search; none where it has not begun."""
    path = folder / TRIALS
    if not path.is_file():
        return []
    trials = [TrialRecord(**trial) for trial in json.loads(path.read_text(encoding="utf-8"))["trials"]]
    for trial in trials:
        trial.history = [(int(step), float(value)) for step, value in trial.history]
        trial.origins = [(str(donor), int(step)) for donor, step in trial.origins]
    return trials


def measured(trial: TrialRecord, metrics: Sequence[str]) -> list[float] | None:
    """Last values of some metrics; None where the trial lacks one."""
    values = [trial.metrics.get(metric) for metric in metrics]
    return None if None in values else [float(value) for value in values if value is not None]
