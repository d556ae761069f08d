"""What trainings by epochs share: their options, which are those of public projects, and their batches.

The options import neither torch nor ray.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cluster.settings import RunSettings, TrainingRunSettings
from jobs.configs.data import DataSettings, TrainingDataSettings
from motions.data.text_motion import MotionBatch, TextMotion, padded_batch
from motions.settings import Effect, Settings, redeclared
from rollouts.settings import DeviceSettings, ScanSettings


class EpochRunSettings(RunSettings, DeviceSettings, ScanSettings):
    """Run directory, length and device of a training by epochs."""

    save_dir: Path = redeclared(RunSettings, "save_dir", spellings=("save_dir", "checkpoint_dir"))

    epochs: Annotated[int, Effect("length")] = Field(default=100, ge=1)
    """Passes over the training motions."""

    save_every: Annotated[int, Effect("records")] = Field(default=10, ge=1)
    """Epochs between checkpoints; there is always one after the last epoch."""

    best_metric: str | None = redeclared(RunSettings, "best_metric", "evaluation/validation_loss")
    best_mode: Literal["max", "min"] = redeclared(RunSettings, "best_mode", "min")
    keep_checkpoints: int = redeclared(TrainingRunSettings, "keep_checkpoints")
    log_interval: int = redeclared(TrainingRunSettings, "log_interval")
    weights_dtype: Literal["float32", "float16"] = redeclared(TrainingRunSettings, "weights_dtype")


class EpochDataSettings(Settings):
    """Motions of a training by epochs."""

    data_dir: str = redeclared(DataSettings, "dataset", "data/KIT-ML", spellings=("data_dir", "dataset"))
    """A folder in the layout of KIT-ML or HumanML3D, or `builtin` (motion capture that comes with pybullet,
    retargeted)."""

    skip_bad: bool = redeclared(DataSettings, "skip_bad")
    max_frames: int = redeclared(TrainingDataSettings, "max_frames")


class EpochBatches:
    """Batches in which every motion stands once an epoch, in a random order; a batch is a function of (seed, step).

    Motions that are longer than allowed are cut at a random place.
    """

    def __init__(self, items: Sequence[TextMotion], batch_size: int, max_frames: int, seed: int) -> None:
        """Raises ValueError where there is no motion."""
        if not items:
            raise ValueError("items is empty: there is nothing to train on")
        self._items = items
        self._batch_size, self._max_frames, self._seed = batch_size, max_frames, seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last one may be smaller."""
        return math.ceil(len(self._items) / self._batch_size)

    def batch(self, step: int) -> MotionBatch:
        """The batch of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._items))
        rng = np.random.default_rng([self._seed, epoch, place])
        windows, texts = [], []
        for index in order[place * self._batch_size : (place + 1) * self._batch_size]:
            item = self._items[int(index)]
            length = min(item.num_frames, self._max_frames)
            start = int(rng.integers(item.num_frames - length + 1))
            windows.append(item.features[start : start + length])
            texts.append(item.captions[int(rng.integers(len(item.captions)))])
        return padded_batch(windows, texts)
