"""DPM-Solver++ (2M) against the closed form of an ODE, and against its published formula over a whole chain."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from motions.base.errors import UserError
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.samplers.dpm_solver import DPMSolver, extrapolation
from rollouts.diffusion.transitions import Prediction, ddim_transition
from tests.toys.gaussian_data import GaussianData, normal, one_step
from tests.toys.tiny_policy import motion_noise, text_features, tiny_policy

DATA = GaussianData()
SOLVER = DPMSolver("dpmpp_2m")
N, T = 3, 9


def solved(num_steps: int, first_order: bool = False) -> Tensor:
    """From lam = -2.5 to 2 in steps of equal growth of lam, in float64."""
    lam = np.linspace(-2.5, 2.0, num_steps + 1)
    levels = 1 / (1 + np.exp(-2 * lam))
    x = normal(1, 4, 3).double()
    before = None
    for level, level_prev in itertools.pairwise(levels):
        x0 = DATA.denoised(x, level)
        step = replace(one_step(level, level_prev), before=None if first_order else before)
        x = SOLVER.noiseless(x, x0, step).mean
        before = Prediction(x0, np.array([level]))
    return x


def error(num_steps: int, first_order: bool = False) -> float:
    exact = DATA.along_the_ode(normal(1, 4, 3).double(), 1 / (1 + np.exp(5.0)), 1 / (1 + np.exp(-4.0)))
    return float((solved(num_steps, first_order) - exact).abs().max())


def test_it_converges_with_order_two_and_ddim_with_order_one() -> None:
    second = np.log2([error(40) / error(80), error(80) / error(160)])
    first = np.log2([error(40, True) / error(80, True), error(80, True) / error(160, True)])
    assert second == pytest.approx(2.0, abs=0.15) and first == pytest.approx(1.0, abs=0.1)
    assert error(20) < 0.1 * error(20, True)


def published(policy: DiffusionPolicy, noise: Tensor, text: Tensor) -> Tensor:
    """Algorithm 2 of the paper with its own quantities."""
    levels = policy.schedule.alphas_cumprod[::-1]
    alpha, sigma = np.sqrt(levels), np.sqrt(1 - levels)
    lam = np.log(alpha / sigma)
    x, predictions = noise, []
    for i in range(policy.num_steps):
        predictions.append(policy.transition(x, i, text, None, stochastic=False).x0)
        if i == policy.num_steps - 1:
            return predictions[-1]
        h, extrapolated = lam[i + 1] - lam[i], predictions[-1]
        if i > 0:
            r = (lam[i] - lam[i - 1]) / h
            extrapolated = (1 + 1 / (2 * r)) * predictions[-1] - 1 / (2 * r) * predictions[-2]
        x = float(sigma[i + 1] / sigma[i]) * x - float(alpha[i + 1] * np.expm1(-h)) * extrapolated
    raise AssertionError("there is no step")


def test_a_chain_is_the_published_algorithm() -> None:
    policy = tiny_policy(sampler="dpmpp_2m")
    noise, text = motion_noise(N, T), text_features(N)
    ours = sample(policy, text, None, noise, forbidden, ()).motions
    with torch.no_grad():
        torch.testing.assert_close(ours, published(policy, noise, text), atol=2e-5, rtol=0)
    ddim = sample(tiny_policy(sampler="ddim"), text, None, noise, forbidden, ()).motions
    assert not torch.allclose(ours, ddim, atol=1e-3)


def forbidden(position: int) -> Tensor:
    raise AssertionError(f"noise asked for position {position}")


def test_branches_of_a_chain_without_noise_are_copies() -> None:
    policy = tiny_policy(sampler="dpmpp_2m")
    noise, text = motion_noise(2, T), text_features(2)
    alone = sample(policy, text, None, noise, forbidden, ()).motions
    branched = sample(policy, text, None, noise, forbidden, (), branches=2).motions
    assert torch.equal(branched, alone.repeat_interleave(2, dim=0))


def test_steps_without_one_before_and_the_last_are_those_of_ddim() -> None:
    x_t, x0, other = normal(1, T, 2), normal(1, T, 2, seed=1), normal(1, T, 2, seed=2)
    first = one_step(0.1, 0.3)
    assert torch.equal(SOLVER.noiseless(x_t, x0, first).mean, ddim_transition(x_t, x0, first, eta=0.0).mean)
    last = replace(one_step(0.99, 1.0), before=Prediction(other, np.array([0.9])))
    result = SOLVER.noiseless(x_t, x0, last)
    torch.testing.assert_close(result.mean, x0, atol=1e-6, rtol=0)
    assert not result.std.any() and torch.equal(result.x0, x0)
    assert extrapolation(np.array([0.9]), np.array([0.99]), np.array([1.0])) == 0.0


def test_it_has_no_density() -> None:
    with pytest.raises(UserError, match="sampler is 'dpmpp_2m': its steps draw no noise"):
        tiny_policy(sampler="dpmpp_2m").transition(motion_noise(N, T), 0, text_features(N), None)
