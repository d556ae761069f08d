"""ReFL (Xu et al. 2023, ImageReward 2304.05977): the reward of the motion that is predicted at a random late step.

Denoising stops at a drawn step; the clean motion is predicted there in one step with a gradient, and its reward rises.
MotionCritic tunes MDM in this way.
"""

from __future__ import annotations

from torch import Tensor

from learners.grpo.gradients.loss import GradientInputs, drawn_position, gradient_loss
from learners.grpo.settings import GRPOSettings


@gradient_loss(drawn_position)
def refl_loss(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
    """Loss of the predicted motion."""
    return inputs.loss_of(inputs.policy.x0)
