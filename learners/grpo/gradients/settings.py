"""Options of losses that follow a reward's gradient; imports neither torch nor ray."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from learners.settings import ScheduledSettings
from motions.base.errors import UserError

WHOLE_CHAIN = 1000
"""What `denoise_lower` and `denoise_upper` count a whole denoising in."""


class GradientSettings(ScheduledSettings):
    """Losses that follow a reward's gradient (`policy_loss` refl, draft, align_prop, easytune, opsd)."""

    denoise_lower: int = Field(default=700, ge=0, le=WHOLE_CHAIN)
    """`refl` and `opsd`: least part of the denoising, in thousandths, that is done without gradient before the motion
    is predicted with it; for a model of 1000 steps, a number of steps."""

    denoise_upper: int = Field(default=900, ge=0, le=WHOLE_CHAIN)
    """Largest such part. Each update draws one number from `denoise_lower` to `denoise_upper`, for all its motions."""

    tune_timesteps: Literal["refl", "last"] = "refl"
    """`refl` and `opsd`: the denoising step that has the gradient, the drawn one (ReFL) or always the last one, as in
    MotionCritic's code, whatever it draws; that trains the final polish of a motion only."""

    ddim_sampling: bool = True
    """Rollouts of these losses draw no noise but their initial one. Otherwise every step up to the first one with a
    gradient draws the sampler's noise."""

    draft_steps: int = Field(default=1, ge=1)
    """`draft`: the last denoising steps that the gradient flows through (K of DRaFT-K); memory grows with them."""

    gradient_checkpointing: bool = False
    """`draft`: keep only the states between these steps and compute each step once more for its gradient; `align_prop`
    always does."""

    tuned_steps: int = Field(default=0, ge=0)
    """`easytune`: denoising steps of an update, drawn anew for each; 0: all."""

    target_step: float = Field(default=0.05, gt=0)
    """`opsd`: how far the target is from the prediction, along the reward's gradient; root of the mean square over a
    motion's numbers, in standard deviations of the features."""

    reward_shape: Literal["linear", "sigmoid", "relu"] = "linear"
    """The loss of a motion with total reward R: -R; sigmoid(-R), which has little gradient where |R| is large; or
    max(0, `reward_ceiling` - R). `opsd` takes the direction of the gradient alone."""

    reward_ceiling: float = 12.0
    """`reward_shape relu`: reward beyond which nothing more is earned."""

    reward_scale: float = Field(default=1.0, ge=0)
    """Weight of the reward's loss, beside `kl_penalty` and `mdm_loss_weight`; at 0 no reward is asked."""

    random_reward_loss: bool = False
    """Add a number from 0 to 1, drawn for each update, to every reward before `reward_shape`."""

    mdm_loss_weight: float = Field(default=0.0, ge=0)
    """Weight of the plain training loss of MDM on clips of the data, in the same optimizer steps, which keeps the
    policy near real motion."""

    mdm_batch_size: int = Field(default=16, ge=1)
    """Clips of that loss in an optimizer step."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.denoise_lower > self.denoise_upper:
            raise UserError(
                f"denoise_lower is {self.denoise_lower}, more than denoise_upper, which is {self.denoise_upper}"
            )
        if self.random_reward_loss and self.reward_shape == "linear":
            raise UserError(
                "random_reward_loss changes nothing with reward_shape 'linear', whose gradient is the same everywhere; "
                "give sigmoid or relu"
            )
        return self
