"""Configurations of the character jobs: cloning, and the complete pipeline from a clip to a trained controller.

Imports neither torch, ray nor a physics engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import ConnectionSettings, TrackerSettings, WorkerSettings
from jobs.configs.trpo import SamplingProcessSettings
from learners.cloning.settings import CloningSettings
from learners.trpo.settings import TRPOSettings
from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.imitation.settings import CloneTaskSettings


class PipelineSettings(Settings):
    """Task and run directory."""

    affects: ClassVar[Affects] = "records"

    task: Literal["train", "evaluate", "report"] = "train"
    """`train`: cloning, TRPO, evaluation and report. `evaluate`: evaluate a trained controller. `report`: write the
    report of a finished run again."""

    save_dir: Path | None = None
    """Directory of the run, for `train` and `report`; `evaluate` also writes its results there if it is given. Inside a
    submitted Ray job the path must be absolute."""

    resume: bool = False
    """Continue the run in `save_dir`: finished stages are skipped, an interrupted one continues from its last
    checkpoint. With a larger `num_timesteps` the training continues and the evaluation is repeated; with other options
    of the evaluation or another `video_s` only the evaluation is repeated."""

    overwrite: bool = False
    """If `save_dir` holds a run, move it aside to `save_dir.old-1` (`-2`, ...) and start a new one."""

    seed: Annotated[int, Effect("results")] = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, data, environments and noise."""

    controller: Path | None = None
    """Controller to `evaluate`; by default the one in `docs/results/` that comes with kinetune for the clip. Its
    interface and physics are those it was trained with, except where an option says otherwise; the rules are the
    default ones."""

    check: bool = False
    """With `evaluate` of walk over 20 s, including pushes of 100 N from four sides: exit with status 1 if a target is
    missed, and name the missed ones on the last line."""

    trpo: Annotated[bool, Effect("results")] = True
    """Fine-tune the clone by reinforcement learning; `--no_trpo` stops after cloning."""

    num_timesteps: Annotated[int, Effect("length")] = Field(default=10_000_000, ge=1)
    """Environment steps of the reinforcement learning."""

    save_per_iter: Annotated[int, Effect("results")] = Field(default=50, ge=1)
    """Iterations of the reinforcement learning between checkpoints."""

    video_s: Annotated[float, Effect("evaluation")] = Field(default=6.0, ge=0)
    """Length of the animation in the report, seconds; 0 leaves it out."""


class CharacterTRPOSettings(TRPOSettings):
    """TRPO with defaults that make characters walk within two million steps."""

    steps_per_batch: int = Field(default=8192, ge=1, validation_alias=AliasChoices("steps_per_batch", "horizon"))
    """Environment steps per iteration, over all environments together; rounded up to whole steps of all of them."""

    max_kl: float = Field(default=0.02, gt=0)
    """Largest mean KL divergence between the policy that made a batch and the updated one."""

    gamma: float = Field(default=0.97, ge=0, le=1)
    """Discount factor per step: in this task the consequences of an action appear within a second."""

    fisher_subsample: int = Field(default=4, ge=1)
    """Fisher-vector products use every n-th sample of the batch."""

    critic_epochs: int = Field(default=5, ge=1, validation_alias=AliasChoices("critic_epochs", "vf_iters"))
    """Passes of the critic over a batch."""

    critic_batch_size: int = Field(default=512, ge=1)
    """Samples per optimizer step of the critic."""

    cloning_weight: float = Field(default=0.0, ge=0)
    """Weight of the log-likelihood of the open-loop expert's actions in the visited states (mean over components of the
    action). With residual actions those are 0; `expert` only affects cloning."""

    critic_warmup_batches: int = Field(default=5, ge=0)
    """Number of initial batches that only fit the critic: a clone's first policy update needs a critic fitted to it."""


class CharacterSamplingSettings(SamplingProcessSettings):
    """Processes, with a number of characters that one core simulates efficiently."""

    num_envs: Annotated[int, Effect("results")] = Field(default=64, ge=1)
    """Number of environments, over all runners together."""


class CharacterCloningSettings(CloningSettings):
    """Cloning with a standard deviation suited to subsequent reinforcement learning."""

    log_std_floor: float = Field(default=-1.8, ge=-5, le=1)
    """Lower bound of the log of the standard deviation of actions: the residuals of a good clone are smaller than the
    exploration that reinforcement learning needs."""

    critic_warm_gamma: float = Field(default=0.97, gt=0, lt=1)
    """Discount of the returns that the critic is fitted to after cloning; by default `gamma`."""


class DeepMimicConfig(
    PipelineSettings,
    CloneTaskSettings,
    CharacterCloningSettings,
    CharacterTRPOSettings,
    CharacterSamplingSettings,
    ControlEvaluationSettings,
    WorkerSettings,
    TrackerSettings,
    ConnectionSettings,
):
    """The complete pipeline from a motion clip to a trained controller."""

    @model_validator(mode="before")
    @classmethod
    def _one_discount(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"critic_warm_gamma": values["gamma"], **values} if "gamma" in values else values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.save_dir is None and self.task != "evaluate":
            raise UserError(f"save_dir is required for task {self.task}")
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite are both set: continue the run in save_dir, or start anew?")
        if self.check and self.task != "evaluate":
            raise UserError("check belongs to --task evaluate")
        return self
