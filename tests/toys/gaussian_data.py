"""Data of which everything is known: independent Gaussian numbers, whose best denoiser and ODE have closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rollouts.diffusion.transitions import StepCoefficients


@dataclass(frozen=True)
class GaussianData:
    """Every number of a clean motion is drawn from N(mean, std^2)."""

    mean: float = 0.7
    std: float = 0.5

    def spread(self, alpha_bar: float) -> float:
        """Standard deviation of x_t."""
        return float(np.sqrt(alpha_bar * self.std**2 + 1 - alpha_bar))

    def denoised(self, x_t: Tensor, alpha_bar: float) -> Tensor:
        """E[x0 | x_t], what a perfect network predicts."""
        a = np.sqrt(alpha_bar)
        return self.mean + a * (self.std / self.spread(alpha_bar)) ** 2 * (x_t - a * self.mean)

    def along_the_ode(self, x_t: Tensor, alpha_bar: float, alpha_bar_end: float) -> Tensor:
        """Where the probability flow ODE takes x_t: it keeps the distance from the mean in standard deviations."""
        distance = (x_t - np.sqrt(alpha_bar) * self.mean) / self.spread(alpha_bar)
        return np.sqrt(alpha_bar_end) * self.mean + self.spread(alpha_bar_end) * distance


def one_step(alpha_bar: float, alpha_bar_prev: float, noisiest: bool = False) -> StepCoefficients:
    """The coefficients of a step between two levels, for one sample."""
    levels = np.array([alpha_bar]), np.array([alpha_bar_prev])
    return StepCoefficients(1 - levels[0] / levels[1], *levels, noisiest=np.array([noisiest]))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
