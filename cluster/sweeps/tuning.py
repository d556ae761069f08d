"""Runs a search on the connected cluster, or continues one that was killed.

    DIR/sweep.yaml       the search's own options, the space, the options that all trials have
    DIR/trials/NAME/     an ordinary run directory for each trial
    DIR/trials.json      what each trial chose, measured and became
    DIR/logs/NAME.log    what each trial printed
    DIR/tune/            the state of Ray Tune

Each trial is one process that reserves `cpus` and `gpus` for all that it does. Nothing inside it asks the cluster for
more, so trials cannot wait for each other's reservations; that one trial fits is checked before any starts.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import AUTO_RESULT_KEYS, DONE, SHOULD_CHECKPOINT
from ray.tune.search.basic_variant import BasicVariantGenerator

from cluster.runtime.protocol import StartError
from cluster.sweeps.records import State, TrialRecord, TrialRecords, read_trials
from cluster.sweeps.search import SearchPlan, check_plan, first_options, scheduler, searcher
from cluster.sweeps.space import Space
from cluster.sweeps.trial import COMPARED, FINISHED, ORIGIN, STEP, TRIAL_RUNS, RunTrial, TrialJob
from motions.base.errors import UserError

TUNE = "tune"
LOCK = ".lock"
NOT_MEASURED = frozenset((*AUTO_RESULT_KEYS, DONE, SHOULD_CHECKPOINT, STEP, COMPARED, FINISHED, ORIGIN))
"""Of a report, what is no metric of the training."""
AfterTrial = Callable[[Path, TrialRecord], None]
"""Called with the folder of the search and the trial."""
ENVIRONMENT = {
    # A front may hold metrics that only the finished trial reports.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Seconds between snapshots of the search's state: what a kill loses.
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    # It would warn of so many.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, slots=True)
class TrialResources:
    """What one trial reserves."""

    cpus: float
    gpus: float


def check_room(resources: TrialResources, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials the nodes of a cluster can run at once.

    Args:
        nodes: resources of each node in Ray's names.

    Raises:
        StartError: not even one, on any node.
    """
    needs = {"CPU": resources.cpus, "GPU": resources.gpus}
    needed = {name: amount for name, amount in needs.items() if amount > 0}
    room = sum(
        min((int(node.get(name, 0.0) / amount + 1e-6) for name, amount in needed.items()), default=1) for node in nodes
    )
    if not room:
        there = "; ".join(
            ", ".join(f"{node.get(name, 0.0):g} {name}" for name in needed) or "nothing" for node in nodes
        )
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in needed.items())
        raise StartError(f"no trial would ever start: each needs {wanted} on one node, and the nodes have {there}")
    return room


def room_on_cluster(resources: TrialResources) -> int:
    """How many trials the connected cluster can run at once.

    Raises:
        StartError: not even one.
    """
    return check_room(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]])


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a second search out of a folder.

    Raises:
        UserError: another search that is still alive uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"save_dir {folder} is in use by another search that is still alive") from error
        yield


def search(
    folder: Path,
    run: RunTrial,
    space: Space,
    plan: SearchPlan,
    resources: TrialResources,
    *,
    num_steps: int | None = None,
    retries: int = 0,
    after_trial: AfterTrial | None = None,
) -> list[TrialRecord]:
    """Runs all trials, or those that a search which was killed has left; returns when they have ended.

    Args:
        folder: of the search; with several nodes it must be visible to all of them.
        run: makes one trial; it must be picklable.
        num_steps: of every trial, if it is known before.
        retries: how often a trial that failed is continued from its last checkpoint.
        after_trial: called whenever a trial has ended; it must be picklable.

    Raises:
        UserError: the space cannot be searched in this way, or every trial failed.
        StartError: no trial would fit on any node.
    """
    check_plan(plan, space)
    room = room_on_cluster(resources)
    os.environ.update(ENVIRONMENT)
    random.seed(plan.seed)  # what population-based training draws by
    job = TrialJob(run, folder, plan.metric, num_steps, exploits=plan.scheduler == "pbt")
    trainable = tune.with_resources(
        tune.with_parameters(_as_function, job=job), {"CPU": resources.cpus, "GPU": resources.gpus}
    )
    concurrent = min(room, plan.max_concurrent or room)
    storage = folder / TUNE
    param_space = first_options(plan, space)
    # A search that was killed in its first second has left no state to go on from.
    if tune.Tuner.can_restore(str(storage)) and any(storage.glob("experiment_state-*")):
        tuner = tune.Tuner.restore(
            str(storage), trainable, resume_unfinished=True, resume_errored=True, param_space=param_space
        )
    else:
        suggesting = searcher(plan)
        tuner = tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=tune.TuneConfig(
                search_alg=suggesting or BasicVariantGenerator(random_state=plan.seed, max_concurrent=concurrent),
                scheduler=scheduler(plan, space),
                num_samples=1 if plan.search == "grid" else plan.num_trials,
                max_concurrent_trials=concurrent if suggesting else None,
                trial_name_creator=TrialNames(folder),
                trial_dirname_creator=str,
            ),
            run_config=tune.RunConfig(
                name=TUNE,
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[Listener(folder, plan.metric, after_trial)],
                verbose=0,
            ),
        )
    tuner.fit()
    trials = read_trials(folder)
    if trials and all(trial.state == "failed" for trial in trials):
        raise UserError(f"all {len(trials)} trials failed; the first one, {trials[0].name}: {trials[0].error}")
    return trials


def _as_function(options: dict[str, Any], job: TrialJob) -> None:
    """A trial as a function, of which Ray Tune makes a process that can be stopped between two reports."""
    job(options)


class TrialNames:
    """Names of trials, `trial_001` and so on, each given once, also where a search goes on.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Path) -> None:
        self._runs = folder / TRIAL_RUNS

    def __call__(self, trial: Trial) -> str:
        """The next name. Its run directory is made at once, so that a search which is killed and goes on knows it."""
        for number in itertools.count(1):
            with suppress(FileExistsError):
                (self._runs / f"trial_{number:03d}").mkdir(parents=True)
                return f"trial_{number:03d}"
        raise AssertionError


class Listener(tune.Callback):
    """Takes what trials report into the search's records. Ray Tune pickles it before the first report.

    Args:
        folder: of the search.
        metric: that is searched for.
        after_trial: called whenever a trial has ended.
    """

    def __init__(self, folder: Path, metric: str, after_trial: AfterTrial | None) -> None:
        self._folder, self._metric, self._after_trial = folder, metric, after_trial

    @functools.cached_property
    def _records(self) -> TrialRecords:
        return TrialRecords(self._folder, self._metric)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported."""
        metrics = {
            name: float(value)
            for name, value in result.items()
            if name not in NOT_MEASURED and isinstance(value, (int, float)) and math.isfinite(value)
        }
        options, seconds = trial.config, float(result.get("time_total_s", 0.0))
        origin = (str(result[ORIGIN][0]), int(result[ORIGIN][1])) if ORIGIN in result else None
        self._records.report(str(trial), options, int(result[STEP]), metrics, seconds, origin)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has ended: by itself, or the scheduler ended it."""
        finished = (trial.last_result or {}).get(FINISHED) == 1
        self._end(trial, "finished" if finished else "stopped")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has failed for good."""
        text = str(trial.get_error() or "its process died")
        lines = [line for line in text.splitlines() if line.strip()]
        self._end(trial, "failed", lines[-1] if lines else text)

    def _end(self, trial: Trial, state: State, error: str = "") -> None:
        ended = self._records.ended(str(trial), trial.config, state, error)
        if self._after_trial is not None:
            self._after_trial(self._folder, ended)
