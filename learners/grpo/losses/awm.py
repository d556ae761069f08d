"""The policy loss of Advantage Weighted Matching (AWM, arXiv 2509.25050): the error of pretraining, weighted by A.

    ratio = exp(beta (e_old - e_policy)),  e = squared error / mean error of the old policy in the draw
    loss  = max(-A ratio, -A clip(ratio, 1 - epsilon, 1 + epsilon_high)) / beta

The denoising error stands for minus the log-likelihood, as in the evidence lower bound, so that PPO's ratio and clip
range mean the same as in GRPO. With one optimizer step an update the gradient is that of A e. With `kl_average_decay`
the KL penalty refers to an average of the policy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learners.grpo.motion_loss import MotionInputs, motion_loss
from learners.grpo.settings import GRPOSettings


@motion_loss()
def awm_loss(inputs: MotionInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M rows [M]; see `learners.grpo.motion_loss.MotionLoss`."""
    beta = settings.loss_beta
    low, high = settings.clip_range
    ratio = (beta * (inputs.relative_error(inputs.old) - inputs.relative_error(inputs.policy))).exp()
    advantages = inputs.advantages
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(low, high)) / beta
