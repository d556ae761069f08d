"""The folder of a supervised training, and the loop that fills it.

It is a run directory (`cluster/records/run_directory.py`: configuration, metrics, the learner's state, a lock) and the
finished model's folder at once: what MDM or TMR tools read (`model#########.pt` and `args.json`, or `last_weights/`)
lies on top, beside `training_curves_latest.png`. A training that was stopped continues from its last checkpoint to the
same bits: batches are functions of (seed, step), and the learner's state holds the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cluster.records.curves import draw_curves
from cluster.records.run_directory import METRICS, RunDirectory, inspect
from cluster.runtime.actor_host import deterministic_kernels
from cluster.settings import RunSettings, TrainingRunSettings
from jobs.command_line.main import settings_yaml

if TYPE_CHECKING:
    from torch import nn

    from motions.data.dataset import MotionDataset


class Learner(Protocol):
    """What is trained."""

    num_steps: int

    def update(self, batch: Any, /) -> dict[str, float]:
        """One optimizer step."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        ...

    def load(self, state: Mapping[str, Any], /) -> None:
        """Continue where `state()` was taken."""
        ...


class TrainingFolder:
    """An opened folder; `open_training_folder` makes it."""

    def __init__(self, directory: RunDirectory, settings: TrainingRunSettings) -> None:
        self.path = directory.path
        self.samples = directory.samples
        self._directory = directory
        self._settings = settings

    def train(
        self,
        learner: Learner,
        num_steps: int,
        make_batch: Callable[[int], Any],
        save_model: Callable[[int], None],
        curves: tuple[str, ...],
    ) -> None:
        """Updates the learner from its last checkpoint to `num_steps`, with a checkpoint every `save_interval` steps.

        Args:
            make_batch: the batch of a step, counted from 0; a function of the step alone.
            save_model: writes the model's files after so many steps.
            curves: metrics that are printed and drawn.
        """
        if self._directory.manifest is not None:
            learner.load(self._directory.load_state())
            print(f"continuing after step {learner.num_steps}")
        started = time.perf_counter()
        while learner.num_steps < num_steps:
            batch = make_batch(learner.num_steps)
            with deterministic_kernels(True):
                metrics = learner.update(batch)
            step, last = learner.num_steps, learner.num_steps == num_steps
            self._directory.append_metrics({"step": step, **metrics})
            if step % self._settings.log_interval == 0 or last:
                print(_line(step, num_steps, metrics, curves, time.perf_counter() - started), flush=True)
            if step % self._settings.save_interval == 0 or last:
                save_model(step)
                self._draw(curves)
                self._directory.save_checkpoint(step, step, learner.state())

    def _draw(self, names: tuple[str, ...]) -> None:
        lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        curves = {name: [(record["step"], record[name]) for record in records if name in record] for name in names}
        draw_curves(self.path / "training_curves_latest.png", curves)


@contextmanager
def open_training_folder(settings: TrainingRunSettings, data_fingerprint: str) -> Iterator[TrainingFolder]:
    """The folder of a training, new or as its last checkpoint left it; nobody else can write there meanwhile.

    Args:
        data_fingerprint: names the data; a training on other data is not resumed.

    Raises:
        RunDirectoryError: not empty, not writable, in use, relative in a Ray job, or trained with other options.
    """
    directory = RunDirectory.open(_run_settings(settings), settings, data_fingerprint)
    try:
        yield TrainingFolder(directory, settings)
    finally:
        directory.close()


def describe_training(settings: TrainingRunSettings, dataset: MotionDataset, network: nn.Module) -> str:
    """What a training would do, for `--dry_run`.

    Raises:
        RunDirectoryError: the folder cannot be used as asked.
    """
    opening = inspect(_run_settings(settings))
    clips = ", ".join(f"{len(dataset.items(split))} {split}" for split in dataset.splits)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return "\n".join(
        [
            settings_yaml(settings),
            f"\nsave_dir {settings.save_dir}: {opening}",
            f"data {dataset.name}: {clips} clips; skeleton {dataset.skeleton.name}, {dataset.skeleton.fps:g} frames/s",
            f"network: {parameters / 1e6:.2f} M parameters",
        ]
    )


def _run_settings(settings: TrainingRunSettings) -> RunSettings:
    return RunSettings(
        save_dir=settings.save_dir,
        resume=settings.resume,
        overwrite=settings.overwrite,
        seed=settings.seed,
        keep_checkpoints=1,
        allow_changed=("num_samples", "device", *settings.allow_changed),
    )


def _line(step: int, num_steps: int, metrics: Mapping[str, float], names: tuple[str, ...], seconds: float) -> str:
    values = "  ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics)
    return f"step {step}/{num_steps}  {values}  {seconds:.0f} s"
