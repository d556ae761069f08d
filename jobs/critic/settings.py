"""Configurations of `jobs.train_critic` and `jobs.critic_score`; imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import RunSettings, SteppedRunSettings, TrainingRunSettings
from jobs.configs.data import DataSettings
from jobs.configs.view import ViewFileSettings
from learners.supervised.settings import CriticTrainingSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Effect, Settings, redeclared
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

    pairs_path: Path | None = Field(default=None, validation_alias=AliasChoices("pairs_path", "pairs"))
    """Pairs to learn from (also `--pairs`): a `.pth` file of MotionCritic, a list of dictionaries `motion_better` and
    `motion_worse`; or `choices.json`, a person's choices on the page of `jobs.prefer`, which change the built-in critic
    in a short training unless other options say otherwise. By default synthetic pairs are made from the motions of
    `dataset`."""

    eval_pairs_path: Path | None = None
    """List of pairs for the test. By default every ninth group of pairs of `pairs_path` that share a motion; the one
    before is for validation in any case."""

    num_eval_pairs: Annotated[int, Effect("evaluation")] = Field(default=200, ge=1, le=100_000)
    """Number of synthetic pairs of each flaw in the validation, and in the test."""

    @model_validator(mode="after")
    def _lists(self) -> Self:
        if self.eval_pairs_path is not None and self.pairs_path is None:
            raise UserError("eval_pairs_path is given without pairs_path")
        if self.eval_pairs_path is not None and str(self.pairs_path).lower().endswith(CHOICES):
            raise UserError(f"eval_pairs_path is given, and of the choices {self.pairs_path} a ninth is the test")
        return self


CHOICES = ".json"
"""Suffix of files of `jobs.prefer`."""
NEW = "new"
"""Value of `critic_checkpoint_path` for a network with random weights."""


class CriticStartSettings(Settings):
    """Where a training starts from."""

    critic_checkpoint_path: str | None = Field(default=None, min_length=1)
    """Critic whose weights the training starts from: `builtin`, a file of MotionCritic, or a folder of
    `jobs.train_critic`. It brings its sizes. By default, or with `new`, a new network starts from random weights; for a
    person's choices the default is `builtin`."""


_SIZES = ("critic_dim_feat", "critic_dim_rep", "critic_depth", "critic_mlp_ratio", "critic_inputs")
_FOR_CHOICES = {
    "run": {"num_steps": 100, "save_interval": 50},
    "critic": {
        **{"batch_size": 16, "learning_rate": 4e-3, "lr_schedule": "cosine", "warmup_steps": 10, "max_grad_norm": 1.0},
        # The built-in critic's.
        **{"clip_frames": 32, "min_crop_frames": 24},
    },
    "start": {"critic_checkpoint_path": BUILTIN},
}
"""Defaults for a person's choices, which are few."""


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

    @model_validator(mode="before")
    @classmethod
    def _defaults_for_choices(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("data"), Mapping):
            return values
        path = values["data"].get("pairs_path", values["data"].get("pairs"))
        if not str(path).lower().endswith(CHOICES):
            return values
        groups = {name: values.get(name, {}) for name in _FOR_CHOICES}
        if not all(isinstance(group, Mapping) for group in groups.values()):
            return values
        return {**values, **{name: {**usual, **groups[name]} for name, usual in _FOR_CHOICES.items()}}

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        usual = CriticTrainingSettings()
        given = [name for name in _SIZES if getattr(self.critic, name) != getattr(usual, name)]
        if self.start.critic_checkpoint_path not in (None, NEW) and given:
            raise UserError(
                f"{given[0]} is of a new critic, and critic_checkpoint_path {self.start.critic_checkpoint_path} has "
                "its own"
            )
        return self

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """Sizes of a new critic, where there is none."""
        if self.start.critic_checkpoint_path in (None, NEW):
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


class PreferConfig(Settings):
    """Pairs of motions for a person to choose from."""

    positional: ClassVar[str] = "inputs"

    inputs: tuple[Path, ...] = Field(min_length=1)
    """Files and folders of motions; the words that stand before all options."""

    save_dir: Path | None = None
    """Folder of the page and the motions, in which neither may exist. By default a new one, `outputs/pairs/NAME`,
    `NAME-2`, ..."""

    num_pairs: int = Field(default=200, ge=1, le=5000)
    """Largest number of pairs. Every motion stands in about as many of them as any other."""

    repeat_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the pairs that are asked again later, with the sides exchanged: how far do the answers agree with
    themselves?"""

    seconds: float | None = Field(default=None, gt=0.0, le=86_400)
    """Cut motions to their first seconds, so that those of different lengths can be compared; shorter ones are left
    out. None: whole motions, compared with others of the same length."""

    seed: int = Field(default=10, ge=0)
    """Seed of the pairs, their order and their sides."""

    max_motions: int = Field(default=2000, ge=2)
    """Largest number of motions that one folder gives, the first ones by name."""

    open: bool = True
    """Open the page in a browser, where there is a display."""

    files: ViewFileSettings = ViewFileSettings()
