"""How long a supervised training takes: the number of its steps by data and machine, and the time before it starts."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

from cluster.records.opening import CONFIG, read_config
from jobs.configs.pretrain import PretrainConfig
from learners.supervised.diffusion import SupervisedLearner
from motions.settings import flat_values

LEAST_STEPS = 200
"""A training by passes makes at least so many steps: over few clips a pass is nothing."""
_WORTH_TIMING = 100
"""Shorter trainings are over before an estimate is made."""
_TIMED_STEPS, _TIMED_S = 3, 2.0
"""Updates that are timed at most, and the seconds after which no further one is."""


def recorded_steps(config: PretrainConfig) -> int | None:
    """The number of steps of the run that is to be resumed: it was chosen when it began."""
    folder = config.run.save_dir
    if not config.run.resume or config.run.passes is None or not (folder / CONFIG).is_file():
        return None
    return int(flat_values(PretrainConfig, read_config(folder))["num_steps"])


def steps_by_data(config: PretrainConfig, num_clips: int) -> int:
    """Steps of so many passes over the clips; those of the options where none are asked for or `num_steps` is given."""
    if config.run.passes is None or "num_steps" in config.run.model_fields_set:
        return config.run.num_steps
    return max(math.ceil(config.run.passes * num_clips / config.supervised.batch_size), LEAST_STEPS)


def fitting_steps(config: PretrainConfig, num_steps: int, seconds: float) -> int:
    """As many of the steps as `max_hours` has room for, at so many seconds each; at least one."""
    hours = config.run.max_hours
    if hours is None or "num_steps" in config.run.model_fields_set:
        return num_steps
    return max(min(num_steps, int(hours * 3600.0 / seconds)), 1)


def seconds_a_step(learner: SupervisedLearner, update: Callable[[SupervisedLearner, int], object]) -> float:
    """Median time of an update of this machine, measured with a copy: the learner and its training do not change.

    One update is enough where it takes long.

    Args:
        update: makes the update of a step, counted from 0, with the learner it is given.
    """
    trial = copy.deepcopy(learner)
    times: list[float] = []
    while len(times) < _TIMED_STEPS and sum(times) < _TIMED_S:
        # The first time texts are encoded, which the training does once.
        update(trial, len(times))
        start = time.perf_counter()
        update(trial, len(times))
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def is_worth_timing(num_steps: int) -> bool:
    """Whether a training is so long that its time is estimated first."""
    return num_steps > _WORTH_TIMING


def describe_time(num_steps: int, asked: int, seconds: float) -> str:
    """The estimate in words."""
    less = f", fewer than the {asked} asked for, because of max_hours" if num_steps < asked else ""
    return f"{num_steps} steps{less}: about {_duration(num_steps * seconds)} on this machine, {seconds:.3g} s a step"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
