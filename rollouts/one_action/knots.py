"""Knots: places at equal distances in time, between which the numbers of an action are interpolated linearly.

Knot k stands at frame k * spacing, and the last one at or behind the last frame, so that every frame lies between two
knots and an action says the same of a frame whatever comes after it.

Legend: N samples, T frames or places, K knots, Z numbers of a knot.
"""

from __future__ import annotations

import torch
from torch import Tensor


def num_knots(num_frames: int, spacing: int) -> int:
    """Number K of knots of a motion: one for every `spacing` frames that are begun, and the first."""
    return 1 + -(-(num_frames - 1) // spacing)


def hat_weights(
    num_places: int, first: float, step: float, count: int, spacing: int, lengths: Tensor, dtype: torch.dtype
) -> Tensor:
    """How much each knot counts at each place, [N, T, K]: 1 at the knot, 0 from its neighbours on. Sums over K are 1.

    Args:
        num_places: T.
        first: frame of the first place, which may lie between two frames.
        step: frames from one place to the next.
        count: K.
        lengths: frames of each motion [N]; places beyond the last one are as that is, so that no knot behind it counts.
    """
    frames = first + step * torch.arange(num_places, device=lengths.device, dtype=torch.float32)
    knots = spacing * torch.arange(count, device=lengths.device, dtype=torch.float32)
    places = torch.minimum(frames, lengths.unsqueeze(1).float() - 1.0)
    return (1.0 - (places.unsqueeze(2) - knots).abs() / spacing).clamp(min=0.0).to(dtype)


def spread(values: Tensor, weights: Tensor) -> Tensor:
    """Values of knots [N, K, Z] at places [N, T, Z], by `hat_weights` [N, T, K]."""
    return torch.matmul(weights, values)


def gathered(values: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Weighted means [N, K, Z] of values [N, T, Z] around each knot; 0 where no place is real.

    Args:
        weights: `hat_weights` [N, T, K].
        mask: [N, T] bool, True = real place.
    """
    shares = weights.transpose(1, 2) * mask.unsqueeze(1).to(values.dtype)
    return torch.matmul(shares, values) / shares.sum(dim=2, keepdim=True).clamp(min=1e-6)
