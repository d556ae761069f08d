"""Gaussian transitions of the reverse process, and the densities that policy gradients need. Pure functions, fp32.

Every step of the policy is a Gaussian pi(x_prev | x_t, c) = N(mean, std^2 I) with a fixed std. Symbols:

    here              DDPM (Ho 2020)    DDIM (Song 2021, eq. 12)    meaning
    alpha_bar         abar_t            alpha_t                     fraction of the signal at x_t
    alpha_bar_prev    abar_{t-1}        alpha_{t-1}                 fraction of the signal after the step
    beta              beta_t            1 - alpha_t/alpha_{t-1}     noise added between the two
    x0                x_0 prediction    f_theta(x_t)                predicted clean motion, including guidance
    eps               epsilon           epsilon_theta               (x_t - sqrt(abar) x0) / sqrt(1 - abar)
    std               sqrt(beta~_t)     sigma_t(eta)                standard deviation of the step

The last step (alpha_bar_prev = 1) has std 0: it is no stochastic action and has no density; `gaussian_log_prob` and
`gaussian_kl` raise an error for it. MDM's code reports a *clipped log variance* there (the entry of the step before it,
table `posterior_log_variance_clipped`) although it samples with variance 0; a last step scored with that number would
dominate the policy ratio.

Reductions are means over features and valid frames, so a short clip weighs as much as a long one, and the clip range of
the ratio does not depend on the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rollouts.devices import moved
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.policy import Transition


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the deterministic step before predicted, for multistep solvers."""

    x0: Tensor
    """Clean motion [N, T, D] float32."""
    alpha_bar: np.ndarray
    """Of the state from which it was predicted, float64 [N]."""


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """Schedule entries of one step per sample, float64 [N] (computed with in float64, applied in float32)."""

    beta: np.ndarray
    alpha_bar: np.ndarray
    alpha_bar_prev: np.ndarray
    noisiest: np.ndarray
    """bool [N]: the schedule's first step, which begins at noise alone."""
    before: Prediction | None = None
    """None in the first step, after a step that drew noise, and for a stochastic step, whose Gaussian is a function of
    x_t alone."""

    @classmethod
    def of(cls, schedule: DiffusionSchedule, indices: np.ndarray, before: Prediction | None = None) -> StepCoefficients:
        """Rows `indices` [N] of the schedule's tables."""
        return cls(
            beta=schedule.betas[indices],
            alpha_bar=schedule.alphas_cumprod[indices],
            alpha_bar_prev=schedule.alphas_cumprod_prev[indices],
            noisiest=indices == schedule.num_steps - 1,
            before=before,
        )


def ddpm_transition(x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
    """DDPM posterior q(x_prev | x_t, x0), Ho et al. 2020 eq. 6-7, "fixed small" variance. x_t, x0: [N, T, D]."""
    noise_share = 1.0 - step.alpha_bar
    from_x0 = step.beta * np.sqrt(step.alpha_bar_prev) / noise_share
    from_x_t = (1.0 - step.alpha_bar_prev) * np.sqrt(1.0 - step.beta) / noise_share
    std = np.sqrt(step.beta * (1.0 - step.alpha_bar_prev) / noise_share)
    mean = as_column(from_x0, x_t) * x0 + as_column(from_x_t, x_t) * x_t
    return Transition(mean, _row(std, x_t), x0)


def ddim_transition(x_t: Tensor, x0: Tensor, step: StepCoefficients, eta: float) -> Transition:
    """DDIM step, Song et al. 2021 eq. 12 and 16. eta = 1 is the DDPM posterior, eta = 0 is deterministic (std 0)."""
    ratio = (1.0 - step.alpha_bar_prev) / (1.0 - step.alpha_bar)
    std = eta * np.sqrt(ratio) * np.sqrt(1.0 - step.alpha_bar / step.alpha_bar_prev)
    return noised_prediction(x_t, x0, step, np.sqrt(np.maximum(1.0 - step.alpha_bar_prev - std**2, 0.0)), std)


def noised_prediction(
    x_t: Tensor, x0: Tensor, step: StepCoefficients, direction: np.ndarray, std: np.ndarray
) -> Transition:
    """N(sqrt(abar_prev) x0 + direction * eps, std^2 I): the clean motion with predicted and fresh noise.

    Args:
        x_t, x0: [N, T, D].
        direction, std: [N] float64.
    """
    # eps is expanded, which saves one pass over the motion.
    from_x_t = direction / np.sqrt(1.0 - step.alpha_bar)
    from_x0 = np.sqrt(step.alpha_bar_prev) - from_x_t * np.sqrt(step.alpha_bar)
    mean = as_column(from_x0, x_t) * x0 + as_column(from_x_t, x_t) * x_t
    return Transition(mean, _row(std, x_t), x0)


def q_sample(x0: Tensor, noise: Tensor, alpha_bar: np.ndarray) -> Tensor:
    """Forward process sqrt(abar) x0 + sqrt(1 - abar) noise. x0, noise [N, T, D]; alpha_bar [N] float64."""
    return as_column(np.sqrt(alpha_bar), x0) * x0 + as_column(np.sqrt(1.0 - alpha_bar), x0) * noise


def as_column(values: np.ndarray, like: Tensor) -> Tensor:
    """float64 [N] as float32 [N, 1, 1] on the device of `like`."""
    return _row(values, like).view(-1, 1, 1)


def _row(values: np.ndarray, like: Tensor) -> Tensor:
    return moved(np.atleast_1d(values).astype(np.float32), like.device)
