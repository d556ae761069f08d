"""Configuration of `jobs.world_model`; imports neither torch, ray nor a physics engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from cluster.settings import ConnectionSettings, SteppedRunSettings
from envs.settings import DeepMimicSettings, ObservationBlock
from jobs.configs.trpo import (
    ActorCriticSettings,
    ControlRunSettings,
    RunnerSettings,
    TRPORunSettings,
    require_driver_alone,
    require_one_shape,
)
from learners.world_model.settings import WorldModelSettings
from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings, redeclared


class WorldModelRunSettings(ControlRunSettings):
    """Run directory and length."""

    affects: ClassVar[Affects] = "records"

    save_dir: Path | None = redeclared(ControlRunSettings, "save_dir")  # pyright: ignore[reportIncompatibleVariableOverride]
    """Directory of the run; by default `runs/world-model-<clip>-<seed>`. Inside a submitted Ray job the path must be
    absolute."""

    num_steps: int = redeclared(ControlRunSettings, "num_steps", 300_000)

    save_interval: int = redeclared(ControlRunSettings, "save_interval", 25)
    """Iterations between checkpoints; before each the controller is evaluated, and the best one so far is kept."""

    best_metric: str | None = redeclared(ControlRunSettings, "best_metric", "evaluation/score")

    load_sft_pretrain: Annotated[Path | None, Effect("results")] = redeclared(TRPORunSettings, "load_sft_pretrain")


class ImaginedCharacterSettings(DeepMimicSettings):
    """The character, observed by what a world model can imagine, and pushed while it learns."""

    observation_blocks: tuple[ObservationBlock, ...] = redeclared(
        DeepMimicSettings, "observation_blocks", ("root", "joints", "phase", "targets")
    )
    push_force: float = redeclared(DeepMimicSettings, "push_force", 150.0)


class SmoothNetworkSettings(ActorCriticSettings):
    """Shape of a new controller, through which gradients flow over many steps."""

    hidden_size: int = redeclared(ActorCriticSettings, "hidden_size", 256)
    activation: str = redeclared(ActorCriticSettings, "activation", "silu")  # pyright: ignore[reportIncompatibleVariableOverride]
    initial_log_std: float = redeclared(ActorCriticSettings, "initial_log_std", -1.9)


class WorldModelProcessSettings(RunnerSettings):
    """Environments and processes of the training; the driver learns."""

    num_envs: int = redeclared(RunnerSettings, "num_envs", 64)


class ChoiceSettings(Settings):
    """The evaluations by which the best controller is chosen."""

    eval_episodes: int = Field(default=10, ge=1)
    """Episodes without pushes, and as many with pushes, before each checkpoint. They start halfway between the phases
    that `jobs.deepmimic` evaluates from, so that its figures chose nothing."""

    eval_push_force: float = Field(default=100.0, ge=0)
    """Newtons of those pushes, one every four seconds in a random direction."""


class WorldModelJobConfig(Settings):
    """Training of a controller by a world model."""

    run: WorldModelRunSettings = WorldModelRunSettings()
    character: ImaginedCharacterSettings = ImaginedCharacterSettings()
    network: SmoothNetworkSettings = SmoothNetworkSettings()
    world_model: WorldModelSettings = WorldModelSettings()
    processes: WorldModelProcessSettings = WorldModelProcessSettings()
    choice: ChoiceSettings = ChoiceSettings()
    cluster: ConnectionSettings = ConnectionSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("motion", "save_dir", "num_timesteps", "joints", "torque_scale", "push_force", "num_envs"),
        *("num_env_runners", "resume"),
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        require_driver_alone(self.cluster, self.processes)
        require_one_shape(self.network, self.run.load_sft_pretrain)
        steps = self.processes.steps_each(self.world_model.rollout_steps)
        if self.world_model.model_window > steps:
            raise UserError(
                f"model_window is {self.world_model.model_window}; legal: at most the {steps} steps that each of "
                f"num_envs {self.processes.num_envs} makes of rollout_steps {self.world_model.rollout_steps}"
            )
        return self

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """See `Settings.ignored_options`: a controller to start from brings its own shape."""
        return () if self.run.load_sft_pretrain is None else ("network",)

    @property
    def folder(self) -> Path:
        """The run's directory: `save_dir`, or its default."""
        clips = "-".join(Path(clip).stem for clip in self.character.motion)
        return self.run.save_dir or Path("runs") / f"world-model-{clips}-{self.run.seed}"

    @property
    def opened_run(self) -> SteppedRunSettings:
        """The options of the run, in its directory."""
        return self.run.model_copy(update={"save_dir": self.folder})
