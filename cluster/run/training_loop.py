"""The loop of every training whose steps follow one another: steps, records, checkpoints, curves, export.

    class Training:                      # what the loop is given
        step() -> metrics                one step
        state(), load(state)             everything that a resumed training needs, to the same bits
        export(folder)                   what people want from it: weights, controller
        finished_steps, done             what counts as progress

    with open_run(settings, config, fingerprint, num_steps, shown=CURVES) as run:
        train(run, training, curves=CURVES)

A learner that takes one batch a step is a `Training` by `BatchTraining`. The order after a step: metrics line,
evaluation, curves, checkpoint with the exported files, the same files on top of the directory (the last four where a
checkpoint is due). A commit thus covers every line up to its step. Runs of rollouts and rewards have a controller
instead (cluster/run/controller.py), which opens and records its run in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cluster.records.run import Run
from cluster.runtime.actor_host import deterministic_kernels


class Training(Protocol):
    """Interface of a training that the loop can run."""

    @property
    def finished_steps(self) -> int:
        """Number of steps so far, which numbers metrics and checkpoints."""
        ...

    @property
    def done(self) -> bool:
        """Whether the training is complete."""
        ...

    def step(self) -> Mapping[str, float]:
        """Makes one step; returns metrics by name."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Everything that a resumed training needs: tensors and plain values, in dictionaries and lists."""
        ...

    def load(self, state: Mapping[str, Any], /) -> None:
        """Continues exactly from `state()`."""
        ...

    def export(self, folder: Path, /) -> object:
        """Writes the files that users need into the folder."""
        ...


def train(
    run: Run,
    training: Training,
    *,
    curves: Sequence[str],
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    axis: str = "step",
    phase: str = "update",
) -> None:
    """Steps from the last checkpoint until the training is done, with a checkpoint every `save_interval` steps and at
    the end. The files of `export` lie in each checkpoint and, the newest, on top of the run directory.

    Args:
        curves: metrics that are drawn.
        evaluate: figures on held-out data, measured before each checkpoint.
        axis: metric that is the horizontal axis of the curves.
        phase: what a step is called at the metrics endpoint.

    Raises:
        RunDirectoryError: a file of the last checkpoint is missing or damaged.
        CheckpointWriteError: a checkpoint cannot be written; the last one stands.
    """
    if run.directory.manifest is not None:
        training.load(run.directory.load_state())
        run.directory.publish()
        if training.done:
            run.say_that_nothing_is_left(training.finished_steps)
        else:
            run.telemetry.message(f"continuing after step {training.finished_steps}")
    while not training.done:
        with run.telemetry.phase(phase):
            metrics = training.step()
        step = training.finished_steps
        run.record(step, metrics)
        if training.done or step % run.settings.save_interval == 0:
            if evaluate is not None:
                with run.telemetry.phase("evaluation"):
                    figures = evaluate()
                run.record_evaluation(step, figures)
            with run.telemetry.phase("checkpoint"):
                run.draw(curves, axis)
                run.checkpoint(step, training.state(), training.export)
                run.directory.publish()
        run.telemetry.finished_step(step)
    run.telemetry.finished_last_step()
    run.say_if_there_is_no_best()


class BatchLearner(Protocol):
    """A learner that takes one batch a step."""

    num_steps: int

    def update(self, batch: Any, /) -> Mapping[str, float]:
        """Makes one optimizer step; returns metrics by name."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Everything that a resumed training needs: see `Training.state`."""
        ...

    def load(self, state: Any, /) -> None:
        """Continues exactly from `state()`: see `Training.load`."""
        ...


class BatchTraining:
    """A `BatchLearner` with its batches, as a `Training`.

    Args:
        learner: counts its updates in `num_steps`.
        num_steps: updates of the training.
        make_batch: the batch of a step, counted from 0; a function of the step alone, so that a resumed training sees
            the same.
        export: writes the model.
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
        self._learner = learner
        self._num_steps = num_steps
        self._make_batch = make_batch

    @property
    def finished_steps(self) -> int:
        """Updates so far."""
        return self._learner.num_steps

    @property
    def done(self) -> bool:
        """Whether all updates were made."""
        return self._learner.num_steps >= self._num_steps

    def step(self) -> Mapping[str, float]:
        """One update, with PyTorch's deterministic kernels."""
        batch = self._make_batch(self._learner.num_steps)
        with deterministic_kernels(True):
            return self._learner.update(batch)
