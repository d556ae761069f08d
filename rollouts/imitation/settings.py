"""Options of cloning's expert and of the data it labels. Imports neither torch nor ray.

Names are those of the DeepMimic guide's `train_sft.py` where it has one.
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
    """The expert and the data it labels."""

    expert: str = Field(default="balance", min_length=1)
    """Who labels the states. `balance`: the reference pose with velocity feed-forward, corrected in proportion to the
    errors of root attitude and velocity. `reference`: without the correction. Otherwise the folder of a trained
    controller."""

    balance_gains: Path | None = None
    """File of feedback gains for `--expert balance`, as `python -m jobs.balance` writes it; by default the ones that
    ship for the clip. A clip without any is labelled by the reference alone."""

    lookahead: str | None = None
    """Which reference pose is the label at time t: the one `lookahead` later. `0.033s` is in seconds, a plain number
    (the guide's) counts control steps; fractions are interpolated. By default what the environment's `lookahead_s`
    says, one control step."""

    dagger_rounds: int = Field(default=3, ge=0)
    """Rounds after the first, in which the clone itself acts more and more and the expert labels what it visits. 0:
    the expert's own, noisy, rollouts only."""

    dagger_betas: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(1.0, 0.5, 0.25, 0.0), min_length=1)
    """Share of steps in which the expert acts, by round, the first included; the last value holds for further
    rounds."""

    num_demo_envs: int = Field(default=64, ge=1)
    """Environments that collect data, over all workers together."""

    demo_s: float = Field(default=8.0, gt=0)
    """Seconds that each of them simulates in a round; after a fall it starts again at a random phase."""

    demo_noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise on the executed actions, radians of PD target; labels stay clean. It brings the
    data states off the motion, with the way back."""

    demo_noise_hold_s: float = Field(default=0.1, gt=0)
    """The noise is redrawn after so many seconds: held noise pushes further than white noise."""

    label_weighting: Literal["uniform", "reward"] = "uniform"
    """Weight of a sample in the loss: the same for all, or the step's reward, so that hopeless states count less."""

    refine_actions: bool = False
    """Correct the expert's labels by simulation before they are cloned."""

    refine_method: RefineMethod = "feedback"
    """How. `feedback`: roll the labels out and add a share of the joint error each of them left (iterative learning).
    `gradient`: Gauss-Newton on the tracking error after `refine_horizon` steps, with finite-difference Jacobians.
    `mpc`: random perturbations, averaged by how well they track. `invdyn`: torques of inverse dynamics that agree
    with the foot contacts, as offsets of the target. `none`: nothing."""

    refine_iterations: int = Field(default=3, ge=1)
    """Passes of the refinement."""

    refine_rate: float = Field(default=0.5, gt=0, le=1)
    """Share of the joint error (feedback) or of the Gauss-Newton step (gradient) that a pass adds."""

    refine_samples: int = Field(default=20, ge=1)
    """Perturbations per label and pass of `mpc`."""

    refine_noise: float = Field(default=0.1, gt=0)
    """Standard deviation of those perturbations, radians."""

    refine_horizon: int = Field(default=3, ge=1)
    """Control steps after which `gradient` and `mpc` compare with the motion; the label acts in the first."""

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
        """The lookahead in seconds; None: the environment's own."""
        if self.lookahead is None:
            return None
        if self.lookahead.endswith("s"):
            return float(self.lookahead.removesuffix("s"))
        return float(self.lookahead) / control_hz

    def beta(self, round_index: int) -> float:
        """Share of expert steps in a round, counted from 0."""
        return self.dagger_betas[min(round_index, len(self.dagger_betas) - 1)]


MAX_LOOKAHEAD_S = 0.5
"""The bound of the environment's `lookahead_s`."""


class CloneTaskSettings(DeepMimicSettings, DemonstrationSettings):
    """The task, the expert and its data."""

    @model_validator(mode="after")
    def _one_lookahead(self) -> Self:
        if self.lookahead is not None and self.lookahead_s is not None:
            raise UserError("lookahead and lookahead_s are both given; they are the same time in two units")
        seconds = self.label_lookahead_s(self.control_hz)
        if seconds is not None and seconds > MAX_LOOKAHEAD_S:
            raise UserError(
                f"lookahead is {self.lookahead!r}, {seconds:.3g} s at {self.control_hz} Hz; legal: 0 to "
                f"{MAX_LOOKAHEAD_S:g} s, which are {MAX_LOOKAHEAD_S * self.control_hz:g} control steps"
            )
        return self

    @property
    def task_settings(self) -> DeepMimicSettings:
        """The environment's options, with `lookahead` in seconds."""
        values = {name: getattr(self, name) for name in DeepMimicSettings.model_fields}
        if self.lookahead is not None:
            values["lookahead_s"] = self.label_lookahead_s(self.control_hz)
        return DeepMimicSettings.model_validate(values)
