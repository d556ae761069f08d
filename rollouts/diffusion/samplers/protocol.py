"""What a sampler is: it makes the Gaussian of a denoising step of the clean motion that the network predicts.

A sampler is a class that is made from `DenoisingSettings`' numbers and has the methods of `Sampler`. It keeps no state:
rollout, scoring and reference call it for the same step, in any order, and must get the same numbers. What a multistep
solver needs of the step before, the sampling loop hands over in `StepCoefficients.before`. A new sampler is a module
and a line in `rollouts.registry.SAMPLERS`; `--sampler package.module:Class` needs no line.
"""

from __future__ import annotations

from typing import Protocol, Self

from torch import Tensor

from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.diffusion.transitions import StepCoefficients
from rollouts.policy import Transition
from rollouts.registry import SAMPLERS
from rollouts.settings import Denoising


class Sampler(Protocol):
    """Turns a prediction into a step. Arguments: noisy and clean motions [N, T, D] and the steps' coefficients [N]."""

    @classmethod
    def of(cls, denoising: Denoising) -> Self:
        """The sampler with the options it heeds. Raises UserError for a value that it cannot have."""
        ...

    def transition(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The Gaussian of a stochastic step. Raises UserError where the sampler never draws noise."""
        ...

    def noiseless(self, x_t: Tensor, x0: Tensor, step: StepCoefficients) -> Transition:
        """The same step without noise (std 0); the last step of a chain is always this one."""
        ...


def make_sampler(denoising: Denoising) -> Sampler:
    """The sampler that the options name.

    Raises:
        UserError: there is none of that name, it is another class, or an option is out of its range.
    """
    found = load_named("sampler", denoising.sampler, SAMPLERS)
    if lacking := [name for name in ("of", "transition", "noiseless") if not hasattr(found, name)]:
        raise UserError(f"sampler {denoising.sampler} lacks {', '.join(lacking)} (see rollouts.diffusion.samplers)")
    return found.of(denoising)
