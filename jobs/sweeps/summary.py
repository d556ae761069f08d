"""What follows from the trials of a search: the best one, how much each option matters, the front of compromises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cluster.sweeps.records import TrialRecord, measured, read_trials
from cluster.sweeps.space import Domain, read_domain
from jobs.trainings.training_jobs import CONFIGS
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.plain_yaml import plain_yaml
from motions.settings import options_of

SWEEP, BEST = "sweep.yaml", "best.yaml"
FEWEST_TRIALS = 10
"""With fewer the importance of an option is not estimated: a parabola through few points explains noise."""
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 beyond is near enough from 10 on."""


@dataclass(frozen=True, slots=True)
class Importance:
    """How much of the metric an option explains by itself."""

    share: float
    """Adjusted R squared of the metric over the option alone: a parabola over an interval, the means of the values of a
    choice; 0 where it explains nothing."""
    direction: float
    """Rank correlation of metric and option, from -1 to 1; 0 for values without an order."""


def read_sweep(folder: Path) -> tuple[dict[str, Any], list[TrialRecord]]:
    """A search's `sweep.yaml` and its trials so far.

    Raises:
        UserError: the folder holds no search.
    """
    path = folder / SWEEP
    if not path.is_file():
        raise UserError(f"{folder} holds no search: there is no {SWEEP} in it")
    return yaml.safe_load(path.read_text(encoding="utf-8")), read_trials(folder)


def domains_of(document: Mapping[str, Any]) -> dict[str, Domain]:
    """The searched options of a `sweep.yaml`."""
    return {path: read_domain(domain) for path, domain in document["space"].items()}


def best_trial(trials: Sequence[TrialRecord], metric: str, mode: str) -> TrialRecord:
    """The trial with the best last value among those that made all their steps; among all where none did.

    Raises:
        UserError: no trial has measured the metric.
    """
    with_value = [trial for trial in trials if metric in trial.metrics]
    if not with_value:
        raise UserError(f"no trial has measured {metric} yet")
    complete = [trial for trial in with_value if trial.state == "finished"]
    return sorted(complete or with_value, key=lambda trial: _sign(mode) * trial.metrics[metric])[-1]


def best_so_far(trials: Sequence[TrialRecord], metric: str, mode: str) -> list[tuple[int, float]]:
    """Number of the trial, counted from 1, and the best last value up to it."""
    points: list[tuple[int, float]] = []
    for number, trial in enumerate(trials, 1):
        if metric in trial.metrics:
            value = trial.metrics[metric]
            best = value if not points else _sign(mode) * max(_sign(mode) * value, _sign(mode) * points[-1][1])
            points.append((number, best))
    return points


def importance(
    trials: Sequence[TrialRecord], domains: Mapping[str, Domain], metric: str
) -> dict[str, Importance] | None:
    """How much each option explains of the metric, most first; None for fewer than `FEWEST_TRIALS` trials."""
    used = [trial for trial in trials if metric in trial.metrics]
    if len(used) < FEWEST_TRIALS:
        return None
    values = np.array([trial.metrics[metric] for trial in used])
    found = {}
    for path, domain in domains.items():
        chosen = [_as_listed(trial.options[path]) for trial in used]
        found[path] = _importance(chosen, domain, values)
    return dict(sorted(found.items(), key=lambda item: -item[1].share))


def front(trials: Sequence[TrialRecord], objectives: Sequence[tuple[str, str]]) -> list[TrialRecord]:
    """The trials that made all their steps and to which no other such trial is at least equal in every objective and
    better in one. A trial that was ended early has trained less, so its KL to the reference, say, means something else.

    Args:
        objectives: metric and mode.
    """
    names = [metric for metric, _ in objectives]
    signs = np.array([_sign(mode) for _, mode in objectives])
    complete = [trial for trial in trials if trial.state == "finished"]
    points = [(trial, signs * values) for trial in complete if (values := measured(trial, names)) is not None]
    return [
        trial
        for trial, point in points
        if not any(bool((other >= point).all() and (other > point).any()) for _, other in points)
    ]


def best_options(document: Mapping[str, Any], trial: TrialRecord) -> dict[str, Any]:
    """A trial's options by flag, as far as they are no defaults; without those that the search set for itself."""
    config = CONFIGS[document["job"]]
    settings = config.of({**document["base"], **trial.options})
    plain, kept = settings.by_path(), {}
    for path, option in options_of(type(settings)).items():
        if path in document["set_by_search"]:
            continue
        if option.field.is_required() or option.of(settings) != option.field.get_default(call_default_factory=True):
            kept[option.flag] = plain[path]
    return kept


def write_best(folder: Path) -> Path:
    """Writes `best.yaml`, the best configuration as a preset that the training's `--config` reads.

    Raises:
        UserError: the folder holds no search, or no trial has measured the metric.
    """
    document, trials = read_sweep(folder)
    metric, mode = document["metric"], document["mode"]
    best = best_trial(trials, metric, mode)
    lines = [
        f"# The best of {len(trials)} trials of a search ({mode} {metric}): {best.name}, {best.metrics[metric]:.6g}.",
        f"# It was chosen by this value, which is therefore too good to be expected again: see {folder}/report.html.",
    ]
    if best.origins:
        lines.append("# Its options changed while it trained, as its config_until_*.yaml say; these are the last ones.")
    content = plain_yaml({"job": f"jobs.{document['job']}", **best_options(document, best)})
    with atomic_write(folder / BEST) as file:
        file.write("\n".join([*lines, content]).encode())
    return folder / BEST


def paired_difference(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of second minus first, and half the width of its 95 % interval (Student's t; infinite for one pair)."""
    differences = np.array([second - first for first, second in pairs])
    if len(pairs) < 2:
        return float(differences.mean()), math.inf
    quantile = T_95[len(pairs) - 2] if len(pairs) - 2 < len(T_95) else 1.96
    return float(differences.mean()), float(quantile * differences.std(ddof=1) / len(pairs) ** 0.5)


def _importance(chosen: list[Any], domain: Domain, values: np.ndarray) -> Importance:
    places = np.array([domain.place(value) for value in chosen])
    if domain.kind == "choice":
        columns = [np.array([value == one for value in chosen], float) for one in dict.fromkeys(chosen)]
    else:
        columns = [np.ones_like(places), places, places**2]
    design = np.stack(columns, axis=1)
    spread = float(((values - values.mean()) ** 2).sum())
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    freedom = len(values) - np.linalg.matrix_rank(design)
    if spread == 0 or freedom <= 0:
        return Importance(0.0, 0.0)
    share = 1 - (float(((values - fitted) ** 2).sum()) / freedom) / (spread / (len(values) - 1))
    ordered = domain.kind != "choice" or all(isinstance(value, (int, float)) for value in domain.values)
    return Importance(max(0.0, share), _rank_correlation(places, values) if ordered else 0.0)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    if any(values.std() == 0 for values in (first, second)):
        return 0.0
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (first, second)])
    return np.asarray(np.corrcoef(ranks))[0, 1].item()


def _as_listed(value: Any) -> Any:
    """A value as a domain of a file has it: JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _sign(mode: str) -> float:
    return 1.0 if mode == "max" else -1.0
