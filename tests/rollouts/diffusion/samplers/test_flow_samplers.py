"""Samplers of rectified flows on a diffusion model, against the flow's own formulas and against Gaussian data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from motions.base.errors import UserError
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.samplers import Sampler, make_sampler
from rollouts.diffusion.samplers.cps import CPS
from rollouts.diffusion.samplers.rectified_flow import DanceSDE, FlowSDE
from rollouts.diffusion.schedule import DiffusionSchedule, flow_time
from rollouts.diffusion.transitions import StepCoefficients, ddim_transition
from rollouts.diffusion.windows import ancestral_positions
from rollouts.gaussians import gaussian_kl
from rollouts.settings import Denoising
from tests.toys.gaussian_data import GaussianData, normal
from tests.toys.tiny_policy import NUM_STEPS, motion_noise, text_features, tiny_policy

SCHEDULE = DiffusionSchedule("cosine", 10)
SAMPLERS: dict[str, Sampler] = {"flow_sde": FlowSDE(0.7), "dance_sde": DanceSDE(0.3), "cps": CPS(0.7)}
N, T, D = 4, 5, 3


def steps(*indices: int, schedule: DiffusionSchedule = SCHEDULE) -> StepCoefficients:
    return StepCoefficients.of(schedule, np.array(indices))


def flow_step(name: str, z: Tensor, x0: Tensor, t: float, t_next: float, scale: float) -> tuple[Tensor, float]:
    """Mean and standard deviation in the flow's variables, as the papers write them."""
    v, dt = (z - x0) / t, t_next - t
    if name == "cps":
        std = t_next * np.sin(scale * np.pi / 2)
        return (1 - t_next) * x0 + np.sqrt(t_next**2 - std**2) * (x0 + v), std
    if name == "flow_sde":
        sigma = scale * np.sqrt(t / (1 - t))
        return z + (v + sigma**2 / (2 * t) * (z + (1 - t) * v)) * dt, sigma * np.sqrt(-dt)
    score = -(z - (1 - t) * x0) / t**2
    return z + v * dt + 0.5 * scale**2 * score * -dt, scale * np.sqrt(-dt)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_is_the_flows_after_the_change_of_variables(name: str) -> None:
    x_t, x0 = normal(N, T, D), normal(N, T, D, seed=1)
    step = steps(8, 6, 3, 1)
    ours = SAMPLERS[name].transition(x_t, x0, step)
    for row in range(N):
        scale, scale_prev = (
            float(np.sqrt(level[row]) + np.sqrt(1 - level[row])) for level in (step.alpha_bar, step.alpha_bar_prev)
        )
        t, t_prev = float(flow_time(step.alpha_bar)[row]), float(flow_time(step.alpha_bar_prev)[row])
        noise_scale = {"flow_sde": 0.7, "dance_sde": 0.3, "cps": 0.7}[name]
        mean, std = flow_step(name, x_t[row] / scale, x0[row], t, t_prev, noise_scale)
        torch.testing.assert_close(ours.mean[row], scale_prev * mean, atol=2e-6, rtol=1e-5)
        assert float(ours.std[row]) == pytest.approx(scale_prev * std, rel=1e-6)


def test_pure_noise_takes_the_next_times_share_of_signal() -> None:
    """At t = 1 the strength sqrt(t / (1 - t)) is infinite; Flow-GRPO puts the next time into 1 - t."""
    step = steps(9)
    t, t_prev = float(flow_time(step.alpha_bar)[0]), float(flow_time(step.alpha_bar_prev)[0])
    std = float(FlowSDE(0.7).transition(normal(1, T, D), normal(1, T, D, seed=1), step).std)
    scale_prev = float(np.sqrt(step.alpha_bar_prev[0]) + np.sqrt(1 - step.alpha_bar_prev[0]))
    assert t > 0.99 and std == pytest.approx(scale_prev * 0.7 * np.sqrt(t / (1 - t_prev) * (t - t_prev)), rel=1e-6)


class SilentFlow(FlowSDE):
    """Without noise in any step, which options do not allow."""

    @classmethod
    def of(cls, denoising: Denoising) -> SilentFlow:
        return cls(0.0)


class SilentDance(DanceSDE):
    """As `SilentFlow`."""

    @classmethod
    def of(cls, denoising: Denoising) -> SilentDance:
        return cls(0.0)


class SilentCPS(CPS):
    """As `SilentFlow`."""

    @classmethod
    def of(cls, denoising: Denoising) -> SilentCPS:
        return cls(0.0)


