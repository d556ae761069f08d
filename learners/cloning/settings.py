"""Options of the supervised training of cloning. Imports neither torch nor ray.

Names are those of the DeepMimic guide's `train_sft.py` where it has one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, model_validator

from motions.base.errors import UserError
from motions.settings import Settings
from rollouts.imitation.settings import CloneTaskSettings


class CloningSettings(Settings):
    """Supervised training of a controller on an expert's actions."""

    epochs: int = Field(default=100, ge=1)
    """Passes over all data so far, in every round of data collection."""

    batch_size: int = Field(default=256, ge=1)
    """Samples per optimizer step, over all workers together."""

    learning_rate: float = Field(default=1e-3, gt=0, validation_alias=AliasChoices("learning_rate", "lr"))
    """Adam's learning rate at the start of a round (also `--lr`); it falls to a tenth along a cosine."""

    max_optimizer_steps: int = Field(default=6000, ge=1)
    """Optimizer steps of a round, at most: as the data grows with the rounds, the passes become fewer."""

    hidden_size: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(256,), min_length=1)
    """Width of the hidden layers: one for all `num_layers`, or one for each."""

    num_layers: int = Field(default=2, ge=1)
    """Hidden layers of the actor and of the critic."""

    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Nonlinearity of the hidden layers."""

    val_split: float = Field(default=0.1, ge=0, lt=1)
    """Share of the data that is held out, in whole blocks of `val_block_s` with a gap around them: neighbouring states
    are nearly equal, and a random shuffle would put copies of the training data into the validation."""

    val_block_s: float = Field(default=1.0, gt=0)
    """Length of those blocks in seconds."""

    log_std_floor: float = Field(default=-2.3, ge=-5, le=1)
    """The clone's standard deviation is trained on its residuals (Gaussian likelihood), but its logarithm never falls
    below this: reinforcement learning has to explore, and a std of 1 destroys a clone at the first sampled step."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay."""

    critic_warm_s: float = Field(default=20.0, ge=0)
    """Seconds that every environment runs the finished clone for the critic's warm start. 0: the critic stays
    untrained."""

    critic_warm_epochs: int = Field(default=20, ge=1)
    """Passes over those rollouts."""

    critic_warm_gamma: float = Field(default=0.99, gt=0, lt=1)
    """Discount of the returns that the critic learns; give reinforcement learning the same one."""

    cloning_device: str = Field(
        default="cpu",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        validation_alias=AliasChoices("cloning_device", "device"),
    )
    """Where the supervised training runs (also `--device`). Simulation is on the CPU."""

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
        """Width of every hidden layer."""
        return self.hidden_size * self.num_layers if len(self.hidden_size) == 1 else self.hidden_size


class CloneRounds(CloneTaskSettings, CloningSettings):
    """Everything that the rounds of a cloning depend on."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, data and batches."""
