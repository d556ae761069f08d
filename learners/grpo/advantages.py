"""Group-relative advantages: how much better a sample is than the other samples of its prompt.

Pure NumPy in float64. The standard deviation is that of the population, because groups are small (at N = 4 the unbiased
one is 15 % larger); a floor is added to it, by default 1e-4, because with 1e-8 rounding noise of equal rewards becomes
advantages of 1.5; groups without variance get advantage 0 exactly and are counted.

Legend: P groups (prompts), N samples of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError

RELATIVE_SPREAD = 1e-6
"""Rewards of a group count as equal if max - min is below this fraction of their size (of 1 for smaller ones)."""


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """One reward term [P, N] with its weight in the total."""

    weight: float
    rewards: np.ndarray


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of P groups of N samples, with metrics."""

    values: np.ndarray
    """Advantages [P, N] float32."""
    zero_variance: np.ndarray
    """[P] bool: all samples of the group have the same reward, so its advantages are exactly 0."""
    metrics: dict[str, float]
    """reward_std (of all rewards), reward_group_std (mean over groups); of the advantages std, abs_max and
    clip_fraction (the fraction that was clipped); zero_variance_groups and zero_variance_share."""


def group_advantages(
    rewards: np.ndarray, settings: GRPOSettings, terms: Mapping[str, WeightedTerm] | None = None
) -> Advantages:
    """Advantages of P groups of N samples.

    A_i = clamp((r_i - mean_g) / (std + floor), +-advantage_clip); std of the group (GRPO, arXiv 2402.03300, eq. 3), of
    all rewards of the update (Flow-GRPO's `global_std`), or 1 (Dr. GRPO, arXiv 2503.20783). With `advantage_terms =
    each` the terms are normalised one by one and summed with weights divided by their sum (MixGRPO).

    Args:
        rewards: total rewards [P, N]; with `each` only used for the metrics.
        settings: options of GRPO.
        terms: weighted terms, required if `settings.advantage_terms` is `each`.

    Raises:
        ValueError: not two-dimensional, fewer than two samples, not finite, or terms missing or of another shape.
    """
    rewards = _checked("rewards", rewards)
    if settings.advantage_terms == "each":
        parts = _checked_terms(terms, rewards.shape)
        scale = sum(abs(term.weight) for term in parts.values())
        values = np.zeros(rewards.shape)
        zero_variance = np.ones(len(rewards), bool)
        for term in parts.values():
            advantages, equal = _normalised(term.rewards, settings)
            values += term.weight / scale * advantages
            zero_variance &= equal
    else:
        values, zero_variance = _normalised(rewards, settings)
    clipped = np.clip(values, -settings.advantage_clip, settings.advantage_clip)
    metrics = {
        "reward_std": float(rewards.std()),
        "reward_group_std": float(rewards.std(axis=1).mean()),
        "std": float(clipped.std()),
        "abs_max": float(np.abs(clipped).max()),
        "clip_fraction": float((clipped != values).mean()),
        "zero_variance_groups": float(zero_variance.sum()),
        "zero_variance_share": float(zero_variance.mean()),
    }
    return Advantages(clipped.astype(np.float32), zero_variance, metrics)


def _normalised(rewards: np.ndarray, settings: GRPOSettings) -> tuple[np.ndarray, np.ndarray]:
    """Unclipped advantages [P, N], and [P] whether a group has no variance."""
    spread = rewards.max(axis=1) - rewards.min(axis=1)
    equal = spread <= RELATIVE_SPREAD * np.maximum(1.0, np.abs(rewards).max(axis=1))
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if settings.advantage_std == "group":
        centred /= rewards.std(axis=1, keepdims=True) + settings.advantage_std_floor
    elif settings.advantage_std == "batch":
        centred /= rewards.std() + settings.advantage_std_floor
    centred[equal] = 0.0
    return centred, equal


def _checked(name: str, rewards: np.ndarray) -> np.ndarray:
    rewards = np.asarray(rewards, np.float64)
    if rewards.ndim != 2 or rewards.shape[0] < 1 or rewards.shape[1] < 2:
        raise ValueError(f"{name} have shape {rewards.shape}; expected [groups, samples] with at least two samples")
    if not np.isfinite(rewards).all():
        group, sample = np.argwhere(~np.isfinite(rewards))[0]
        value = rewards[group, sample]
        raise ValueError(f"{name}[{group}, {sample}] is {value}: rewards must be finite before advantages are computed")
    return rewards


def _checked_terms(terms: Mapping[str, WeightedTerm] | None, shape: tuple[int, ...]) -> dict[str, WeightedTerm]:
    """The terms with a weight other than 0, as float64."""
    if terms is None:
        raise ValueError("advantage_terms is 'each': group_advantages needs the weighted reward terms")
    used = {}
    for name, term in terms.items():
        rewards = _checked(f"rewards of term {name!r}", term.rewards)
        if rewards.shape != shape:
            raise ValueError(f"reward term {name!r} has shape {rewards.shape}; the total has {shape}")
        if term.weight != 0:
            used[name] = WeightedTerm(term.weight, rewards)
    if not used:
        raise UserError("advantage_terms is 'each', but no reward term has a weight other than 0")
    return used
