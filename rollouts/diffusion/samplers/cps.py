"""Coefficient-preserving sampling (Flow-CPS, arXiv 2509.05952): part of the noise that is left is drawn anew.

After a step the state has the noise b_prev; with the angle phi = noise_scale * pi / 2 the part sin(phi) of it is fresh,
and the rest is the predicted noise eps = (x_t - a x0) / b:

    mean = a_prev x0 + b_prev cos(phi) eps        std = b_prev sin(phi)

The coefficients of signal and noise are those of the schedule, so that states look clean in few steps. Unlike with the
SDEs of `rectified_flow`, the distribution is not kept: it gets narrower, because the predicted noise has less variance
than real noise. The paper states it for rectified flows, z = (1 - t) x0 + t eps; multiplied by a_prev + b_prev it is
the formula above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from motions.base.errors import UserError
from rollouts.diffusion.transitions import StepCoefficients, ddim_transition, noised_prediction
from rollouts.policy import Transition
from rollouts.settings import Denoising


@dataclass(frozen=True, slots=True)
class CPS:
    """Coefficient-preserving sampling; a `noise_scale` of 1 makes all noise fresh."""

    noise_scale: float

    @classmethod
    def of(cls, denoising: Denoising) -> CPS:
        """The sampler with the options' `noise_scale`.

        Raises:
            UserError: it is over 1.
        """
        if denoising.scale > 1.0:
            raise UserError(
                f"sampler cps takes a noise_scale of at most 1, where all noise is fresh, not {denoising.scale:g}"
            )
        return cls(denoising.scale)

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """Fresh and predicted noise: see `Sampler.transition`."""
        noise = np.sqrt(1.0 - step.alpha_bar_prev)
        angle = self.noise_scale * np.pi / 2
        return noised_prediction(x_t, x0, step, noise * np.cos(angle), noise * np.sin(angle))

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """Predicted noise only, as in DDIM: see `Sampler.noiseless`."""
        return ddim_transition(x_t, x0, step, eta=0.0)
