"""Options of the cloned expert and of its demonstrations. Imports neither torch nor ray.

Names follow `src/train_sft.py` of yelongshen/DeepMimic_mujoco where it has the option.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from envs.settings import DeepMimicSettings
from motions.base.errors import UserError
from motions.settings import Settings

RefineMethod = Literal["feedback", "gradient", "mpc", "invdyn", "none"]


class DemonstrationSettings(Settings):
    """The expert and its demonstrations."""

    expert: str = Field(default="balance", min_length=1)
    """Which expert labels the states. `balance`: the reference pose with velocity feed-forward, corrected in proportion
    to the errors of the root's attitude and velocity. `reference`: the same without correction. Any other value is the
    folder of a trained controller."""

    balance_gains: Path | None = None
    """File of feedback gains for `--expert balance`, as written by `python -m jobs.balance`; by default the gains that
    come with kinetune for the clip. A clip without gains is labelled by the reference alone."""

    lookahead: str | None = None
    """How far ahead of a state the reference pose is that becomes its label. `0.033s` is in seconds; a plain number
    counts control steps and may be a fraction. By default the environment's `lookahead_s`, one control step."""

    dagger_rounds: int = Field(default=3, ge=0)
    """Number of DAgger rounds after the first; in them the clone acts more and more and the expert labels the states it
    visits. 0 uses only rollouts of the expert with noise."""

    dagger_betas: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(1.0, 0.5, 0.25, 0.0), min_length=1)
    """Fraction of steps in which the expert acts, by round, the first included; the last value holds for later ones."""

    num_demo_envs: int = Field(default=64, ge=1)
    """Number of environments that collect demonstrations, over all workers together."""

    demo_s: float = Field(default=8.0, gt=0)
    """Seconds that each environment simulates per round; after a fall it restarts at a random phase."""

    demo_noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise on executed actions, radians of PD target; labels have no noise. It adds states
    off the motion, with labels that lead back."""

    demo_noise_hold_s: float = Field(default=0.1, gt=0)
    """Seconds after which the noise is redrawn; held noise moves the character further than white noise."""

    label_weighting: Literal["uniform", "reward"] = "uniform"
    """Weight of a sample in the loss: the same for all, or the reward of its step, so that bad states count less."""

    refine_actions: bool = False
    """Refine the expert's labels in simulation before they are cloned."""

    refine_method: RefineMethod = "feedback"
    """Method of refinement. `feedback`: roll the labels out and add a fraction of the joint error that each one left
    (iterative learning control). `gradient`: Gauss-Newton on the tracking error after `refine_horizon` steps, with
    finite-difference Jacobians. `mpc`: random perturbations, averaged by their reward. `invdyn`: torques of inverse
    dynamics consistent with the foot contacts, as offsets of the targets. `none`: no refinement."""

    refine_iterations: int = Field(default=3, ge=1)
    """Number of passes of the refinement."""

    refine_rate: float = Field(default=0.5, gt=0, le=1)
    """Fraction of the joint error (feedback) or of the Gauss-Newton step (gradient) that a pass applies."""

    refine_samples: int = Field(default=20, ge=1)
    """Number of perturbations per label and pass of `mpc`."""

    refine_noise: float = Field(default=0.1, gt=0)
    """Standard deviation of the perturbations of `mpc`, radians."""

    refine_horizon: int = Field(default=3, ge=1)
    """Control steps after which `gradient` and `mpc` compare with the motion; a label acts in the first of them."""

    @field_validator("lookahead")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is None:
            return None
        number = value.removesuffix("s").strip()
        try:
            amount = float(number)
        except ValueError:
            amount = -1.0
        if not 0.0 <= amount < 100.0:
            raise UserError(f"lookahead is {value!r}: expected a number of control steps, or seconds such as 0.033s")
        return value

    def label_lookahead_s(self, control_hz: float) -> float | None:
        """The lookahead in seconds; None means the environment's own."""
        if self.lookahead is None:
            return None
        if self.lookahead.endswith("s"):
            return float(self.lookahead.removesuffix("s"))
        return float(self.lookahead) / control_hz

    def beta(self, round_index: int) -> float:
        """Fraction of expert steps in a round, counted from 0."""
        return self.dagger_betas[min(round_index, len(self.dagger_betas) - 1)]


MAX_LOOKAHEAD_S = 0.5
"""Largest `lookahead_s` of the environment, seconds."""


class CloneTaskSettings(Settings):
    """A character, and the expert on it that is cloned."""

    character: DeepMimicSettings = DeepMimicSettings()
    demonstrations: DemonstrationSettings = DemonstrationSettings()

    @model_validator(mode="after")
    def _one_lookahead(self) -> Self:
        lookahead, hz = self.demonstrations.lookahead, self.character.control_hz
        if lookahead is not None and self.character.lookahead_s is not None:
            raise UserError("lookahead and lookahead_s are both given; they are the same time in two units")
        seconds = self.demonstrations.label_lookahead_s(hz)
        if seconds is not None and seconds > MAX_LOOKAHEAD_S:
            raise UserError(
                f"lookahead is {lookahead!r}, {seconds:.3g} s at {hz} Hz; legal: 0 to {MAX_LOOKAHEAD_S:g} s, which are "
                f"{MAX_LOOKAHEAD_S * hz:g} control steps"
            )
        return self

    @property
    def task_settings(self) -> DeepMimicSettings:
        """The environment's options, with `lookahead` converted to seconds."""
        if self.demonstrations.lookahead is None:
            return self.character
        seconds = self.demonstrations.label_lookahead_s(self.character.control_hz)
        return self.character.model_copy(update={"lookahead_s": seconds})
