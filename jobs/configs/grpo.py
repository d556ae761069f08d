"""Configuration of `jobs.grpo`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import ClusterSettings, RolloutRunSettings
from jobs.configs.data import DataSettings
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Effect, Settings
from rewards.settings import RewardSettings
from rollouts.registry import DETERMINISTIC_SAMPLERS, NO_DENSITY
from rollouts.settings import PolicySettings, SamplingSettings


class PromptSettings(Settings):
    """Prompts of the training."""

    batch_size: int = Field(default=8, ge=1, le=10_000, validation_alias=AliasChoices("batch_size", "prompts_per_step"))
    """Number of prompts per step; each is sampled `group_size` times."""

    prompts_path: Path | None = Field(default=None, validation_alias=AliasChoices("prompts_path", "prompt_file"))
    """Training prompts: .jsonl, .txt (one a line) or a composite .npy of MDM-GRPO. By default captions of the data."""

    use_composite_dataset: bool = False
    """Train on composite prompts only: those of `composite_data_path` if it is given, else composites of the data."""

    composite_data_path: Path | None = None
    """Composite prompts: MDM-GRPO's `composite_k{K}_{split}.npy`, or a .jsonl file."""

    composite_k_segments: int | None = Field(default=None, ge=2, le=5)
    """Number of segments of every prompt of `composite_data_path` and of composites of the data; by default any number.
    Prompts of `prompts_path` and `eval_prompts_path` may have any number of segments."""

    composite_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of composite prompts among those made from the data (prompts of `prompts_path` are used unchanged)."""

    num_prompts: int = Field(default=256, ge=1, le=100_000)
    """Number of prompts drawn from the data; of a file, at most this many are used."""

    leave_out_clips: tuple[str, ...] = ()
    """Clips of the data (by the name of their recording, such as `walk`) whose captions are never training prompts,
    alone or in composites. The evaluation has its rows by clip, and says which ones the training never met."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.prompts_path is not None and self.composite_data_path is not None:
            raise UserError("prompts_path and composite_data_path are both given; prompts come from one of them")
        if self.composite_data_path is not None and not self.use_composite_dataset:
            raise UserError("composite_data_path is given without use_composite_dataset")
        if self.leave_out_clips and (self.prompts_path or self.composite_data_path):
            raise UserError(
                "leave_out_clips needs prompts from the data; those of a file do not say which clip they are"
            )
        return self


class EvaluationSettings(Settings):
    """Evaluation before and after the training."""

    eval_prompts_path: Path | None = None
    """Prompts of the evaluation; by default held-out captions of the data. FID is measured only if the data has
    held-out motions of the policy's skeleton."""

    num_eval_prompts: int = Field(default=16, ge=1, le=10_000)
    """Largest number of prompts of an evaluation."""

    num_eval_samples: int = Field(default=4, ge=1, le=10_000)
    """Motions per prompt in an evaluation, by the deterministic sampler."""

    eval_seed: int = Field(default=1000, ge=0, lt=2**63)
    """Seed of the evaluation's prompts and noise; it does not depend on `seed`, so that runs can be compared."""

    judge_path: str = Field(default=BUILTIN, min_length=1)
    """TMR that evaluates the policy before and after the training and must not be the one that rewards it: `builtin`,
    the folder or file of a TMR, or `none`."""

    second_judge: Annotated[bool, Effect("evaluation")] = True
    """Measure with a second judge as well, which has neither the architecture nor the text encoder of a TMR: it is
    fitted in seconds to the data's captions for judges. It needs evaluation prompts from the data."""

    eval_other_steps: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Effect("evaluation")] = (10,)
    """Denoising steps with which base and trained policy are measured too at the end, beside the evaluation's own; all
    steps where the model has fewer. The base is also measured with all its steps. None: only the evaluation's own."""

    stop_on_hacking: Annotated[bool, Effect("evaluation")] = False
    """End the run where an evaluation shows signs that the policy only pleases the reward; otherwise they are said. The
    signs: over three evaluations the reward rises, while a judge falls, or skate, jerk, speed or the height of the feet
    moves away from those of real motions, beyond the 95 % interval."""

    judge_text_model: str | None = Field(default=None, min_length=1)
    """Text encoder of the judge, if its folder has no `config.json` that names it, or names a class of your own,
    `package.module:Class`, which only this option imports."""


class GRPOConfig(Settings):
    """Fine-tuning by group-relative policy optimisation (GRPO)."""

    run: RolloutRunSettings
    policy: PolicySettings = PolicySettings()
    data: DataSettings = DataSettings()
    prompts: PromptSettings = PromptSettings()
    sampling: SamplingSettings = SamplingSettings()
    rewards: RewardSettings = RewardSettings()
    grpo: GRPOSettings = GRPOSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _steps_have_a_density(self) -> Self:
        if (name := self.sampling.sampler) in DETERMINISTIC_SAMPLERS:
            raise UserError(f"sampler is {name!r}: {NO_DENSITY}")
        return self

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if self.policy.ref_model_path is not None and self.grpo.kl_average_decay:
            raise UserError("ref_model_path and kl_average_decay are both given; the KL refers to one policy")
        return self

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "model_path", "dataset", "num_steps", "batch_size", "group_size"),
        *("learning_rate", "kl_penalty", "use_dense_reward", "resume"),
    )
