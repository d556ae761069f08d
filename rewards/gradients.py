"""Rewards as differentiable functions of a motion, for losses that follow their gradients.

A scorer that declares `differentiable` has a method beside `score`:

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor: ...

It gives the main term [N], which `score` computes of arrays, for N motions of one prompt: features [N, T, D] in
physical units on any device, lengths [N]. Gradients flow to the features. The total is the same weighted sum as
elsewhere (`rewards/mixing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.skeleton.skeletons import Skeleton
from rewards.scorers import build_scorers, rewards_of
from rewards.settings import RewardSettings
from rollouts.settings import CheckpointSettings


class DifferentiableScorer(Protocol):
    """What a scorer also has whose declaration says `differentiable`."""

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """The main term [N] of N motions of one prompt."""
        ...


class MotionReward(Protocol):
    """A differentiable reward of the motions of one prompt."""

    def __call__(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """Rewards [N] of features [N, T, D] in physical units."""
        ...


@dataclass(frozen=True, slots=True)
class WeightedRewards:
    """The total of a run's differentiable rewards: a `MotionReward`."""

    parts: Sequence[tuple[float, DifferentiableScorer]]
    """Weight and scorer."""

    def __call__(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """Totals [N] float64, on the device of the features."""
        total = torch.zeros(len(features), dtype=torch.float64, device=features.device)
        for weight, scorer in self.parts:
            total = total + weight * scorer.score_with_gradient(features, lengths, prompt).to(total)
        return total


def require_differentiable(settings: RewardSettings, why: str) -> None:
    """Checks that every reward with a weight has a gradient.

    Args:
        why: what needs it, for the message.

    Raises:
        UserError: one has none; the message names it.
    """
    rewards = {name: reward for name, reward in rewards_of(settings).items() if reward.weight}
    without = [name for name, reward in rewards.items() if not reward.declaration.differentiable]
    if without:
        raise UserError(
            f"{why} follows the gradient of the reward, and reward {without[0]!r} has none; leave it out (weight 0), "
            "or take a policy_loss that needs none, such as clipped"
        )


def build_rewards(
    settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None = None
) -> WeightedRewards:
    """Loads the run's rewards that have a weight; arguments as of `rewards.scorers.build_scorers`.

    Raises:
        UserError: a file is wrong, or a reward has no gradient.
    """
    require_differentiable(settings, "the policy loss")
    factories = build_scorers(settings, skeleton, texts)
    parts = []
    for name, reward in rewards_of(settings).items():
        if not reward.weight:
            continue
        scorer: Any = factories[name]()
        parts.append((reward.weight, scorer))
    return WeightedRewards(parts)
