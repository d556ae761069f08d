"""One-step targets: the policy learns to predict x + eta dR/dx where it predicted x.

The reward's gradient never flows through the policy: it makes a better motion of the one that the policy predicts, and
that is the target of a regression from the same state. So the step in motion space is known, whatever the scale of the
reward, and several optimizer steps (`num_epochs`) approach one target. The first gradient has the direction of ReFL's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learners.grpo.gradients.loss import GradientInputs, drawn_position, gradient_loss
from learners.grpo.settings import GRPOSettings
from rollouts.gaussians import masked_mean

_LEAST = 1e-20
"""Mean squares of gradients below this are 0."""


@gradient_loss(drawn_position, reads_old=True)
def opsd_loss(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
    """Mean squared distance to the target over a motion's valid numbers."""
    with torch.enable_grad():
        motions = inputs.old_x0.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(-inputs.loss_of(motions).sum(), motions)
    square = masked_mean(gradient.square(), inputs.mask)
    size = torch.where(square > _LEAST, square.clamp_min(_LEAST).rsqrt(), 0.0)
    target = motions.detach() + settings.target_step * size[:, None, None] * gradient
    return masked_mean((inputs.policy.x0 - target).square(), inputs.mask)
