"""Configuration of the complete pipeline from a clip to a trained controller.

Imports neither torch, ray nor a physics engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.settings import ConnectionSettings, WorkerSettings
from jobs.configs.trpo import ControlRunSettings, SamplingProcessSettings, require_driver_alone
from jobs.configs.world_model import ImaginedCharacterSettings
from learners.cloning.settings import CloningSettings
from learners.trpo.settings import TRPOSettings
from learners.world_model.settings import WorldModelSettings
from motions.base.errors import UserError
from motions.settings import Affects, Effect, redeclared
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.imitation.settings import CloneTaskSettings

IMAGINED_DEFAULTS = {
    name: ImaginedCharacterSettings.model_fields[name].default for name in ("observation_blocks", "push_force")
}
"""Defaults of the character that a world model changes."""


class PipelineRunSettings(ControlRunSettings):
    """Task and run directory."""

    affects: ClassVar[Affects] = "records"

    task: Literal["train", "evaluate", "video", "web", "report"] = "train"
    """`train`: what `learner` says, evaluation and report. `evaluate`: evaluate a trained controller. `video`: write
    what it does, beside the reference, to `video.mp4`, `video_s` seconds from the clip's beginning. `web`: write
    `web.html`, a page that simulates it in a browser, where it is started and pushed. `report`: write the report of a
    finished run again."""

    save_dir: Path | None = redeclared(ControlRunSettings, "save_dir")  # pyright: ignore[reportIncompatibleVariableOverride]
    """Directory of the run, for `train` and `report`, of the video or of the page; `evaluate` also writes its results
    there if it is given. Inside a submitted Ray job the path must be absolute."""

    resume: bool = redeclared(ControlRunSettings, "resume")
    """Continue the run in `save_dir`: finished stages are skipped, an interrupted one continues from its last
    checkpoint. With a larger `num_timesteps` the training continues and the evaluation is repeated; with other options
    of the evaluation or another `video_s` only the evaluation is repeated."""

    num_steps: int = redeclared(ControlRunSettings, "num_steps", 10_000_000)
    """Environment steps of the reinforcement learning."""

    save_interval: int = redeclared(ControlRunSettings, "save_interval", 50)
    """Iterations of the reinforcement learning between checkpoints."""

    controller: Path | None = None
    """Controller to `evaluate`, or of the video or page; by default the one in `docs/results/` that comes with kinetune
    for the clip. Its interface and physics are those it was trained with, except where an option says otherwise; the
    rules are the default ones."""

    mujoco_wasm: Path | None = None
    """With `web`: the npm package `@mujoco/mujoco` as a file, `mujoco-3.14.0.tgz`; by default it is fetched from
    registry.npmjs.org the first time, and kept in `~/.cache/kinetune`."""

    check: bool = False
    """With `evaluate` of walk over 20 s, including pushes of 100 N from four sides: exit with status 1 if a target is
    missed, and name the missed ones on the last line."""

    learner: Annotated[Literal["trpo", "world_model", "world_model,trpo"], Effect("results")] = "trpo"
    """`trpo`: cloning, then TRPO. `world_model`: training by a world model, from nothing. `world_model,trpo`: then TRPO
    from its controller. With a world model the defaults of `observation_blocks` and `push_force` are those of
    `jobs.world_model`."""

    trpo: Annotated[bool, Effect("results")] = True
    """Fine-tune the clone by reinforcement learning; `--no_trpo` stops after cloning."""

    model_timesteps: Annotated[int, Effect("results")] = Field(default=300_000, ge=1)
    """Environment steps of the training by a world model."""


class CharacterTRPOSettings(TRPOSettings):
    """TRPO with defaults that make characters walk within two million steps."""

    steps_per_batch: int = redeclared(TRPOSettings, "steps_per_batch", 8192)
    max_kl: float = redeclared(TRPOSettings, "max_kl", 0.02)

    gamma: float = redeclared(TRPOSettings, "gamma", 0.97)
    """Discount factor per step: in this task the consequences of an action appear within a second."""

    fisher_subsample: int = redeclared(TRPOSettings, "fisher_subsample", 4)
    critic_epochs: int = redeclared(TRPOSettings, "critic_epochs", 5)
    critic_batch_size: int = redeclared(TRPOSettings, "critic_batch_size", 512)

    cloning_weight: float = redeclared(TRPOSettings, "cloning_weight")
    """Weight of the log-likelihood of the open-loop expert's actions in the visited states (mean over components of the
    action). With residual actions those are 0; `expert` only affects cloning."""

    critic_warmup_batches: int = redeclared(TRPOSettings, "critic_warmup_batches", 5)


class CharacterSamplingSettings(SamplingProcessSettings):
    """Processes, with a number of characters that one core simulates efficiently."""

    num_envs: int = redeclared(SamplingProcessSettings, "num_envs", 64)


class CharacterCloningSettings(CloningSettings):
    """Cloning with a standard deviation suited to subsequent reinforcement learning."""

    log_std_floor: float = redeclared(CloningSettings, "log_std_floor", -1.8)
    """Lower bound of the log of the standard deviation of actions: the residuals of a good clone are smaller than the
    exploration that reinforcement learning needs."""

    critic_warm_gamma: float = redeclared(CloningSettings, "critic_warm_gamma", 0.97)
    """Discount of the returns that the critic is fitted to after cloning; by default `gamma`."""


class PipelineEvaluationSettings(ControlEvaluationSettings):
    """Evaluation, and what the report shows."""

    affects: ClassVar[Affects] = "evaluation"

    video_s: float = Field(default=6.0, ge=0)
    """Length of the animation in the report, seconds, or of the video; 0 leaves the animation out."""


class DeepMimicConfig(CloneTaskSettings):
    """The complete pipeline from a motion clip to a trained controller."""

    cloning: CharacterCloningSettings = CharacterCloningSettings()
    trpo: CharacterTRPOSettings = CharacterTRPOSettings()
    world_model: WorldModelSettings = WorldModelSettings()
    run: PipelineRunSettings = PipelineRunSettings()
    processes: CharacterSamplingSettings = CharacterSamplingSettings()
    workers: WorkerSettings = WorkerSettings()
    evaluation: PipelineEvaluationSettings = PipelineEvaluationSettings()
    cluster: ConnectionSettings = ConnectionSettings()

    preferred: ClassVar[tuple[str, ...]] = ("trpo",)
    important: ClassVar[tuple[str, ...]] = (
        *("motion", "save_dir", "task", "learner", "controller", "check", "num_timesteps", "num_envs", "resume"),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_discount(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        trpo, cloning = values.get("trpo", {}), values.get("cloning", {})
        if isinstance(trpo, Mapping) and isinstance(cloning, Mapping) and "gamma" in trpo:
            return {**values, "cloning": {"critic_warm_gamma": trpo["gamma"], **cloning}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _imaginable(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        run, character = values.get("run", {}), values.get("character", {})
        learner = run.get("learner", "trpo") if isinstance(run, Mapping) else run.learner
        if learner == "trpo" or not isinstance(character, Mapping):
            return values
        return {**values, "character": {**IMAGINED_DEFAULTS, **character}}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.run.save_dir is None and self.run.task != "evaluate":
            raise UserError(f"save_dir is required for task {self.run.task}")
        if self.run.task == "video" and self.evaluation.video_s == 0:
            raise UserError("video_s is 0; legal for task video: above 0")
        if self.run.check and self.run.task != "evaluate":
            raise UserError("check belongs to --task evaluate")
        if self.run.controller is not None and self.run.task not in ("evaluate", "video", "web"):
            raise UserError(f"controller is what evaluate, video and web play; task is {self.run.task}")
        if self.run.mujoco_wasm is not None and self.run.task != "web":
            raise UserError(f"mujoco_wasm is for task web; task is {self.run.task}")
        require_driver_alone(self.cluster, self.processes)
        if not self.run.trpo and self.run.learner != "trpo":
            raise UserError(f"no_trpo stops after the cloning, but learner is {self.run.learner}, which has none")
        return self

    @property
    def trainings(self) -> tuple[str, ...]:
        """The stages that train, in order: `clone`, `world_model`, `trpo`."""
        if self.run.learner == "trpo":
            return ("clone", "trpo") if self.run.trpo else ("clone",)
        return tuple(self.run.learner.split(","))

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """See `Settings.ignored_options`: the options of trainings that are left out mean nothing."""
        groups = {
            "clone": ("cloning", "demonstrations", "workers"),
            "world_model": ("world_model", "run.model_timesteps"),
            "trpo": ("trpo", "run.num_steps", "run.save_interval", "run.best_metric", "run.best_mode"),
        }
        return tuple(group for stage, names in groups.items() if stage not in self.trainings for group in names)
