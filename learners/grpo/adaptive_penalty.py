"""The weight of the KL penalty, adapted to a target: PPO's rule (Schulman et al. 2017, section 4)."""

from __future__ import annotations

from learners.grpo.settings import GRPOSettings

TOLERANCE = 1.5
"""The weight stays while the KL is within this factor of the target."""
MOST_CHANGE = 1024.0
"""Largest factor between the weight and `kl_penalty`, either way, so that it comes back within ten updates."""


def adapted_penalty(weight: float, kl: float, settings: GRPOSettings) -> float:
    """The weight of the next update.

    Args:
        weight: of the update that was made.
        kl: its exact KL to the reference, mean over its pairs.
        settings: with a `kl_target` above 0.
    """
    if kl > settings.kl_target * TOLERANCE:
        weight *= 2.0
    elif kl < settings.kl_target / TOLERANCE:
        weight /= 2.0
    return min(max(weight, settings.kl_penalty / MOST_CHANGE), settings.kl_penalty * MOST_CHANGE)
