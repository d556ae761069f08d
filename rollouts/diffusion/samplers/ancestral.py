"""DDPM and DDIM: the posterior of the forward process, and its family with a noise level."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rollouts.diffusion.transitions import StepCoefficients, ddim_transition, ddpm_transition
from rollouts.policy import Transition
from rollouts.settings import Denoising


@dataclass(frozen=True, slots=True)
class DDIM:
    """Song et al. 2021: noise of level `eta`, none at 0."""

    eta: float

    @classmethod
    def of(cls, denoising: Denoising) -> DDIM:
        """The sampler with the options' `eta`."""
        return cls(denoising.eta)

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """A DDIM step: see `Sampler.transition`."""
        return ddim_transition(x_t, x0, step, self.eta)

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The deterministic step: see `Sampler.noiseless`."""
        return ddim_transition(x_t, x0, step, eta=0.0)


@dataclass(frozen=True, slots=True)
class DDPM:
    """Ho et al. 2020: the posterior q(x_prev | x_t, x0). Its steps without noise are those of DDIM."""

    @classmethod
    def of(cls, denoising: Denoising) -> DDPM:
        """The sampler, which has no options."""
        return cls()

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The posterior: see `Sampler.transition`."""
        return ddpm_transition(x_t, x0, step)

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The deterministic DDIM step: see `Sampler.noiseless`."""
        return ddim_transition(x_t, x0, step, eta=0.0)
