"""The policy loss of Simple Policy Optimization (SPO, arXiv 2401.16025).

    loss = -A * ratio + |A| / (2 epsilon) * (ratio - 1)^2

The smallest loss lies at the edge of the clip range, ratio = 1 + epsilon * sign(A). A pair beyond it is pulled back,
where the clipped loss lets go of it: with several optimizer steps an update, clipped ratios go on drifting, as other
pairs move the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learners.grpo.loss import GRPOInputs
from learners.grpo.settings import GRPOSettings


def spo_loss(ratio: Tensor, inputs: GRPOInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M pairs [M] from their ratios [M]; see `learners.grpo.loss.PolicyLoss`."""
    low, high = settings.clip_range
    advantages = inputs.advantages
    epsilon = torch.where(advantages > 0, high - 1.0, 1.0 - low)
    return -advantages * ratio + advantages.abs() / (2.0 * epsilon) * (ratio - 1.0).square()
