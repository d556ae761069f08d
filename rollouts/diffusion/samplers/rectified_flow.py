"""Stochastic samplers of rectified flows on a diffusion model: Flow-GRPO's SDE and DanceGRPO's.

A rectified flow goes from noise to data on straight lines, z = (1 - t) x0 + t eps, with t falling from 1 to 0 and the
velocity v = eps - x0. A variance-preserving diffusion model such as MDM has x = a x0 + b eps instead, a^2 = alpha_bar,
b^2 = 1 - alpha_bar. The change of variables is exact: z = x / (a + b) lies on the line at t = b / (a + b), and v is
(z - x0) / t with the clean motion x0 that the network predicts at that level. So the flow's steps are taken in z, at
the times that the kept levels of the schedule have, and every state is brought back to x = (a + b) z.

    here   Flow-GRPO (arXiv 2505.05470, eq. 9), DanceGRPO (2505.07818, eq. 8)    meaning
    t      t                                                                     time of the flow, 1 = noise
    dt     Delta t                                                               change of t in the step, below 0
    g      sigma_t                                                               strength of the noise
    score  grad log p_t(z)                                                       -(z - (1 - t) x0) / t^2

    z_prev = z + v dt + g^2 / 2 * score * |dt| + g sqrt(|dt|) * noise

For any g the exact process keeps the distribution of z at every t, as the ODE (g = 0) does, whose steps are those of
DDIM with eta 0. In x, with k = a + b after the step, this is

    mean = a_prev x0 + (b_prev - std^2 / (2 t k)) eps        std = k g sqrt(|dt|)

Flow-GRPO has g = noise_scale * sqrt(t / (1 - t)), in whose 1 - t the first time is replaced by the next one, since
noise alone has t = 1; DanceGRPO has g = noise_scale. The KL of two such steps with velocities v and v' is, per element,
|dt| / 2 * (g (1 - t) / (2 t) + 1 / g)^2 * |v - v'|^2, what `rollouts.gaussians.gaussian_kl` gives of their means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rollouts.diffusion.schedule import flow_time
from rollouts.diffusion.transitions import StepCoefficients, ddim_transition, noised_prediction
from rollouts.policy import Transition
from rollouts.settings import Denoising


@dataclass(frozen=True, slots=True)
class FlowSDE:
    """Flow-GRPO: noise that is strong where the state is noise and vanishes at the data."""

    noise_scale: float

    @classmethod
    def of(cls, denoising: Denoising) -> FlowSDE:
        """The sampler with the options' `noise_scale`."""
        return cls(denoising.scale)

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A step of the SDE: see `Sampler.transition`."""
        t, t_prev = flow_time(step.alpha_bar), flow_time(step.alpha_bar_prev)
        signal = 1.0 - np.where(step.noisiest, t_prev, t)
        return sde_transition(x_t, x0, step, self.noise_scale * np.sqrt(t / signal))

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A step of the ODE: see `Sampler.noiseless`."""
        return ddim_transition(x_t, x0, step, eta=0.0)


@dataclass(frozen=True, slots=True)
class DanceSDE:
    """DanceGRPO: noise of the same strength in every step."""

    noise_scale: float

    @classmethod
    def of(cls, denoising: Denoising) -> DanceSDE:
        """The sampler with the options' `noise_scale`."""
        return cls(denoising.scale)

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A step of the SDE: see `Sampler.transition`."""
        return sde_transition(x_t, x0, step, np.full_like(step.alpha_bar, self.noise_scale))

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A step of the ODE: see `Sampler.noiseless`."""
        return ddim_transition(x_t, x0, step, eta=0.0)


def sde_transition(x_t: Tensor, x0: Tensor, step: StepCoefficients, strength: np.ndarray) -> Transition:
    """One Euler-Maruyama step of the SDE, in x; without noise where it ends at the data.

    Args:
        x_t, x0: [N, T, D].
        strength: g, [N] float64.
    """
    t, t_prev = flow_time(step.alpha_bar), flow_time(step.alpha_bar_prev)
    noise_prev = np.sqrt(1.0 - step.alpha_bar_prev)
    scale_prev = np.sqrt(step.alpha_bar_prev) + noise_prev
    std = np.where(step.alpha_bar_prev < 1.0, scale_prev * strength * np.sqrt(t - t_prev), 0.0)
    return noised_prediction(x_t, x0, step, noise_prev - std**2 / (2.0 * t * scale_prev), std)
