"""Options of the supervised part of behaviour cloning. Imports neither torch nor ray.

Names follow `src/train_sft.py` of yelongshen/DeepMimic_mujoco where it has the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from motions.base.errors import UserError
from motions.settings import Settings
from rollouts.imitation.settings import CloneTaskSettings


class CloningSettings(Settings):
    """Supervised training of a controller on an expert's actions."""

    epochs: int = Field(default=100, ge=1)
    """Passes over all data collected so far, in every round."""

    batch_size: int = Field(default=256, ge=1)
    """Samples per optimizer step, over all workers together."""

    learning_rate: float = Field(default=1e-3, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Adam's learning rate at the start of a round (also `--lr`); it decreases to a tenth along a cosine."""

    max_optimizer_steps: int | None = Field(default=6000, ge=1)
    """Largest number of optimizer steps per round; as the data grow with the rounds, fewer passes are made. Where
    `epochs` is given there is no such limit (null) unless it is given too."""

    hidden_size: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(default=(256,), min_length=1)
    """Width of the hidden layers: one number for all `num_layers`, or one per layer."""

    num_layers: int = Field(default=2, ge=1, le=16)
    """Number of hidden layers of the policy and of the critic."""

    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Nonlinearity of the hidden layers."""

    val_split: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the data that is held out for validation, in whole blocks of `val_block_s` with a gap around them. A
    random split would put states nearly equal to the training data into the validation data."""

    val_block_s: float = Field(default=1.0, gt=0)
    """Length of the validation blocks, seconds."""

    log_std_floor: float = Field(default=-2.3, ge=-5, le=1)
    """Lower bound of the logarithm of the clone's standard deviation, which is fitted to the residuals (Gaussian
    likelihood). Reinforcement learning needs some exploration, but a standard deviation of 1 makes the clone fall at
    once."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""

    critic_warm_s: float = Field(default=20.0, ge=0)
    """Seconds that every environment runs the finished clone to fit the critic. 0 leaves the critic untrained."""

    critic_warm_epochs: int = Field(default=20, ge=1)
    """Passes over the rollouts of `critic_warm_s`."""

    critic_warm_gamma: float = Field(default=0.99, gt=0, lt=1)
    """Discount of the returns that the critic is fitted to; use the same one in reinforcement learning."""

    cloning_device: str = Field(
        default="cpu",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        validation_alias=AliasChoices("cloning_device", "device"),
    )
    """Device of the supervised training (also `--device`). The simulation runs on the CPU."""

    @model_validator(mode="before")
    @classmethod
    def _asked_for_epochs(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Lets the number of passes that somebody asks for win over the default limit."""
        if "epochs" in values and "max_optimizer_steps" not in values:
            return {**values, "max_optimizer_steps": None}
        return values

    @model_validator(mode="after")
    def _one_width_per_layer(self) -> CloningSettings:
        if len(self.hidden_size) not in (1, self.num_layers):
            raise UserError(
                f"hidden_size has {len(self.hidden_size)} widths and num_layers is {self.num_layers}: give one width, "
                "or one per layer"
            )
        return self

    @property
    def layer_widths(self) -> tuple[int, ...]:
        """Width of each hidden layer."""
        return self.hidden_size * self.num_layers if len(self.hidden_size) == 1 else self.hidden_size


class CloneRounds(CloneTaskSettings):
    """All that the rounds of a cloning depend on."""

    cloning: CloningSettings = CloningSettings()

    seed: int = 0
    """Seed of weights, data and batches."""
