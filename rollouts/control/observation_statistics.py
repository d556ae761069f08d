"""Running mean and variance of observations, independent of how the data are split into batches.

Batches are merged by the pairwise formula of Chan, Golub and LeVeque (1979) in float64, so the result is that of all
observations at once, and variances cannot become negative. Statistics change only when `update` or `merge` is called:
between iterations, so that the policy whose KL divergence was checked is the one that acts next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from motions.base.errors import UserError

CLIP = 5.0
"""Normalised observations are clamped to [-CLIP, CLIP], in cloning, in TRPO and when the controller is used."""


class ObservationStatistics(nn.Module):
    """Count, mean and population variance of observations [O], as float64 buffers.

    Before the first update observations are only clamped (mean 0, variance 1).
    """

    count: Tensor
    mean: Tensor
    variance: Tensor
    _scaled: Tensor

    def __init__(self, size: int, min_std: float, unscaled: Sequence[int] = ()) -> None:
        """Statistics of `size` numbers. Entries whose indices are in `unscaled` (such as a phase) are never changed.

        Raises:
            ValueError: an entry of `unscaled` is outside [0, size).
        """
        super().__init__()
        outside = [index for index in unscaled if not 0 <= index < size]
        if outside:
            raise ValueError(f"unscaled_inputs names {outside}; observations have entries 0 to {size - 1}")
        self.min_std = min_std
        scaled = torch.ones(size, dtype=torch.bool)
        scaled[list(unscaled)] = False
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("_scaled", scaled, persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """(observations - mean) / std, clamped to +-5, except for unscaled entries; any leading shape, float32.

        The standard deviation is at least `min_std`; otherwise noise in nearly constant entries would be amplified.
        """
        return self.frozen()(observations)

    def frozen(self) -> Callable[[Tensor], Tensor]:
        """`forward` with the present statistics, for many calls between two updates."""
        mean, std, limit = self.scaling()
        return lambda observations: ((observations.float() - mean) / std).clamp(-limit, limit)

    def scaling(self) -> tuple[Tensor, Tensor, Tensor]:
        """What observations are normalised with: mean, standard deviation and largest absolute value, [O] float32.

        Of unscaled entries they are 0, 1 and infinity.
        """
        mean, std = self.mean.float(), self.variance.sqrt().clamp_min(self.min_std).float()
        scaled = self._scaled
        mean, std = torch.where(scaled, mean, 0.0), torch.where(scaled, std, 1.0)
        limit = torch.where(scaled, CLIP, math.inf)
        return mean, std, limit

    @torch.no_grad()
    def update(self, observations: Tensor | np.ndarray) -> None:
        """Adds observations [..., O] to the statistics.

        Raises:
            ValueError: another width.
            UserError: a number is not finite; the statistics are then unchanged.
        """
        data = torch.as_tensor(observations).to(self.mean)
        if data.shape[-1] != self.mean.numel():
            raise ValueError(f"observations have {data.shape[-1]} entries; the statistics are of {self.mean.numel()}")
        data = data.reshape(-1, self.mean.numel())
        if len(data) == 0:
            return
        if not bool(data.isfinite().all()):
            entries = (~data.isfinite()).any(0).nonzero().flatten().tolist()
            raise UserError(f"observations are not finite in entries {entries[:8]}; statistics were not changed")
        variance, mean = torch.var_mean(data, dim=0, correction=0)
        self.merge(len(data), mean, variance)

    @torch.no_grad()
    def merge(self, count: float, mean: Tensor, variance: Tensor, blend: float = 1.0) -> None:
        """Adds `count` observations with this mean [O] and population variance [O].

        Args:
            blend: fraction of the way to the merged mean and variance; 1 is exact. The count rises in any case.
        """
        total = self.count + count
        share = count / total
        shift = mean - self.mean
        # With no data yet `share` is 1, so the initial values of the buffers have no weight.
        merged = (1 - share) * self.variance + share * variance + share * (1 - share) * shift.square()
        self.variance.lerp_(merged, blend)
        self.mean.add_(blend * share * shift)
        self.count.copy_(total)
