"""Samplers: which Gaussian a denoising step is, given the clean motion that the network predicts.

A sampler is a class that is made from `DenoisingSettings`' numbers and has the two methods of `Sampler`. It keeps no
state: rollout, scoring and reference call it for the same step, in any order, and must get the same numbers. A new one
is a module and a line in `rollouts.registry.SAMPLERS`; `--sampler package.module:Class` needs no line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.diffusion.transitions import StepCoefficients, Transition, ddim_transition, ddpm_transition
from rollouts.registry import SAMPLERS
from rollouts.settings import Denoising


class Sampler(Protocol):
    """Turns a prediction into a step. Arguments: noisy and clean motions [N, T, D] and the steps' coefficients [N]."""

    @classmethod
    def of(cls, denoising: Denoising) -> Self:
        """The sampler with the options it heeds."""
        ...

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The Gaussian of a stochastic step."""
        ...

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The same step without noise (std 0); the last step of a chain is always this one."""
        ...


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


def make_sampler(denoising: Denoising) -> Sampler:
    """The sampler that the options name.

    Raises:
        UserError: there is none of that name, or it is another class.
    """
    found = load_named("sampler", denoising.sampler, SAMPLERS)
    if lacking := [name for name in ("of", "transition", "noiseless") if not hasattr(found, name)]:
        raise UserError(f"sampler {denoising.sampler} lacks {', '.join(lacking)} (see rollouts.diffusion.samplers)")
    return found.of(denoising)
