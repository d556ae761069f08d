"""The clipped policy loss of PPO and GRPO (arXiv 1707.06347, 2402.03300).

    loss = max(-A * ratio, -A * clip(ratio, 1 - epsilon, 1 + epsilon_high))

A pessimistic bound: no gradient beyond the range in the direction that would leave it further.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learners.grpo.loss import GRPOInputs
from learners.grpo.settings import GRPOSettings


def clipped_loss(ratio: Tensor, inputs: GRPOInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M pairs [M] from their ratios [M]; see `learners.grpo.loss.PolicyLoss`."""
    low, high = settings.clip_range
    return torch.maximum(-inputs.advantages * ratio, -inputs.advantages * ratio.clamp(low, high))
