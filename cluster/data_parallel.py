"""Supervised training on Ray Train: the same function on several workers, with restarts from the last checkpoint.

The training function gets a `TrainContext`: its `workers` (collective operations over `torch.distributed`, which Ray
Train initialises), and `report`, which sends metrics to the driver, where a `Listener` records them, and makes a
checkpoint of a folder if one is given. When a worker dies, its whole group ends; Ray Train starts the group again, and
the function finds its last checkpoint in `context.resume_from`.

Without Ray (`runtime: local`) the function is called directly, with one worker and the same kind of context.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.runtime.actor_host import environment, thread_count
from learners.workers import OneWorker, ProcessGroup, TrainContext, TrainFunction, Workers
from motions.base.errors import RemoteError

if TYPE_CHECKING:
    from ray.util.queue import Queue

logger = logging.getLogger(__name__)


POLL_INTERVAL = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
"""Environment variable for the interval (s) at which Ray Train polls workers; its default, 2, slows short runs."""


Listener = Callable[[Mapping[str, float], Path | None], None]
"""Is told of every report of the first worker: metrics, and the folder of a checkpoint where one was made."""


def _silent(metrics: Mapping[str, float], checkpoint: Path | None) -> None:
    """Nobody listens."""


class TrainingFailed(RemoteError):  # noqa: N818 - names what happened
    """The training function raised an error, or its workers died more often than `max_failures`."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Path of the last checkpoint, and the last metrics."""

    checkpoint: Path | None
    metrics: dict[str, float]


def train_here(function: TrainFunction, config: Any, folder: Path, listen: Listener = _silent) -> TrainingResult:
    """Calls the function in this process, without Ray; each checkpoint replaces the last in `folder` and is resumed."""
    latest: dict[str, float] = {}
    kept, fresh = folder / "checkpoint", folder / "checkpoint.new"

    def report(metrics: Mapping[str, float], source: Path | None) -> None:
        latest.update(metrics)
        if source is not None:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(source, fresh)
            shutil.rmtree(kept, ignore_errors=True)
            fresh.rename(kept)
        listen(metrics, None if source is None else kept)

    function(TrainContext(OneWorker(), report, kept if kept.is_dir() else None), config)
    return TrainingResult(kept if kept.is_dir() else None, latest)


def train_on_ray(
    function: TrainFunction,
    config: Any,
    folder: Path,
    listen: Listener = _silent,
    *,
    name: str,
    num_workers: int,
    cpus_per_worker: float,
    gpus_per_worker: float = 0.0,
    threads: int = 1,
    max_failures: int = 0,
) -> TrainingResult:
    """Runs the function on the connected cluster with Ray Train and waits for its end.

    Args:
        folder: storage of Ray Train's run `name`; with several nodes it must be visible to all of them.
        listen: called in a thread of this process. A checkpoint's folder lasts until the next one is made.
        max_failures: number of restarts of the whole group from its last checkpoint.

    Raises:
        TrainingFailed: with the message of the error in the training function.
    """
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
        TrainingFailedError,
    )
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue

    os.environ.setdefault(*POLL_INTERVAL)
    reports = Queue(actor_options={"num_cpus": 0})
    resources = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    trainer = TorchTrainer(
        functools.partial(_loop, function, threads),
        train_loop_config={"config": config, "reports": reports},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(max_failures=max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment(threads)},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        with _listening(reports, listen):
            result = trainer.fit()
    except TrainingFailedError as error:
        cause = _raised_by_a_worker(error)
        raise TrainingFailed(_last_cause(error), cause) from error
    checkpoint = Path(result.checkpoint.path) if result.checkpoint else None
    return TrainingResult(checkpoint, dict(result.metrics or {}))


@contextmanager
def _listening(reports: Queue, listen: Listener) -> Iterator[None]:
    """Hands reports to the listener while the block lasts; the queue is gone afterwards.

    Raises:
        Exception: any exception of the listener, at the end of the block.
    """

    def forward() -> None:
        while (report := reports.get()) is not None:
            listen(*report)

    try:
        with ThreadPoolExecutor(1) as pool:
            listening = pool.submit(forward)
            try:
                yield
            finally:
                reports.put(None)
        listening.result()
    finally:
        reports.shutdown()


def _loop(function: TrainFunction, threads: int, loop_config: dict[str, Any]) -> None:
    """The loop that Ray Train runs in every worker."""
    import ray.train
    from ray.train import CheckpointConsistencyMode

    # Otherwise every report of every worker prints a line: the logger that writes it is named after its file, so Ray
    # Train's own log level does not apply to it.
    logging.getLogger().setLevel(logging.WARNING)
    context = ray.train.get_context()
    workers: Workers = ProcessGroup() if context.get_world_size() > 1 else OneWorker()

    def report(metrics: Mapping[str, float], source: Path | None) -> None:
        has_checkpoint = source is not None and workers.rank == 0
        checkpoint = ray.train.Checkpoint.from_directory(str(source)) if has_checkpoint else None
        ray.train.report(dict(metrics), checkpoint=checkpoint)
        folder = None
        if source is not None:
            # Reports are processed later, when the source folder may have changed; the checkpoint is therefore a copy.
            committed = ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
            folder = Path(committed[-1].checkpoint.path)
        if workers.rank == 0:
            loop_config["reports"].put((dict(metrics), folder))

    before = ray.train.get_checkpoint()
    with thread_count(threads):
        if before is None:
            function(TrainContext(workers, report, None), loop_config["config"])
        else:
            with before.as_directory() as path:
                function(TrainContext(workers, report, Path(path)), loop_config["config"])


def _raised_by_a_worker(error: BaseException) -> BaseException | None:
    """What the training function raised; None where a worker died or Ray Train itself failed."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    # A death is told by errors of Ray's own.
    return next((one for one in failures.values() if not type(one).__module__.startswith("ray.")), None)


def _last_cause(error: BaseException) -> str:
    """The innermost error message, without the stack traces of Ray's processes."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
