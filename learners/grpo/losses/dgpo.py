"""The policy loss of Direct Group Preference Optimization (DGPO, arXiv 2510.08425).

    margin = mean over a draw's samples of A (e_reference - e_policy),  e = squared error / mean error of the old policy
    loss   = -2 / beta log sigmoid(beta margin), the same for all samples of the draw

The good samples of a group are preferred to its bad ones, each weighted by |A|: with respect to the reference the
policy is to denoise the former better and the latter worse. Where that has been reached the preference saturates and
the gradient fades. Samples of a draw share level and noise (`share_noise`), so that their errors differ by the motions
alone. The factor 2 / beta makes the gradient at margin 0 that of the mean of A e.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from learners.grpo.motion_loss import MotionInputs, motion_loss
from learners.grpo.settings import GRPOSettings


@motion_loss()
def dgpo_loss(inputs: MotionInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M rows [M]; see `learners.grpo.motion_loss.MotionLoss`."""
    beta = settings.loss_beta
    gained = inputs.relative_error(inputs.reference) - inputs.relative_error(inputs.policy)
    return -2.0 / beta * logsigmoid(beta * inputs.draw_means(inputs.advantages * gained))
