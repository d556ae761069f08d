"""The loop of a training: it makes steps, records metrics, evaluates, and writes curves, checkpoints and exports.

    class Training:                      # interface of what the loop runs
        step() -> metrics                makes one step
        state(), load(state)             everything that a resumed training needs to give the same bits
        export(folder)                   writes the files that users need: weights, a controller
        finished_steps, num_steps, done  progress

    with open_run(settings, config, fingerprint, num_steps, shown=CURVES) as run:
        train(run, training, settings.save_interval, curves=CURVES)

`BatchTraining` makes a `Training` of a learner that takes one batch a step. After each step the loop writes a line of
metrics. Where a checkpoint is due, the evaluation, the curves, the checkpoint with the exported files, and a copy of
those files on top of the run directory follow in this order, so that a commit covers every line up to its step. Runs
with rollouts and rewards have a controller instead of this loop (cluster/run/controller.py); it opens and records its
run in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cluster.records.run import Run
from cluster.runtime import stopping
from cluster.runtime.actor_host import deterministic_kernels


class Training(Protocol):
    """Interface of a training that `train` can run."""

    @property
    def finished_steps(self) -> int:
        """Number of steps made so far. Metrics and checkpoints are numbered by it."""
        ...

    @property
    def num_steps(self) -> int:
        """Number of steps of the whole training: an estimate where its length is that of something else, and right at
        the end."""
        ...

    @property
    def done(self) -> bool:
        """Whether the training is complete."""
        ...

    @property
    def saves_anywhere(self) -> bool:
        """Whether `state()` may be asked for after any step, and not only every `save_interval` steps, without changing
        the steps that follow."""
        ...

    def step(self) -> Mapping[str, float]:
        """Makes one step. Returns metrics by name."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Returns everything that a resumed training needs: tensors and plain values, in dictionaries and lists."""
        ...

    def load(self, state: Mapping[str, Any], /) -> None:
        """Restores a result of `state()`, so that the next steps give the same bits."""
        ...

    def export(self, folder: Path, /) -> object:
        """Writes the files that users need into the folder."""
        ...


def to_tensors(value: Any) -> Any:
    """A state with tensors in place of its arrays, however they are nested: what `torch.load(weights_only=True)`
    reads."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: to_tensors(inner) for key, inner in value.items()}
    return [to_tensors(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def to_arrays(value: Any) -> Any:
    """A state with arrays in place of its tensors."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, Mapping):
        return {key: to_arrays(inner) for key, inner in value.items()}
    return [to_arrays(inner) for inner in value] if isinstance(value, list) else value


def train(
    run: Run,
    training: Training,
    save_interval: int,
    *,
    curves: Sequence[str],
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    axis: str = "step",
    phase: str = "update",
) -> None:
    """Continues from the last checkpoint until the training is done, with a checkpoint every `save_interval` steps and
    one at the end. Each checkpoint holds the exported files; the newest ones also lie on top of the run directory.

    Args:
        curves: names of the metrics to draw.
        evaluate: measures figures on held-out data; called before each checkpoint.
        axis: name of the metric on the horizontal axis of the curves.
        phase: name of a step at the metrics endpoint.

    Raises:
        RunDirectoryError: a file of the last checkpoint is missing or damaged.
        CheckpointWriteError: a checkpoint cannot be written; the last one is intact.
        Stopped: the process was asked to end; the training is saved after its last step, if it can be.
    """
    if run.directory.manifest is not None:
        training.load(run.directory.load_state())
        run.directory.publish()
        if training.done:
            run.say_that_nothing_is_left(training.finished_steps)
        else:
            run.telemetry.message(f"continuing after step {training.finished_steps}")

    def save() -> None:
        with run.telemetry.phase("checkpoint"):
            run.draw(curves, axis)
            run.checkpoint(training.finished_steps, training.state(), training.export)
            run.directory.publish()

    try:
        with stopping.orderly():
            while not training.done:
                with run.telemetry.phase(phase):
                    metrics = training.step()
                step = training.finished_steps
                run.record(step, metrics)
                if training.done or step % save_interval == 0:
                    if evaluate is not None:
                        with run.telemetry.phase("evaluation"):
                            figures = evaluate()
                        run.record_evaluation(step, figures)
                    save()
                run.telemetry.finished_step(step, training.num_steps)
                stopping.check()
    except stopping.Stopped as stopped:
        if stopped.can_save and training.saves_anywhere and training.finished_steps > run.directory.step:
            save()
        raise
    run.telemetry.finished_last_step()
    run.say_if_there_is_no_best()


class BatchLearner(Protocol):
    """A learner that takes one batch a step."""

    num_steps: int

    def update(self, batch: Any, /) -> Mapping[str, float]:
        """Makes one optimizer step. Returns metrics by name."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Returns everything that a resumed training needs, as `Training.state` does."""
        ...

    def load(self, state: Any, /) -> None:
        """Restores a result of `state()`, as `Training.load` does."""
        ...


class BatchTraining:
    """A learner and its batches as a `Training`.

    Args:
        learner: its `num_steps` counts the updates made.
        num_steps: number of updates of the whole training.
        make_batch: returns the batch of a step, which counts from 0. It depends on nothing but the step, so that a
            resumed training sees the same batches.
        export: writes the files of the model into a folder.
    """

    def __init__(
        self,
        learner: BatchLearner,
        num_steps: int,
        make_batch: Callable[[int], Any],
        export: Callable[[Path], object],
    ) -> None:
        self.export = export
        self.state = learner.state
        self.load = learner.load
        self.num_steps = num_steps
        self._learner = learner
        self._make_batch = make_batch

    saves_anywhere = True

    @property
    def finished_steps(self) -> int:
        """Number of updates made so far."""
        return self._learner.num_steps

    @property
    def done(self) -> bool:
        """Whether all updates were made."""
        return self._learner.num_steps >= self.num_steps

    def step(self) -> Mapping[str, float]:
        """Makes one update with PyTorch's deterministic kernels. Returns its metrics."""
        batch = self._make_batch(self._learner.num_steps)
        with deterministic_kernels(True):
            return self._learner.update(batch)
