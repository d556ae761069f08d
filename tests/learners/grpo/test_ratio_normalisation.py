"""GRPO-Guard's normalised ratios: the mean that is added back, the common scale, and what it does to an update."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from learners.grpo.loss import GRPOInputs, GRPOTerms, grpo_loss
from learners.grpo.settings import GRPOSettings
from rollouts.gaussians import gaussian_kl, gaussian_log_prob
from rollouts.policy import Transition
from tests.toys.gaussian_data import normal
from tests.toys.tiny_learners import make_learner, make_policy, train

N, T, D = 400, 4, 3
STDS = torch.tensor([0.1, 0.8]).repeat_interleave(N // 2)
MEAN_STD = 0.45


def scored(shift: Tensor, mean_std: float | None) -> tuple[GRPOTerms, Tensor]:
    """Draws of an old policy of mean 0, scored by one whose mean is `shift`; with the gradient by that mean."""
    noise, std = normal(N, T, D), STDS.double()
    drawn = std.view(-1, 1, 1) * noise.double()
    old = torch.zeros(N, T, D, dtype=torch.float64)
    mean = (old + shift).requires_grad_()
    terms = grpo_loss(
        GRPOInputs(
            policy=Transition(mean, std, mean),
            reference=Transition(old, std, old),
            next_states=drawn,
            old_log_probs=gaussian_log_prob(drawn, old, std, None),
            advantages=torch.ones(N, dtype=torch.float64),
            mask=None,
            noise_drops=torch.ones(N),
            kl_old=gaussian_kl(old, mean, std, None),
            mean_std=mean_std,
        ),
        GRPOSettings.model_validate({"kl_penalty": 0.0, "clip_epsilon": 0.9}),
    )
    terms.loss.sum().backward()
    assert mean.grad is not None
    return terms, mean.grad


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    return values[: N // 2], values[N // 2 :]


def test_a_log_ratio_is_noise_times_movement_in_a_common_unit() -> None:
    shift = torch.full((N, T, D), 0.05, dtype=torch.float64)
    terms, gradient = scored(shift, MEAN_STD)
    expected = (normal(N, T, D).double() * shift).mean(dim=(1, 2)) / MEAN_STD
    torch.testing.assert_close(terms.log_ratio.double(), expected, atol=1e-6, rtol=1e-4)
    # Nothing of the mean that was added is left in the gradient either.
    of_ratio = -normal(N, T, D).double() / (MEAN_STD * T * D) * terms.log_ratio.double().exp().view(-1, 1, 1)
    torch.testing.assert_close(gradient, of_ratio, atol=1e-6, rtol=1e-4)


def test_all_steps_have_the_same_mean_and_spread() -> None:
    shift = torch.full((N, T, D), 0.05, dtype=torch.float64)
    raw, normalised = (scored(shift, mean_std)[0].log_ratio for mean_std in (None, MEAN_STD))
    assert [float(part.mean()) for part in halves(raw)] == pytest.approx([-0.125, -0.002], abs=0.02)
    quiet, noisy = halves(raw)
    assert quiet.std() > 6 * noisy.std()
    quiet, noisy = halves(normalised)
    assert abs(float(quiet.mean())) < 0.01 and abs(float(noisy.mean())) < 0.01
    assert float(quiet.std() / noisy.std()) == pytest.approx(1.0, abs=0.15)
    assert float(quiet.std()) == pytest.approx(0.05 / (MEAN_STD * math.sqrt(T * D)), rel=0.2)


def test_learners_begin_at_ratio_one_and_go_elsewhere() -> None:
    plain, guarded = (
        make_learner(make_policy(sampler="flow_sde"), num_epochs=4, ratio_normalisation=on) for on in (False, True)
    )
    before, after = train(plain)[0], train(guarded)[0]
    assert after["first_ratio_error"] <= 1e-5
    assert after["ratio_std"] != before["ratio_std"] and after["ratio_max"] > 1 > after["ratio_min"]


def test_stds_of_all_steps() -> None:
    policy = make_policy(sampler="flow_sde", noise_scale=0.5)
    stds = policy.step_stds
    assert stds.shape == (6,) and stds[-1] == 0 and (stds[:-1] > 0).all()
    x = normal(1, 4, 263)
    step = policy.transition(x, 2, normal(1, 1, 4), None)
    assert float(step.std.detach()) == pytest.approx(stds[2])
