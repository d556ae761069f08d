"""Flow-DPPO's loss: which pairs its mask leaves out, and that it holds the policy near the old one in an update."""

from __future__ import annotations

import pytest
import torch

from learners.grpo.loss import GRPOInputs
from learners.grpo.losses.dppo import dppo_loss
from learners.grpo.settings import GRPOSettings
from rollouts.policy import Transition
from tests.toys.tiny_learners import make_learner, train

SETTINGS = GRPOSettings(policy_loss="dppo", kl_bound=1e-3)


def loss_and_gradient(ratio: float, advantage: float, kl_old: float | None) -> tuple[float, float]:
    same = Transition(torch.zeros(1, 3, 2), torch.ones(1), torch.zeros(1, 3, 2))
    kl = None if kl_old is None else torch.tensor([kl_old])
    pair = GRPOInputs(
        same, same, torch.ones(1, 3, 2), torch.zeros(1), torch.tensor([advantage]), None, torch.ones(1), kl
    )
    ratios = torch.tensor([ratio], requires_grad=True)
    loss = dppo_loss(ratios, pair, SETTINGS)
    (gradient,) = torch.autograd.grad(loss.sum(), ratios)
    return loss.item(), gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "kl_old", "stays"),
    [
        (1.3, 2.0, 2e-3, False),  # good, likelier, and far: would go further
        (0.7, -2.0, 2e-3, False),
        (0.7, 2.0, 2e-3, True),  # far, but pulled back
        (1.3, -2.0, 2e-3, True),
        (1.3, 2.0, 5e-4, True),  # near, whatever the ratio says
        (1.3, 2.0, None, True),  # before the first optimizer step
    ],
)
def test_pairs_beyond_the_bound_that_move_away_are_left_out(
    ratio: float, advantage: float, kl_old: float | None, stays: bool
) -> None:
    loss, gradient = loss_and_gradient(ratio, advantage, kl_old)
    assert loss == pytest.approx(-advantage * ratio * stays)
    assert gradient == pytest.approx(-advantage * stays)


def test_the_bound_holds_the_policy_in_an_update() -> None:
    free, bounded = (
        train(make_learner(policy_loss="dppo", kl_bound=bound, num_epochs=8, kl_penalty=0))[0] for bound in (1.0, 1e-9)
    )
    assert free["left_out_fraction"] == 0 < bounded["left_out_fraction"]
    assert bounded["kl_old"] < 0.7 * free["kl_old"]
    assert "left_out_fraction" not in train(make_learner(policy_loss="dppo"))[0], "one step: nothing can be left out"
