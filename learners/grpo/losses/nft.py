"""The policy loss of DiffusionNFT (Diffusion Negative-aware Fine-Tuning, arXiv 2509.16117), for networks that predict
x0.

    r    = 1/2 + A / (2 advantage_clip), in [0, 1]
    x+   = beta x_policy + (1 - beta) x_old
    x-   = (1 + beta) x_old - beta x_policy
    loss = advantage_clip / beta * (r |x+ - x0|^2 / w+ + (1 - r) |x- - x0|^2 / w-)

x+ comes nearer to good motions. x- is the mirror image of the policy's change and comes nearer to bad ones, so that the
policy itself goes away from them. w is the mean absolute error of the same prediction, without gradient, which makes
all noise levels count alike. The factor in front makes the first gradient A times that of the error, whatever beta and
the clip are; with a smaller beta the policy moves further before the two errors hold it.
"""

from __future__ import annotations

from torch import Tensor

from learners.grpo.motion_loss import LEAST_ERROR, MotionInputs, motion_loss
from learners.grpo.settings import GRPOSettings
from rollouts.gaussians import masked_mean


@motion_loss(largest_beta=1.0)
def nft_loss(inputs: MotionInputs, settings: GRPOSettings) -> Tensor:
    """Loss of M rows [M]; see `learners.grpo.motion_loss.MotionLoss`."""
    beta, limit = settings.loss_beta, settings.advantage_clip
    share = 0.5 + 0.5 * (inputs.advantages / limit).clamp(-1.0, 1.0)
    towards = beta * inputs.policy + (1.0 - beta) * inputs.old
    away = (1.0 + beta) * inputs.old - beta * inputs.policy
    return limit / beta * (share * _normalised(towards, inputs) + (1.0 - share) * _normalised(away, inputs))


def _normalised(predicted: Tensor, inputs: MotionInputs) -> Tensor:
    scale = masked_mean((predicted.detach() - inputs.motions).abs(), inputs.mask)
    return inputs.error(predicted) / scale.clamp_min(LEAST_ERROR)
