"""The GRPO loss of a diffusion policy, as a pure function of Gaussians.

Every stochastic denoising step is an action: pi_theta(x_prev | x_t, c) = N(mean_theta, std^2 I) with a fixed std. A
pair (sample, step) is one term of the loss; the loss of an optimizer step is the mean over its pairs.

    here          GRPO 2402.03300  Flow-GRPO 2505.05470  DDPO 2305.13301  meaning
    advantages    A_hat_i          A_hat^i               normalised r     one per sample, for all its steps
    ratio         pi/pi_old        r_t^i(theta)          importance ratio exp(l_theta - l_old) of one step
    clip_epsilon  epsilon          epsilon               clip range       half-width of the ratio's range
    kl_penalty    beta             beta                  -                weight of the KL to the reference
    reference     pi_ref           pi_ref                -                the base weights (adapters off)
    kl_ref        D_KL             D_KL                  -                exact, |mean - mean_ref|^2 / (2 std^2)

Steps of `grpo_loss` for each pair:
    1. log-probability l of the drawn state, mean over the D * T valid elements, fp32
    2. ratio = exp(l - l_old), with l_old recorded by the rollout
    3. policy loss of ratio and advantage: the function that `policy_loss` names (`learners/grpo/losses/`)
    4. penalty = KL to the reference in closed form: never negative, zero at the base weights, and with the right
       gradient, which log pi - log pi_ref as a loss does not have
    5. loss = policy loss + kl_penalty * penalty

There is no clamp on the log-ratio: the mean over elements keeps it small, and where it is not small something is wrong.
Legend: M pairs of a micro-batch, T frames (padded), D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from learners.grpo.settings import POLICY_LOSSES, GRPOSettings
from motions.base.named import load_named
from rollouts.diffusion.schedule import DiffusionSchedule, flow_time
from rollouts.diffusion.transitions import Transition
from rollouts.gaussians import gaussian_kl, gaussian_log_prob, masked_mean


@dataclass(frozen=True, slots=True)
class GRPOInputs:
    """M pairs (sample, step) with the Gaussians of the policy and of the reference."""

    policy: Transition
    """Gaussians of the policy being trained; they carry the gradient."""
    reference: Transition
    """Gaussians of the reference at the same states, without gradient."""
    next_states: Tensor
    """States [M, T, D] that the rollout sampled."""
    old_log_probs: Tensor
    """Their log-probabilities [M] under the policy that sampled them, mean over valid elements."""
    advantages: Tensor
    """Advantages [M]."""
    mask: Tensor | None
    """[M, T] bool, True = real frame; None = all are real."""
    noise_drops: Tensor
    """Change of noise level of each step [M] (`noise_level_drops`), for `kl_weighting = dt`."""
    kl_old: Tensor | None = None
    """Exact KL(old || new) of each step [M], with its gradient; None before the first optimizer step, where it is 0."""
    mean_std: float | None = None
    """With `ratio_normalisation` the mean standard deviation of all steps that draw noise, else None."""


class PolicyLoss(Protocol):
    """A pure function of ratio and advantage, differentiable in the ratio."""

    def __call__(self, ratio: Tensor, inputs: GRPOInputs, settings: GRPOSettings) -> Tensor:
        """Loss [M] of M pairs with these ratios [M]; at ratio 1 its gradient must be -advantage, as that of every
        policy gradient."""
        ...


@dataclass(frozen=True, slots=True)
class GRPOTerms:
    """Terms of M pairs, each [M] fp32. `loss` carries the gradient, the others are detached."""

    loss: Tensor
    policy_loss: Tensor
    penalty: Tensor
    """The term that `kl_penalty` multiplies."""
    kl_ref: Tensor
    """Exact KL of the step to the reference, mean over valid elements."""
    log_ratio: Tensor
    clipped_low: Tensor
    """1 where the ratio is under its range and the advantage negative, so that the clipped loss has no gradient."""
    clipped_high: Tensor
    """1 where the ratio is over its range and the advantage positive."""
    left_out: Tensor
    """1 where the policy loss is exactly 0 although the advantage is not: pairs that the loss leaves out."""

    def detached(self) -> GRPOTerms:
        """The same values without the autograd graph."""
        return GRPOTerms(*(getattr(self, field.name).detach() for field in fields(self)))

    def described(self, pair: int) -> str:
        """Numbers of a pair, for messages."""
        return f"log-ratio {float(self.log_ratio[pair])}, KL {float(self.kl_ref[pair])}"


def grpo_loss(inputs: GRPOInputs, settings: GRPOSettings, policy_loss: PolicyLoss | None = None) -> GRPOTerms:
    """Loss and its terms for M pairs; the steps are numbered in the module's docstring.

    Args:
        policy_loss: by default the one that the settings name.

    Raises:
        UserError: a pair belongs to a deterministic step (std 0), or there is no such policy loss.
    """
    chosen: PolicyLoss = policy_loss or load_named("policy_loss", settings.policy_loss, POLICY_LOSSES)
    policy, reference = inputs.policy, inputs.reference
    log_probs = gaussian_log_prob(inputs.next_states, policy.mean, policy.std, inputs.mask)
    log_ratio = log_probs - inputs.old_log_probs
    if inputs.mean_std is not None:
        log_ratio = normalised_log_ratio(log_ratio, policy.std, inputs.kl_old, inputs.mean_std)
    ratio = log_ratio.exp()
    low, high = settings.clip_range
    surrogate = chosen(ratio, inputs, settings)
    kl_ref = gaussian_kl(policy.mean, reference.mean, policy.std, inputs.mask)
    if settings.kl_weighting == "k3":
        penalty = k3(gaussian_log_prob(inputs.next_states, reference.mean, policy.std, inputs.mask) - log_probs)
    else:
        penalty = weighted_kl(kl_ref, policy, reference, inputs.mask, inputs.noise_drops, settings)
    return GRPOTerms(
        loss=surrogate + settings.kl_penalty * penalty,
        policy_loss=surrogate.detach(),
        penalty=penalty.detach(),
        kl_ref=kl_ref.detach(),
        log_ratio=log_ratio.detach(),
        clipped_low=((ratio < low) & (inputs.advantages < 0)).float(),
        clipped_high=((ratio > high) & (inputs.advantages > 0)).float(),
        left_out=((surrogate == 0) & (inputs.advantages != 0)).float(),
    )


def normalised_log_ratio(log_ratio: Tensor, std: Tensor, kl_old: Tensor | None, mean_std: float) -> Tensor:
    """Log-ratios [M] with mean 0 over the old policy's draws and, for a mean that moved equally far, the same spread in
    all steps (GRPO-Guard, arXiv 2510.22319).

    A log-ratio is noise . d / std - |d|^2 / (2 std^2), with d how far the mean has moved and noise the standard normal
    draw. The second term is the KL(old || new), which is added; what is left is multiplied by std / mean_std.

    Args:
        log_ratio: log-ratios [M].
        std: of the steps, [M].
        kl_old: see `GRPOInputs`.
        mean_std: common to all steps, so that the clip range keeps its meaning.
    """
    centred = log_ratio if kl_old is None else log_ratio + kl_old
    return centred * (std / mean_std)


def k3(log_quotient: Tensor) -> Tensor:
    """Schulman's estimate [M] of KL(policy || reference) from draws of the policy, exp(d) - d - 1, never negative.

    Args:
        log_quotient: d = log reference - log policy of the drawn states, [M].
    """
    return torch.expm1(log_quotient) - log_quotient


def weighted_kl(
    kl_ref: Tensor,
    policy: Transition,
    reference: Transition,
    mask: Tensor | None,
    noise_drops: Tensor,
    settings: GRPOSettings,
) -> Tensor:
    """The quantity [M] that `kl_penalty` multiplies, as `kl_weighting` says.

    Args:
        kl_ref: KL of each step to the reference [M].
        mask: [M, T] bool, True = real frame; None = all are real.
        noise_drops: change of noise level of each step [M].
    """
    if settings.kl_weighting == "exact":
        return kl_ref
    if settings.kl_weighting == "dt":
        return kl_ref * noise_drops
    return masked_mean((policy.x0 - reference.x0).square(), mask)


def noise_level_drops(schedule: DiffusionSchedule) -> np.ndarray:
    """Decrease of the noise level in each position's step, as time of the rectified flow's path (`flow_time`): they are
    Flow-GRPO's |dt| and sum to the first time.

    Returns:
        [K] float64, by position (0 = noisiest).
    """
    return (flow_time(schedule.alphas_cumprod) - flow_time(schedule.alphas_cumprod_prev))[::-1].copy()


def grpo_metrics(terms: Sequence[GRPOTerms]) -> dict[str, float]:
    """Means over the pairs of all micro-batches, and statistics of the unclipped ratio.

    `approx_kl` is Schulman's k3 estimate of KL(old || new) from the ratio, (ratio - 1) - log ratio, never negative.
    """

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(term, name) for term in terms])

    # In double precision: for ratios near 1 the difference in `approx_kl` is far below single precision.
    log_ratio = joined("log_ratio").double()
    ratio = log_ratio.exp()
    return {
        "loss": float(joined("loss").detach().mean()),
        "policy_loss": float(joined("policy_loss").mean()),
        "kl_loss": float(joined("penalty").mean()),
        "kl_reference": float(joined("kl_ref").mean()),
        "approx_kl": float((torch.expm1(log_ratio) - log_ratio).mean()),
        "ratio_mean": float(ratio.mean()),
        "ratio_std": float(ratio.std(correction=0)),
        "ratio_min": float(ratio.min()),
        "ratio_max": float(ratio.max()),
        "clip_fraction": float((joined("clipped_low") + joined("clipped_high")).mean()),
        "clip_fraction_low": float(joined("clipped_low").mean()),
        "clip_fraction_high": float(joined("clipped_high").mean()),
        "left_out_fraction": float(joined("left_out").mean()),
    }


def clipped_ratio_metrics(terms: Sequence[GRPOTerms], clip_range: tuple[float, float]) -> dict[str, float]:
    """Statistics of the ratio after it is clipped, over the pairs of all micro-batches: what of an update's importance
    weights is left by the clip range, beside those of `grpo_metrics` before."""
    ratio = torch.cat([term.log_ratio for term in terms]).double().exp().clamp(*clip_range)
    return {
        "ratio_clipped_mean": float(ratio.mean()),
        "ratio_clipped_std": float(ratio.std(correction=0)),
        "ratio_clipped_min": float(ratio.min()),
        "ratio_clipped_max": float(ratio.max()),
    }
