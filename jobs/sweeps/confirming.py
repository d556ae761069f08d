"""Trains the best setting and the start of the search again with other seeds: an honest estimate of what is gained.

The best of many trials is chosen by its value, so that this value is too good to be expected again. The trials here
have other seeds, also of the held-out draws where the training has such a seed, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.sweeps.records import TrialRecord, read_trials
from cluster.sweeps.space import Domain, Space
from jobs.sweeps.summary import paired_difference
from jobs.sweeps.trials import Trials
from motions.settings import spellings_of

CONFIRMATION = "confirmation"
SETTING, NUMBER = "setting", "number"
START, BEST = "start", "best"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The metric of both settings by seed."""

    seeds: tuple[int, ...]
    pairs: tuple[tuple[float, float], ...]
    """Start of the search, best setting."""

    @property
    def difference(self) -> float:
        """Mean of best minus start."""
        return paired_difference(self.pairs)[0]

    @property
    def half_width(self) -> float:
        """Half the width of its 95 % interval."""
        return paired_difference(self.pairs)[1]

    def words(self, metric: str) -> str:
        """The result in one sentence."""
        verdict = (
            "which the seeds do not tell from none" if abs(self.difference) <= self.half_width else "beyond chance"
        )
        return (
            f"With {len(self.pairs)} other seeds, {metric} of the best setting differs from that of the start of the "
            f"search by {self.difference:+.4g} ± {self.half_width:.2g} (95 %), {verdict}."
        )


@dataclass(frozen=True, slots=True)
class ConfirmingTrials:
    """Makes the trials of a confirmation; picklable, as `Trials` is."""

    trials: Trials
    best: Mapping[str, Any]
    """The best setting's options by dotted path."""
    seeds: Mapping[str, int]
    """The options that are seeds, with the values that the search had."""

    def __call__(self, options: Mapping[str, Any], place: Path, changed: Sequence[str]) -> None:
        """Runs or resumes one."""
        chosen = dict(self.best) if options[SETTING] == BEST else {}
        chosen |= {path: value + options[NUMBER] for path, value in self.seeds.items()}
        self.trials(chosen, place, changed)


def confirming_trials(trials: Trials, best: Mapping[str, Any]) -> ConfirmingTrials:
    """What a confirmation runs."""
    config = type(trials.settings({}, Path("trial")))
    paths = [path for name in ("seed", "eval_seed") if (path := spellings_of(config).get(name)) in trials.base and path]
    return ConfirmingTrials(trials, best, {path: int(trials.base[path]) for path in paths})


def confirmation_space(num_seeds: int) -> Space:
    """Both settings with each seed; seeds are counted from that of the search."""
    numbers = tuple(range(1, num_seeds + 1))
    return Space({NUMBER: Domain("choice", numbers), SETTING: Domain("choice", (START, BEST))}, {})


def read_confirmation(folder: Path, metric: str) -> Confirmed | None:
    """The confirmation of a search as far as it has come; None where no seed has both settings yet."""
    values: dict[int, dict[str, float]] = {}
    for trial in read_trials(folder / CONFIRMATION):
        if _counts(trial, metric):
            values.setdefault(trial.options[NUMBER], {})[trial.options[SETTING]] = trial.metrics[metric]
    whole = {number: found for number, found in sorted(values.items()) if len(found) == 2}
    if not whole:
        return None
    return Confirmed(tuple(whole), tuple((found[START], found[BEST]) for found in whole.values()))


def _counts(trial: TrialRecord, metric: str) -> bool:
    return trial.state == "finished" and metric in trial.metrics
