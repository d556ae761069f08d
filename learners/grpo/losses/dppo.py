"""The policy loss of Flow-DPPO (arXiv 2606.11025): a mask of the exact divergence instead of a clipped ratio.

    loss = -A * ratio * keep
    keep = 0 where KL(old || new) > kl_bound and (ratio > 1 and A > 0, or ratio < 1 and A < 0), else 1

A ratio is one noisy sample of how far a step's policy has moved; a denoising step is a Gaussian, so its KL is known
exactly. Pairs over the bound whose update would move the policy further away are left out; those that pull it back
stay.
"""

from __future__ import annotations

from torch import Tensor

from learners.grpo.loss import GRPOInputs
from learners.grpo.settings import GRPOSettings


def dppo_loss(ratio: Tensor, inputs: GRPOInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M pairs [M] from their ratios [M]; see `learners.grpo.loss.PolicyLoss`."""
    loss = -inputs.advantages * ratio
    if inputs.kl_old is None:
        return loss
    moves_away = (ratio.detach() - 1.0) * inputs.advantages > 0
    return loss.masked_fill(moves_away & (inputs.kl_old > settings.kl_bound), 0.0)
