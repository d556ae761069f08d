"""Configuration of `jobs.train_physics_ssm`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import RunSettings
from jobs.configs.pretrain import ValidationSettings
from jobs.state_space.epochs import EpochDataSettings, EpochRunSettings
from learners.supervised.settings import RefinerTrainingSettings
from motions.base.errors import UserError
from motions.settings import Settings, redeclared
from rollouts.settings import Decay, RefinerConstraints, RefinerGate


class RefinerNetworkSettings(Settings):
    """Size and form of a new refiner."""

    d_model: int = Field(default=256, ge=8)
    """Width of the network."""

    d_state: int = Field(default=32, ge=1, le=1024)
    """Numbers of a channel's state."""

    n_layers: int = Field(default=4, ge=1, le=1000)
    """State-space layers before the one with the gate."""

    gate: RefinerGate = "sigmoid"
    """How what the scan says and the constraints are mixed. `sigmoid`: by a gate of every frame and channel. `concat`:
    by a matrix. `none`: no constraints, and no physics state. The last two are there to be compared with."""

    constraints: RefinerConstraints = "state"
    """Constraints. `state`: an embedding of the physics state of the motion. `projected`: an embedding of what changes
    in the motion if its feet are planted and nothing is below the floor (HumanML3D's skeleton only)."""

    ssm_decay: Decay = "head"
    """Where the rates of decay differ. `head`: one for each head of up to 64 channels, as in Mamba-2; many times as
    fast as the others. `channel`: one for each channel and state, as in Mamba-1. `shared`: one for each state, the same
    for all channels."""

    bidirectional: bool = True
    """Scan in both directions, so that a frame is refined by what comes after it, too."""

    @model_validator(mode="after")
    def _mixed(self) -> Self:
        if self.gate == "none" and self.constraints != "state":
            raise UserError(f"constraints is {self.constraints} and gate none, which mixes in no constraints")
        return self


class RefinerStartSettings(Settings):
    """Where a training starts from."""

    refiner_path: Path | None = Field(default=None, validation_alias=AliasChoices("refiner_path", "resume_from"))
    """Refiner whose weights a new training starts from (also `--resume_from`): a folder of `jobs.train_physics_ssm`, or
    a file of the public project, `best_model.pt`. It brings its sizes and form. To continue a training that was
    stopped, give `--resume`."""


class PhysicsSSMRunSettings(EpochRunSettings):
    """Run directory, length and device of a refiner's training."""

    save_dir: Path = redeclared(
        RunSettings, "save_dir", Path("checkpoints/physics_ssm"), spellings=("save_dir", "checkpoint_dir")
    )


class PhysicsSSMConfig(Settings):
    """Training of a PhysicsSSM, which refines motions of any origin."""

    run: PhysicsSSMRunSettings = PhysicsSSMRunSettings()
    data: EpochDataSettings = EpochDataSettings()
    start: RefinerStartSettings = RefinerStartSettings()
    network: RefinerNetworkSettings = RefinerNetworkSettings()
    refiner: RefinerTrainingSettings = RefinerTrainingSettings()
    validation: ValidationSettings = ValidationSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "data_dir", "epochs", "batch_size", "learning_rate", "lambda_physics", "d_model", "gate"),
        *("constraints", "resume"),
    )

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        default = RefinerNetworkSettings()
        given = [name for name, value in self.network if value != getattr(default, name)]
        if self.start.refiner_path is not None and given:
            raise UserError(f"{given[0]} is of a new refiner, and refiner_path {self.start.refiner_path} has its own")
        return self
