"""Gaussian steps and their densities, against torch.distributions and against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.transitions import StepCoefficients, ddim_transition, ddpm_transition, q_sample
from rollouts.gaussians import gaussian_kl, gaussian_log_prob, masked_mean

SCHEDULE = DiffusionSchedule("cosine", 10)
N, T, D = 3, 5, 4
MASK = torch.arange(T) < torch.tensor([[5], [2], [1]])


def normal(seed: int) -> torch.Tensor:
    return torch.randn(N, T, D, generator=torch.Generator().manual_seed(seed))


def steps(*indices: int) -> StepCoefficients:
    return StepCoefficients.of(SCHEDULE, np.array(indices))


def test_ddim_with_eta_1_is_the_ddpm_posterior() -> None:
    x_t, x0, step = normal(0), normal(1), steps(9, 4, 0)
    ddpm, ddim = ddpm_transition(x_t, x0, step), ddim_transition(x_t, x0, step, eta=1.0)
    torch.testing.assert_close(ddpm.mean, ddim.mean, atol=2e-6, rtol=0)
    torch.testing.assert_close(ddpm.std, ddim.std, atol=1e-6, rtol=0)
    assert ddpm.std.dtype == torch.float32 and ddpm.std.shape == (N,)


def test_ddpm_follows_the_schedule_of_each_sample() -> None:
    x_t, x0 = normal(0), normal(1)
    step = ddpm_transition(x_t, x0, steps(9, 4, 0))
    for row, index in enumerate((9, 4, 0)):
        expected = SCHEDULE.posterior_mean_coef1[index] * x0[row] + SCHEDULE.posterior_mean_coef2[index] * x_t[row]
        torch.testing.assert_close(step.mean[row], expected.float(), atol=1e-6, rtol=0)
        assert step.std[row].item() == pytest.approx(SCHEDULE.posterior_variance[index] ** 0.5)


def test_a_deterministic_step_moves_along_the_predicted_noise() -> None:
    x0, noise = normal(1), normal(2)
    step = steps(9, 4, 1)
    x_t = q_sample(x0, noise, step.alpha_bar)
    result = ddim_transition(x_t, x0, step, eta=0.0)
    assert not result.std.any()
    torch.testing.assert_close(result.mean, q_sample(x0, noise, step.alpha_bar_prev), atol=1e-5, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_keeps_the_marginal_distribution(eta: float) -> None:
    """x_t = a x0 + b e has variance b^2 around x0; after the step it has b_prev^2."""
    step = steps(7, 4, 1)
    x0 = torch.zeros(N, T, D)
    x_t = q_sample(x0, torch.ones(N, T, D), step.alpha_bar)
    result = ddim_transition(x_t, x0, step, eta)
    variance = result.mean[:, 0, 0].square() + result.std.square()
    np.testing.assert_allclose(variance.numpy(), 1 - step.alpha_bar_prev, rtol=1e-5)


def test_log_prob_is_the_mean_density_over_valid_elements() -> None:
    x, mean = normal(3), normal(4)
    std = torch.tensor([0.3, 1.0, 2.0])
    ours = gaussian_log_prob(x, mean, std, MASK)
    dense = Normal(mean, std.view(-1, 1, 1)).log_prob(x)
    for row in range(N):
        torch.testing.assert_close(ours[row], dense[row][MASK[row]].mean())
    torch.testing.assert_close(gaussian_log_prob(x, mean, std, None), dense.mean(dim=(1, 2)))
    assert ours.dtype == torch.float32


def test_kl_is_exact_never_negative_and_zero_for_equal_means() -> None:
    mean, other = normal(3), normal(4)
    std = torch.tensor([0.3, 1.0, 2.0])
    ours = gaussian_kl(mean, other, std, MASK)
    wide = std.view(-1, 1, 1).expand(N, T, D)
    dense = kl_divergence(Normal(mean, wide), Normal(other, wide))
    for row in range(N):
        torch.testing.assert_close(ours[row], dense[row][MASK[row]].mean())
    assert (ours > 0).all()
    assert not gaussian_kl(mean, mean.clone(), std, MASK).any()


def test_padding_never_enters_a_reduction() -> None:
    x, mean = normal(3), normal(4)
    std = torch.ones(N)
    garbage = torch.where(MASK.unsqueeze(2), x, torch.nan)
    assert torch.equal(gaussian_log_prob(garbage, mean, std, MASK), gaussian_log_prob(x, mean, std, MASK))
    assert torch.equal(masked_mean(garbage, MASK), masked_mean(x, MASK))
    longer = torch.nn.functional.pad(x, (0, 0, 0, 3))
    padded = masked_mean(longer, torch.nn.functional.pad(MASK, (0, 3)))
    torch.testing.assert_close(padded, masked_mean(x, MASK), atol=1e-7, rtol=0)


def test_the_drawn_state_carries_no_gradient() -> None:
    """With the drawn state attached, its gradient cancels the one through the mean: nothing would be learned."""
    mean = normal(4).requires_grad_()
    std = torch.ones(N)
    drawn = mean + std.view(-1, 1, 1) * normal(5)
    gaussian_log_prob(drawn, mean, std, None).sum().backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, normal(5) / (T * D))


@pytest.mark.parametrize("make", [ddpm_transition, lambda *given: ddim_transition(*given, eta=1.0)])
def test_the_last_step_is_noiseless_and_has_no_density(make) -> None:
    x_t, x0 = normal(0), normal(1)
    last = make(x_t, x0, steps(0, 0, 0))
    assert not last.std.any()
    torch.testing.assert_close(last.mean, x0, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="deterministic step"):
        gaussian_log_prob(x0, last.mean, last.std, None)
    with pytest.raises(ValueError, match="deterministic step"):
        gaussian_kl(x0, last.mean, last.std, None)


def test_q_sample_shares_signal_and_noise() -> None:
    x0, noise = normal(0), normal(1)
    x_t = q_sample(x0, noise, np.array([1.0, 0.0, 0.36]))
    assert torch.equal(x_t[0], x0[0]) and torch.equal(x_t[1], noise[1])
    torch.testing.assert_close(x_t[2], 0.6 * x0[2] + 0.8 * noise[2])
