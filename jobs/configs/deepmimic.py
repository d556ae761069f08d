"""The configurations of the character jobs: cloning, and the whole way from a clip to a trained controller.

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
    """What to do, and where."""

    affects: ClassVar[Affects] = "records"

    task: Literal["train", "evaluate", "report"] = "train"
    """`train`: clone, TRPO, evaluation and report. `evaluate`: only evaluate a trained controller. `report`: write the
    report of a finished run again."""

    save_dir: Path | None = None
    """Folder of the run, for `train` and `report`; with `evaluate` the evaluation is written there too if it is given.
    Inside a submitted Ray job it must be absolute."""

    resume: bool = False
    """Continue the run found in `save_dir`: finished stages are kept, an interrupted one goes on from its last
    checkpoint. With other `num_timesteps` than before, training goes on to there and is evaluated again; with other
    options of the evaluation or `video_s`, only the evaluation is made again."""

    overwrite: bool = False
    """If `save_dir` holds a run, move it aside to `save_dir.old-1` (`-2`, ...) and start anew."""

    seed: Annotated[int, Effect("results")] = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, data, environments and noise."""

    controller: Path | None = None
    """Controller that `evaluate` plays; by default the one that ships for the clip, in `docs/results/`. It is played
    with the interface and the physics that it was trained with, as far as no option says otherwise, and judged by the
    default rules."""

    check: bool = False
    """With `evaluate` of walk, over 20 s and with 100 N from four sides: exit with 1 if a target is missed, and name
    those on the last line."""

    trpo: Annotated[bool, Effect("results")] = True
    """Fine-tune the clone by reinforcement learning; `--no_trpo` stops after the clone."""

    num_timesteps: Annotated[int, Effect("length")] = Field(default=10_000_000, ge=1)
    """Environment steps of the reinforcement learning."""

    save_per_iter: Annotated[int, Effect("results")] = Field(default=50, ge=1)
    """Iterations of the reinforcement learning between checkpoints."""

    video_s: Annotated[float, Effect("evaluation")] = Field(default=6.0, ge=0)
    """Length of the animation in the report; 0 leaves it out."""


class CharacterTRPOSettings(TRPOSettings):
    """TRPO with the values that made characters walk within two million steps."""

    steps_per_batch: int = Field(default=8192, ge=1, validation_alias=AliasChoices("steps_per_batch", "horizon"))
    """Environment steps of one iteration, over all environments together; rounded up to whole steps of all of them."""

    max_kl: float = Field(default=0.02, gt=0)
    """Largest mean KL divergence between the policy that made a batch and the one that follows it."""

    gamma: float = Field(default=0.97, ge=0, le=1)
    """Discount per step: what is done now shows within a second."""

    fisher_subsample: int = Field(default=4, ge=1)
    """Fisher products use every n-th sample of the batch."""

    critic_epochs: int = Field(default=5, ge=1, validation_alias=AliasChoices("critic_epochs", "vf_iters"))
    """Passes of the critic over a batch."""

    critic_batch_size: int = Field(default=512, ge=1)
    """Samples of one step of the critic."""

    cloning_weight: float = Field(default=0.0, ge=0)
    """Weight of the log-likelihood of the open-loop expert's actions in the visited states (mean over actions'
    entries). With residual actions those are 0; `expert` is for the cloning alone."""

    critic_warmup_batches: int = Field(default=5, ge=0)
    """Batches at the start that fit the critic only and leave the policy as it is: a cloned policy's first real step
    needs a critic that knows it."""


class CharacterSamplingSettings(SamplingProcessSettings):
    """Processes, with as many characters as one core simulates well."""

    num_envs: Annotated[int, Effect("results")] = Field(default=64, ge=1)
    """Environments that are sampled, over all runners together."""


class CharacterCloningSettings(CloningSettings):
    """Cloning of a policy that is going to explore."""

    log_std_floor: float = Field(default=-1.8, ge=-5, le=1)
    """The log of the standard deviation of the actions is kept above this: the residuals of a good clone are smaller
    than what reinforcement learning needs to explore."""

    critic_warm_gamma: float = Field(default=0.97, gt=0, lt=1)
    """Discount of the returns that the critic learns at the end of cloning; by default `gamma`."""


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
    """From a motion clip to a trained controller."""

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
