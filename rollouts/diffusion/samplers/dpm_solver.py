"""DPM-Solver++ (2M): a deterministic multistep solver of the second order, for evaluation and generation in few steps.

    here         Lu et al. 2022 (arXiv 2211.01095), algorithm 2    meaning
    a, b         alpha, sigma                                      sqrt(alpha_bar), sqrt(1 - alpha_bar)
    lam          lambda                                            log(a / b), half the logarithm of the signal to noise
    h            h_i                                               growth of lam in the step
    r            r_i                                               growth of lam in the step before, divided by h
    x0           x_theta(x, t)                                     clean motion that the network predicts

    D = (1 + 1 / (2 r)) x0 - 1 / (2 r) x0_before
    x_prev = (b_prev / b) x_t + (a_prev - a b_prev / b) D

D extrapolates the prediction along lam, from the one of the step before. Without one (the first step, or the one after
a step that drew noise) D is x0, and so it is in the last step, where lam becomes infinite and r 0: these are steps of
DDIM. Steps have no density, so that no policy gradient can train them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from motions.base.errors import UserError
from rollouts.diffusion.transitions import StepCoefficients, as_column, ddim_transition
from rollouts.policy import Transition
from rollouts.registry import NO_DENSITY
from rollouts.settings import Denoising


@dataclass(frozen=True, slots=True)
class DPMSolver:
    """DPM-Solver++ (2M), which never draws noise."""

    name: str

    @classmethod
    def of(cls, denoising: Denoising) -> DPMSolver:
        """The solver, which has no options."""
        return cls(denoising.sampler)

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """There is none: see `Sampler.transition`.

        Raises:
            UserError: always.
        """
        raise UserError(f"sampler is {self.name!r}: {NO_DENSITY}")

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A step of the second order, of the first where there is no step before: see `Sampler.noiseless`."""
        before = step.before
        if before is None:
            return ddim_transition(x_t, x0, step, eta=0.0)
        weight = extrapolation(before.alpha_bar, step.alpha_bar, step.alpha_bar_prev)
        extrapolated = x0 + as_column(weight, x0) * (x0 - before.x0)
        return replace(ddim_transition(x_t, extrapolated, step, eta=0.0), x0=x0)


def extrapolation(alpha_bar_before: np.ndarray, alpha_bar: np.ndarray, alpha_bar_prev: np.ndarray) -> np.ndarray:
    """1 / (2 r) of steps from `alpha_bar` to `alpha_bar_prev`, [N] float64; 0 where the latter is 1.

    Args:
        alpha_bar_before: where the step before began.
    """
    last = alpha_bar_prev >= 1.0
    growth = half_log_snr(np.where(last, alpha_bar, alpha_bar_prev)) - half_log_snr(alpha_bar)
    growth_before = half_log_snr(alpha_bar) - half_log_snr(alpha_bar_before)
    return np.where(last, 0.0, growth / (2.0 * growth_before))


def half_log_snr(alpha_bar: np.ndarray) -> np.ndarray:
    """lam = log(a / b) of alpha_bar below 1."""
    return 0.5 * (np.log(alpha_bar) - np.log1p(-alpha_bar))
