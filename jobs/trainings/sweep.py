"""The configuration of `jobs.sweep`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from cluster.settings import AddressSettings
from jobs.trainings.training_jobs import SearchableJob
from motions.base.errors import UserError
from motions.settings import Settings

DEFAULT_METRICS: dict[str, tuple[str, Literal["max", "min"]]] = {
    "grpo": ("evaluation/total", "max"),
    "pretrain": ("loss", "min"),
    "train_retrieval": ("evaluation/t2m/R03", "max"),
    "train_critic": ("evaluation/validation/accuracy", "max"),
    "train_mdm": ("loss", "min"),
    "tune_mdm": ("evaluation/total", "max"),
    "sft": ("val_loss", "min"),
    "trpo": ("rollout/return", "max"),
    "world_model": ("evaluation/score", "max"),
}
"""What is searched for where nothing else is asked, by job."""


class TrialSettings(Settings):
    """What a trial is."""

    job: SearchableJob = "grpo"
    """The training whose options are searched, `python -m jobs.NAME`."""

    preset: str | None = None
    """Preset of that training from which every trial starts, by name or path."""

    config: Path | None = None
    """File of options of that training, such as the `config.yaml` of an earlier run; wins over the preset."""

    space: str
    """File of the space: options of the training, each with a domain (`{uniform: [0, 1]}`,
    `{log_uniform: [1.0e-4, 0.1]}`, `{integers: [8, 32]}`, `{choice: [a, b]}`) or with the value that
    all trials have. Or the name of a shipped one."""

    set: tuple[str, ...] = ()
    """Options that all trials have, as `num_steps=40`; they win over the space's file."""

    report_every: int | None = Field(default=None, ge=1)
    """Steps between reports of a trial: its evaluations and checkpoints come so often. By default as the training's
    options say."""

    cpus_per_trial: float = Field(default=1.0, gt=0)
    """CPUs that each trial reserves; all that it does runs in one process."""

    gpus_per_trial: float = Field(default=0.0, ge=0)
    """GPUs that each trial reserves; a fraction below 1 shares one GPU."""

    threads_per_trial: int = Field(default=1, ge=1)
    """Threads of the numeric libraries in each trial; results depend on them by rounding."""

    trial_retries: int = Field(default=1, ge=0)
    """How often a trial that failed, or whose process died, is continued from its last checkpoint."""


class SearchSettings(Settings):
    """How trials are chosen and ended."""

    search: Literal["random", "grid", "optuna"] = "random"
    """`random`: independent draws. `grid`: every combination; needs domains with an end. `optuna`: draws that a model
    of the results suggests (tree-structured Parzen estimators)."""

    scheduler: Literal["none", "asha", "pbt"] = "none"
    """`asha`: asynchronous successive halving ends what lags behind. `pbt`: population-based training, in which what
    lags behind goes on from a checkpoint of a leader with perturbed options (those with an interval of numbers)."""

    num_trials: int | None = Field(default=None, ge=1)
    """Number of trials, by default 16; a grid has one for each of its points."""

    metric: str | None = None
    """Metric that is searched for: a name of `metrics.jsonl`, `evaluation/NAME` of a held-out figure, or `final/NAME`
    of `evaluation.json`. By default the training's own, such as `evaluation/total`."""

    mode: Literal["max", "min"] | None = None
    """Whether most or least of `metric` is best; by default `max`, or that of the training's own metric."""

    against: tuple[str, ...] = ()
    """Further metrics for a front of best compromises, as `min:final/fid`. With `search optuna` they are searched for
    together."""

    grace_steps: int | None = Field(default=None, ge=1)
    """Steps that every trial makes before `asha` may end it, and between two comparisons of `pbt`; by default those
    between two reports."""

    reduction_factor: float = Field(default=3.0, gt=1)
    """`asha` lets one of so many trials go on at each comparison."""

    max_concurrent: int = Field(default=0, ge=0)
    """Largest number of trials at a time; 0: as many as the cluster has room for."""

    search_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the choice of trials. The trainings have the `seed` of their own options."""

    confirm_seeds: int = Field(default=0, ge=0, le=1000)
    """After the search, train the best setting and the start of the search again with so many other seeds, also of the
    held-out draws, and report the difference: the best of many values is too good to be expected again."""

    @field_validator("against")
    @classmethod
    def _with_modes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            mode, _, metric = name.partition(":")
            if mode not in ("min", "max") or not metric:
                raise UserError(f"{name!r}: expected min:METRIC or max:METRIC, such as min:final/fid")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.search == "grid" and self.num_trials is not None:
            raise UserError("num_trials is given with search grid, which has one trial for each point of the space")
        if self.search == "grid" and self.scheduler == "pbt":
            raise UserError("scheduler pbt changes options, which search grid wants fixed: search at random with it")
        if self.scheduler == "pbt" and self.search == "optuna":
            raise UserError("scheduler pbt changes options that search optuna learns from: search at random with it")
        return self


class SweepConfig(Settings):
    """A search over the options of a training."""

    save_dir: Path
    """Folder of the search: its trials are run directories in `trials/`, `report.html` compares them, and
    `best.yaml` is the best configuration as a preset."""

    resume: bool = False
    """Continue the search in `save_dir`, whatever ended it; an empty folder starts a new one."""

    trial: TrialSettings
    search: SearchSettings = SearchSettings()
    cluster: AddressSettings = AddressSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "job", "preset", "space", "search.search", "scheduler", "num_trials", "metric", "against"),
        "resume",
    )

    @property
    def searched(self) -> tuple[str, Literal["max", "min"]]:
        """Metric and mode, with the training's own where none is given."""
        own, mode = DEFAULT_METRICS[self.trial.job]
        if self.search.metric is None:
            return own, self.search.mode or mode
        return self.search.metric, self.search.mode or (mode if self.search.metric == own else "max")

    @property
    def against(self) -> tuple[tuple[str, Literal["max", "min"]], ...]:
        """Further metrics, each with its mode."""
        pairs = (name.partition(":")[::2] for name in self.search.against)
        return tuple((metric, "min" if mode == "min" else "max") for mode, metric in pairs)
