"""Configuration of `jobs.train_retrieval`; imports neither torch nor ray."""

from __future__ import annotations

from typing import ClassVar, Literal

from cluster.settings import RunSettings, SteppedRunSettings, TrainingRunSettings
from jobs.configs.data import TrainingDataSettings
from learners.supervised.settings import RetrievalSettings
from motions.settings import Settings, redeclared
from rollouts.settings import DeviceSettings, TextEncoderSettings


class RetrievalRunSettings(TrainingRunSettings, DeviceSettings):
    """Run directory, length and device of a TMR's training."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 100_000)
    """Optimizer steps of the training."""

    best_metric: str | None = redeclared(RunSettings, "best_metric", "evaluation/t2m/R03")
    """Figure by which the best checkpoint is kept as well, in `best/`: a held-out one by `evaluation/NAME`, or a metric
    of `metrics.jsonl`."""


class RetrievalDataSettings(TrainingDataSettings):
    """Motions, and which of their captions."""

    captions: Literal["train", "judge", "reward"] = "train"
    """Captions to train on: `judge` describes motions in other words than `reward` does, for a TMR that evaluates
    independently of the one that rewards. The built-in data has captions written for judges; of other data every second
    caption of a motion is a judge's, or where motions have one caption, about every second recording. `train`: all but
    those written for judges."""


class RetrievalConfig(Settings):
    """Training of a TMR, which compares text and motion."""

    run: RetrievalRunSettings
    data: RetrievalDataSettings = RetrievalDataSettings()
    text: TextEncoderSettings = TextEncoderSettings()
    retrieval: RetrievalSettings = RetrievalSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "dataset", "captions", "num_steps", "batch_size", "learning_rate", "tmr_latent_dim"),
        *("text_encoder", "seed", "resume"),
    )