@pytest.mark.parametrize("kind", [SilentFlow, SilentDance, SilentCPS])
def test_without_noise_every_step_is_the_deterministic_one(kind: type[SilentFlow | SilentDance | SilentCPS]) -> None:
    x_t, x0, step = normal(10, T, D), normal(10, T, D, seed=1), steps(*range(10))
    silent = kind(0.0).transition(x_t, x0, step)
    assert not silent.std.any()
    torch.testing.assert_close(silent.mean, ddim_transition(x_t, x0, step, eta=0.0).mean, atol=2e-6, rtol=0)
    # Over a whole chain, where all steps are taken as stochastic ones.
    quiet, flow = tiny_policy(sampler="ddim"), tiny_policy(sampler=f"{__name__}:{kind.__name__}")
    given = (text_features(N), None, motion_noise(N, T), lambda _: motion_noise(N, T, 5))
    with pytest.raises(ValueError, match="std is 0"):
        sample(flow, *given, (0,), (0,))
    ours = sample(flow, *given, ancestral_positions(NUM_STEPS)).motions
    torch.testing.assert_close(ours, sample(quiet, *given, ()).motions, atol=2e-5, rtol=0)


def chain_moments(sampler: Sampler, num_steps: int) -> tuple[float, float, float]:
    """Mean and variance before the last step, from the true distribution at the noisiest level, and that level.

    A step with the perfect denoiser is affine in x_t, so that both follow exactly, without samples.
    """
    data, schedule = GaussianData(), DiffusionSchedule("cosine", 1000).respaced(num_steps)
    level = float(schedule.alphas_cumprod[-1])
    mean, variance = np.sqrt(level) * data.mean, data.spread(level) ** 2
    probes = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1)
    for index in range(num_steps - 1, 0, -1):
        level = float(schedule.alphas_cumprod[index])
        step = steps(index, index, schedule=schedule)
        gaussian = sampler.transition(probes, data.denoised(probes, level), step)
        start, end = (float(value) for value in gaussian.mean.flatten())
        mean = start + (end - start) * mean
        variance = (end - start) ** 2 * variance + float(gaussian.std[0]) ** 2
    return mean, variance, float(schedule.alphas_cumprod[0])


@pytest.mark.parametrize("name", ["flow_sde", "dance_sde"])
def test_the_sdes_keep_the_distribution(name: str) -> None:
    """The nearer to it the more steps there are."""
    errors = []
    for num_steps in (10, 50, 200):
        mean, variance, level = chain_moments(SAMPLERS[name], num_steps)
        truth = GaussianData().spread(level) ** 2
        assert mean == pytest.approx(np.sqrt(level) * GaussianData().mean, abs=1e-3)
        errors.append(abs(variance / truth - 1.0))
    assert errors[2] < errors[1] < 0.25 * errors[0] and errors[2] < 0.015, errors


def test_cps_does_not_keep_it() -> None:
    _, variance, level = chain_moments(CPS(0.7), 200)
    assert variance < 0.75 * GaussianData().spread(level) ** 2


@pytest.mark.parametrize("name", ["flow_sde", "dance_sde"])
def test_the_closed_form_of_the_kl_is_that_of_the_gaussians(name: str) -> None:
    x_t, x0, other = normal(4, T, D), normal(4, T, D, seed=1), normal(4, T, D, seed=2)
    step, sampler = steps(8, 6, 3, 1), SAMPLERS[name]
    ours = gaussian_kl(
        sampler.transition(x_t, x0, step).mean,
        sampler.transition(x_t, other, step).mean,
        sampler.transition(x_t, x0, step).std,
        None,
    )
    t, t_prev = flow_time(step.alpha_bar), flow_time(step.alpha_bar_prev)
    sigma = 0.7 * np.sqrt(t / (1 - t)) if name == "flow_sde" else np.full(4, 0.3)
    factor = (t - t_prev) / 2 * (sigma * (1 - t) / (2 * t) + 1 / sigma) ** 2
    # v - v' = -(x0 - x0') / t
    squares = (x0 - other).square().mean(dim=(1, 2)).double() / torch.from_numpy(t) ** 2
    torch.testing.assert_close(ours.double(), torch.from_numpy(factor) * squares, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_step_has_no_noise_and_noise_scale_sets_the_others(name: str) -> None:
    x_t, x0 = normal(1, T, D), normal(1, T, D, seed=1)

    def std(position_index: int, scale: float | None) -> float:
        sampler = make_sampler(Denoising(name, None, 1.0, 1.0, noise_scale=scale))
        return float(sampler.transition(x_t, x0, steps(position_index)).std)

    last = SAMPLERS[name].transition(x_t, x0, steps(0))
    assert not last.std.any()
    torch.testing.assert_close(last.mean, x0, atol=1e-6, rtol=0)
    assert 0 < std(4, 0.2) < std(4, 0.4)
    assert std(4, None) == std(4, {"flow_sde": 0.7, "dance_sde": 0.3, "cps": 0.7}[name])


def test_cps_has_at_most_all_noise_fresh() -> None:
    with pytest.raises(UserError, match="sampler cps takes a noise_scale of at most 1"):
        make_sampler(Denoising("cps", None, 1.0, 1.0, noise_scale=1.5))
    fresh = CPS(1.0).transition(normal(1, T, D), normal(1, T, D, seed=1), steps(4))
    assert float(fresh.std) == pytest.approx(float(np.sqrt(1 - steps(4).alpha_bar_prev[0])))
