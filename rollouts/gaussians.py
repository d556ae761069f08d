"""Log-densities, divergences and entropies of the three kinds of Gaussians in use, each with its own reduction.

gaussian_*           one denoising step: isotropic with a known standard deviation, mean over features and frames
action_*             a character's action: diagonal, summed over its entries
diagonal_gaussian_*  a latent: diagonal, given by mean and log-variance, mean over everything
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


def gaussian_log_prob(x_prev: Tensor, mean: Tensor, std: Tensor, mask: Tensor | None) -> Tensor:
    """log N(x_prev; mean, std^2 I), mean over valid elements: [N] float32.

    x_prev is detached: a sampled state is data, and its gradient would cancel the one through the mean.

    Args:
        x_prev: sampled states [N, T, D].
        mean: [N, T, D].
        std: [N], all above 0.
        mask: [N, T] bool, True = real frame; None = all are real.

    Raises:
        ValueError: a std is 0 (a deterministic step has no density).
    """
    _require_density(std)
    squares = (_at_least_fp32(x_prev.detach()) - _at_least_fp32(mean)).square()
    deviation = masked_mean(squares, mask) / (2.0 * std.square())
    return -deviation - torch.log(std) - 0.5 * math.log(2.0 * math.pi)


def gaussian_kl(mean: Tensor, ref_mean: Tensor, std: Tensor, mask: Tensor | None) -> Tensor:
    """Exact KL(N(mean, std^2 I) || N(ref_mean, std^2 I)) = |mean - ref_mean|^2 / (2 std^2), mean over valid elements.

    Shapes and errors as in `gaussian_log_prob`. Never negative, and 0 for equal means.
    """
    _require_density(std)
    squares = (_at_least_fp32(mean) - _at_least_fp32(ref_mean)).square()
    return masked_mean(squares, mask) / (2.0 * std.square())


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of values [N, T, D] over features and valid frames (mask [N, T] bool): [N].

    Each sample is reduced on its own, so the result does not depend on its neighbours in the batch.
    """
    per_frame = values.mean(dim=2)
    if mask is None:
        return per_frame.mean(dim=1)
    weights = mask.to(per_frame.dtype)
    return torch.where(mask, per_frame, torch.zeros_like(per_frame)).sum(dim=1) / weights.sum(dim=1)


def _at_least_fp32(values: Tensor) -> Tensor:
    """Converts half precision to fp32; float64 stays, so that gradients can be checked by finite differences."""
    return values if values.dtype == torch.float64 else values.float()


def _require_density(std: Tensor) -> None:
    if bool((std <= 0).any()):
        raise ValueError(
            "std is 0: a deterministic step (the last one, or one outside the SDE window) has no density; "
            "score stochastic positions only"
        )


def action_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density [...] of actions [..., A] under N(mean [..., A], diag exp(2 log_std)), summed over A."""
    scaled = (actions - mean) * torch.exp(-log_std)
    return -(0.5 * scaled.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def action_kl(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(old || new) [...] of two diagonal Gaussians, summed over A:

    sum_a log(s1 / s0) + (s0^2 + (m0 - m1)^2) / (2 s1^2) - 1/2.
    """
    ratio = torch.exp(2 * (old_log_std - log_std))
    distance = (old_mean - mean).square() * torch.exp(-2 * log_std)
    return (log_std - old_log_std + 0.5 * (ratio + distance - 1.0)).sum(-1)


def action_entropy(log_std: Tensor) -> Tensor:
    """Entropy of the diagonal Gaussian: sum_a log_std + log(2 pi e) / 2."""
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class Gaussian(NamedTuple):
    """A diagonal Gaussian over latents: `mu` [B, d] (the embedding) and `logvar` [B, d]."""

    mu: Tensor
    logvar: Tensor


def diagonal_gaussian_kl(first: Gaussian, second: Gaussian) -> Tensor:
    """KL(first || second) of diagonal Gaussians, mean over elements."""
    log_ratio = first.logvar - second.logvar
    distance = (first.mu - second.mu).square() / torch.exp(second.logvar)
    return 0.5 * (torch.exp(log_ratio) + distance - 1.0 - log_ratio).mean()
