"""The configuration of `jobs.train_retrieval`; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal

from cluster.settings import TrainingRunSettings
from jobs.configs.data import DataSettings
from learners.supervised.settings import RetrievalSettings
from rollouts.settings import (
    DeviceSettings,
    TextEncoderSettings,
)


class RetrievalConfig(DataSettings, RetrievalSettings, TextEncoderSettings, TrainingRunSettings, DeviceSettings):
    """Training of a retrieval model."""

    captions: Literal["train", "judge"] = "train"
    """Captions to learn: `judge` has other words for the same motions and exists for the built-in data only; a judge
    that learned them knows what the reward does not."""

    best_metric: str | None = "evaluation/t2m/R03"
    """Figure by which the best checkpoint is kept as well, in `best/`: a held-out one by `evaluation/NAME`, or a metric
    of `metrics.jsonl`."""
