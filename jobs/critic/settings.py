"""Configurations of `jobs.train_critic` and `jobs.critic_score`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from cluster.settings import RunSettings, SteppedRunSettings, TrainingRunSettings
from jobs.configs.data import DataSettings
from jobs.configs.view import ViewFileSettings
from learners.supervised.settings import CriticTrainingSettings
from motions.base.errors import UserError
from motions.settings import Effect, Settings, redeclared
from rewards.declared.critic import CriticModelSettings
from rollouts.settings import DeviceSettings


class CriticRunSettings(TrainingRunSettings, DeviceSettings):
    """Run directory, length and device of a critic's training."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 10_000)
    """Optimizer steps of the training."""

    best_metric: str | None = redeclared(RunSettings, "best_metric", "evaluation/validation/accuracy")
    """Figure by which the best checkpoint is kept as well, in `best/`: a held-out one by `evaluation/NAME`, or a metric
    of `metrics.jsonl`."""


class CriticDataSettings(DataSettings):
    """Pairs of motions."""

    pairs_path: Path | None = None
    """List of pairs to learn from: a `.pth` file of MotionCritic, a list of dictionaries `motion_better` and
    `motion_worse`. By default synthetic pairs are made from the motions of `dataset`."""

    eval_pairs_path: Path | None = None
    """List of pairs for the test. By default every ninth group of pairs of `pairs_path` that share a motion; the one
    before is for validation in any case."""

    num_eval_pairs: Annotated[int, Effect("evaluation")] = Field(default=200, ge=1, le=100_000)
    """Number of synthetic pairs of each flaw in the validation, and in the test."""

    @model_validator(mode="after")
    def _lists(self) -> Self:
        if self.eval_pairs_path is not None and self.pairs_path is None:
            raise UserError("eval_pairs_path is given without pairs_path")
        return self


class CriticStartSettings(Settings):
    """Where a training starts from."""

    critic_checkpoint_path: str | None = Field(default=None, min_length=1)
    """Critic whose weights the training starts from: `builtin`, a file of MotionCritic, or a folder of
    `jobs.train_critic`. It brings its sizes. By default a new network starts from random weights."""


_SIZES = ("critic_dim_feat", "critic_dim_rep", "critic_depth", "critic_mlp_ratio", "critic_inputs")


class CriticConfig(Settings):
    """Training of a critic, which scores how natural a motion looks."""

    run: CriticRunSettings
    data: CriticDataSettings = CriticDataSettings()
    critic: CriticTrainingSettings = CriticTrainingSettings()
    start: CriticStartSettings = CriticStartSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "pairs_path", "dataset", "num_steps", "batch_size", "learning_rate"),
        *("critic_dim_feat", "critic_checkpoint_path", "seed", "resume"),
    )

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        usual = CriticTrainingSettings()
        given = [name for name in _SIZES if getattr(self.critic, name) != getattr(usual, name)]
        if self.start.critic_checkpoint_path is not None and given:
            raise UserError(
                f"{given[0]} is of a new critic, and critic_checkpoint_path {self.start.critic_checkpoint_path} has "
                "its own"
            )
        return self

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """Sizes of a new critic, where there is none."""
        if self.start.critic_checkpoint_path is None:
            return ()
        return tuple(f"critic.{name}" for name in (*_SIZES, "critic_heads"))


class CriticScoreConfig(DeviceSettings):
    """Motions that are scored by a critic."""

    positional: ClassVar[str] = "inputs"

    inputs: tuple[Path, ...] = Field(min_length=1)
    """Files and folders of motions; the words that stand before all options."""

    save_dir: Path | None = None
    """Folder of `scores.csv` and `index.html`, in which neither may exist. By default a new one,
    `outputs/critic/NAME`, `NAME-2`, ..."""

    max_motions: int = Field(default=1000, ge=1)
    """Largest number of motions that one folder gives, the first ones by name."""

    max_shown: int = Field(default=60, ge=0)
    """Largest number of motions in the table and on the page: half of it from the best on, half up to the worst. 0: no
    page."""

    critic: CriticModelSettings = CriticModelSettings()
    files: ViewFileSettings = ViewFileSettings()
