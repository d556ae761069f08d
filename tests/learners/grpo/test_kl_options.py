"""The weight of the KL penalty that follows a target, and the estimate k3 in place of the exact KL."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from learners.grpo.adaptive_penalty import adapted_penalty
from learners.grpo.loss import k3
from learners.grpo.motion_loss import require_legal
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from tests.toys.gaussian_data import normal
from tests.toys.tiny_learners import equal, make_learner, train


@pytest.mark.parametrize(
    ("kl", "factor"), [(1.6e-3, 2.0), (1.4e-3, 1.0), (1e-3, 1.0), (0.7e-3, 1.0), (0.6e-3, 0.5), (0.0, 0.5)]
)
def test_the_weight_doubles_over_the_target_and_halves_under_it(kl: float, factor: float) -> None:
    settings = GRPOSettings(kl_penalty=0.04, kl_target=1e-3)
    assert adapted_penalty(0.08, kl, settings) == pytest.approx(0.08 * factor)


def test_the_weight_does_not_run_away() -> None:
    settings = GRPOSettings(kl_penalty=0.04, kl_target=1e-3)
    low = high = 0.04
    for _ in range(30):
        low, high = adapted_penalty(low, 0.0, settings), adapted_penalty(high, 1.0, settings)
    assert (low, high) == pytest.approx((0.04 / 1024, 0.04 * 1024))


def test_updates_use_the_adapted_weight_and_a_resumed_learner_goes_on_with_it() -> None:
    options: dict[str, Any] = {"kl_penalty": 0.1, "kl_target": 1e-9, "learning_rate": 1e-2}
    learner, fixed = make_learner(**options), make_learner(**{**options, "kl_target": 0.0})
    weights = [metrics["kl_penalty"] for metrics in train(learner, 4)]
    # The KL is 0 in the first update, where the policy is the reference, and over the target afterwards.
    assert weights == pytest.approx([0.1, 0.05, 0.1, 0.2])
    assert "kl_penalty" not in train(fixed, 4)[-1]
    assert not equal(learner.version().weights, fixed.version().weights)
    other = make_learner(**options)
    other.load(learner.state())
    assert (
        train(other, 1, first=4)[0]["kl_penalty"] == pytest.approx(0.4) == train(learner, 1, first=4)[0]["kl_penalty"]
    )
    assert equal(learner.version().weights, other.version().weights)
    before_this_version = {name: value for name, value in learner.state().items() if name != "kl_penalty"}
    other.load(before_this_version)
    assert train(other, 1, first=5)[0]["kl_penalty"] == pytest.approx(0.1)


def test_k3_estimates_the_kl_without_bias_and_is_never_negative() -> None:
    drawn = normal(200_000).double()
    log_quotient = (drawn.square() - (drawn - 0.3).square()) / 2
    estimates = k3(log_quotient)
    assert estimates.min() >= 0
    assert float(estimates.mean()) == pytest.approx(0.3**2 / 2, rel=0.02)


def test_a_penalty_by_k3_holds_the_policy_back() -> None:
    free, exact, estimated = (
        make_learner(learning_rate=1e-2, kl_penalty=weight, kl_weighting=weighting)
        for weight, weighting in ((0.0, "exact"), (1e4, "exact"), (1e4, "k3"))
    )
    drifts = [train(learner, 6)[-1]["kl_reference"] for learner in (free, exact, estimated)]
    assert drifts[1] < 0.5 * drifts[0] and drifts[2] < 0.9 * drifts[0] and drifts[2] != drifts[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_weighting": "k3"}, "kl_weighting k3 needs recorded denoising steps, of which policy_loss nft has none"),
        ({"ratio_normalisation": True}, "ratio_normalisation needs recorded denoising steps"),
    ],
)
def test_losses_of_final_motions_have_neither(changes: dict[str, object], message: str) -> None:
    settings = GRPOSettings.model_validate({"policy_loss": "nft", "micro_batch_size": 16, **changes})
    with pytest.raises(UserError, match=message):
        require_legal(settings, 10)


def test_a_target_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="kl_target is set and kl_penalty 0"):
        GRPOSettings(kl_penalty=0.0, kl_target=1e-3)
    assert torch.equal(k3(torch.zeros(2)), torch.zeros(2))
