"""The configuration of `jobs.grpo`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import ClusterSettings, RolloutRunSettings
from jobs.configs.data import DataSettings
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings
from rewards.settings import RewardSettings
from rollouts.settings import (
    PolicySettings,
    SamplingSettings,
)


class PromptSettings(Settings):
    """Prompts of the run."""

    batch_size: int = Field(default=8, ge=1, validation_alias=AliasChoices("batch_size", "prompts_per_step"))
    """Prompts per step; each is sampled `group_size` times."""

    prompts_path: Path | None = Field(default=None, validation_alias=AliasChoices("prompts_path", "prompt_file"))
    """Prompts to train on: .jsonl, .txt (one a line) or the guide's composite .npy. By default the data's own."""

    use_composite_dataset: bool = False
    """Train on composite prompts only: those of `composite_data_path`, or the data's own where there is none."""

    composite_data_path: Path | None = None
    """The guide's `composite_k{K}_{split}.npy`, or a .jsonl of composite prompts."""

    composite_k_segments: int | None = Field(default=None, ge=2, le=5)
    """Segments of every prompt of `composite_data_path`, and of the data's own composite prompts; by default any
    number. Prompts of `prompts_path` and `eval_prompts_path` are taken as they are."""

    composite_fraction: float = Field(default=0.5, ge=0, le=1)
    """Share of composite prompts among the data's own (those of `prompts_path` are taken as they are)."""

    num_prompts: int = Field(default=256, ge=1)
    """Prompts that are drawn from the data; of a file, at most so many."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.prompts_path is not None and self.composite_data_path is not None:
            raise UserError("prompts_path and composite_data_path are both given; prompts come from one of them")
        if self.composite_data_path is not None and not self.use_composite_dataset:
            raise UserError("composite_data_path is given without use_composite_dataset")
        return self


class EvaluationSettings(Settings):
    """Evaluation before and after."""

    eval_prompts_path: Path | None = None
    """Prompts of the evaluation; by default held-out ones of the data. FID is measured only where the data has held-out
    motions of the policy's skeleton."""

    num_eval_prompts: int = Field(default=16, ge=1)
    """Prompts of an evaluation, at most."""

    num_eval_samples: int = Field(default=4, ge=1)
    """Motions per prompt in an evaluation, by the deterministic sampler."""

    eval_seed: int = Field(default=1000, ge=0, lt=2**63)
    """Seed of the evaluation's prompts and noise; the same for runs of other seeds, so that they can be compared."""

    judge_path: str = Field(default=BUILTIN, min_length=1)
    """Retrieval model that judges before and after and never is a reward (the reward's weights are refused):
    `builtin`, a TMR's folder or file, or `none`."""


class GRPOConfig(Settings):
    """Fine-tuning by group-relative policy optimisation."""

    run: RolloutRunSettings
    policy: PolicySettings = PolicySettings()
    data: DataSettings = DataSettings()
    prompts: PromptSettings = PromptSettings()
    sampling: SamplingSettings = SamplingSettings()
    rewards: RewardSettings = RewardSettings()
    grpo: GRPOSettings = GRPOSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    cluster: ClusterSettings = ClusterSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "model_path", "dataset", "num_steps", "batch_size", "group_size"),
        *("learning_rate", "kl_penalty", "use_dense_reward", "resume"),
    )
