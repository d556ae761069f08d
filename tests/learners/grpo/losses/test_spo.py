"""The policy loss of Simple Policy Optimization: its formula by hand, where it pulls, and where nothing is clipped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from learners.grpo.loss import GRPOInputs, grpo_loss
from learners.grpo.losses.clipped import clipped_loss
from learners.grpo.losses.spo import spo_loss
from learners.grpo.settings import GRPOSettings
from rollouts.gaussians import gaussian_log_prob
from rollouts.policy import Transition


def settings(**changes: Any) -> GRPOSettings:
    return GRPOSettings(**{"kl_penalty": 0.0, "clip_epsilon": 0.1, "policy_loss": "spo", **changes})


def inputs(advantages: Tensor) -> GRPOInputs:
    """Pairs of which a policy loss reads the advantages only."""
    num = len(advantages)
    same = Transition(torch.zeros(num, 3, 2), torch.ones(num), torch.zeros(num, 3, 2))
    return GRPOInputs(same, same, torch.ones(num, 3, 2), torch.zeros(num), advantages, None, torch.ones(num))


def loss_and_gradient(ratio: float, advantage: float, **changes: Any) -> tuple[float, float]:
    """Loss of one pair and its derivative by the ratio."""
    ratios = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    loss = spo_loss(ratios, inputs(torch.tensor([advantage], dtype=torch.float64)), settings(**changes))
    assert loss.shape == (1,)
    (gradient,) = torch.autograd.grad(loss.sum(), ratios)
    return loss.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        # -A r + |A| / (2 * 0.1) * (r - 1)^2, and -A + |A| / 0.1 * (r - 1)
        (1.05, 2.0, -2.1 + 0.025, -1.0),
        (1.1, 2.0, -2.2 + 0.1, 0.0),  # the edge
        (1.3, 2.0, -2.6 + 0.9, 4.0),  # beyond it: pulled back
        (0.7, 2.0, -1.4 + 0.9, -8.0),
        (0.9, -2.0, 1.8 + 0.1, 0.0),  # the edge of the other side
        (0.7, -2.0, 1.4 + 0.9, -4.0),
        (1.3, -2.0, 2.6 + 0.9, 8.0),
        (1.3, 0.0, 0.0, 0.0),
    ],
)
def test_the_formula_by_hand(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    assert loss_and_gradient(ratio, advantage) == pytest.approx((loss, gradient), abs=1e-6)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_the_gradient_points_to_the_edge_from_both_sides(advantage: float) -> None:
    """The smallest loss is at 1 + epsilon * sign(A), where the clipped loss only lets go."""
    edge = 1 + math.copysign(0.1, advantage)
    for away in (-0.3, -0.05, -0.001, 0.001, 0.05, 0.3):
        _, gradient = loss_and_gradient(edge + away, advantage)
        assert math.copysign(1, gradient) == math.copysign(1, away)
    lowest, _ = loss_and_gradient(edge, advantage)
    assert all(loss_and_gradient(edge + away, advantage)[0] > lowest for away in (-0.01, 0.01))


def test_each_sign_of_the_advantage_has_its_side_of_the_range() -> None:
    assert loss_and_gradient(1.5, 2.0, clip_epsilon_high=0.5)[1] == pytest.approx(0.0, abs=1e-6)
    assert loss_and_gradient(1.3, 2.0, clip_epsilon_high=0.5)[1] < 0
    assert loss_and_gradient(0.9, -2.0, clip_epsilon_high=0.5)[1] == pytest.approx(0.0, abs=1e-6)


def test_at_ratio_one_it_is_the_loss_that_clips_nothing() -> None:
    """So one optimizer step an update is the policy gradient, whichever loss is chosen."""
    advantages = torch.tensor([2.0, -1.0, 0.5, 0.0], dtype=torch.float64)
    results = []
    for policy_loss in (spo_loss, clipped_loss):
        ratio = torch.ones(4, dtype=torch.float64, requires_grad=True)
        loss = policy_loss(ratio, inputs(advantages), settings())
        (gradient,) = torch.autograd.grad(loss.sum(), ratio)
        results.append((loss.detach(), gradient))
    for loss, gradient in results:
        assert torch.equal(loss, -advantages) and torch.equal(gradient, -advantages)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_the_narrowest_range_does_not_vanish_in_single_precision(advantage: float) -> None:
    """A narrower one is refused: of 1e-8 rounding alone would leave it, and of 1e-17 SPO would divide by 0."""
    ratios = torch.full((1,), 1.5, requires_grad=True)
    narrow = settings(clip_epsilon=1e-6, clip_epsilon_high=1e-6)
    (gradient,) = torch.autograd.grad(spo_loss(ratios, inputs(torch.tensor([advantage])), narrow).sum(), ratios)
    assert gradient.item() == pytest.approx(-advantage + 2.0 / 1e-6 * 0.5, rel=1e-6)
    with pytest.raises(ValidationError, match="clip_epsilon"):
        settings(clip_epsilon=1e-8)


def test_the_grpo_loss_uses_it_by_its_name() -> None:
    """On Gaussians: the mean of a good pair beyond the range is pulled back, which no clipped loss does."""
    mean = torch.zeros(1, 3, 2, requires_grad=True)
    policy = Transition(mean, torch.ones(1), mean)
    drawn = torch.ones(1, 3, 2)
    old = gaussian_log_prob(drawn, mean, policy.std, None).detach() - math.log(1.3)
    reference = Transition(mean.detach(), torch.ones(1), mean.detach())
    pair = GRPOInputs(policy, reference, drawn, old, torch.tensor([2.0]), None, torch.ones(1))
    gradients = {}
    for name in ("spo", "clipped"):
        terms = grpo_loss(pair, settings(policy_loss=name))
        (gradients[name],) = torch.autograd.grad(terms.loss.sum(), mean)
        if name == "spo":
            assert terms.policy_loss.item() == pytest.approx(-1.7, abs=1e-5)
            assert terms.clipped_high.item() == 1
    assert (gradients["spo"] > 0).all()  # descent moves the mean away from the drawn state, which lies above it
    assert not gradients["clipped"].any()
