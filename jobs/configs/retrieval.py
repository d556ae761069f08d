"""Configuration of `jobs.train_retrieval`; imports neither torch nor ray."""

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
    """Training of a TMR, which compares text and motion."""

    captions: Literal["train", "judge"] = "train"
    """Captions to train on: `judge` describes the same motions in other words, for a TMR that evaluates independently
    of the reward; it exists for the built-in data only."""

    best_metric: str | None = "evaluation/t2m/R03"
    """Figure by which the best checkpoint is kept as well, in `best/`: a held-out one by `evaluation/NAME`, or a metric
    of `metrics.jsonl`."""
