"""Composed denoising: a composite prompt's clean motion, put together from predictions of its segments.

At every denoising step the frames of each segment, and `overlap` more on both sides, are cut out of the noisy motion
and predicted under the segment's own text. The predictions are blended across the borders. What results takes the place
of the prediction for the whole motion, so that a step remains one Gaussian with one log-probability, and everything
that is made from it (ratio, KL, gradient) stays exact.

Sources: Bar-Tal et al. 2023 (MultiDiffusion, for pictures), Petrovich et al. 2024 (STMC, for motions in time).

Legend: N samples, T frames, D features, K segments, C frames of the longest crop.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rollouts.messages import Boundaries
from rollouts.settings import Blend


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Crops that are predicted in one forward."""

    segments: tuple[int, ...]
    """The segments of the crops."""
    frames: Tensor
    """Frames of each crop [crops, C] int64; shorter ones repeat their last one."""
    mask: Tensor | None
    """[crops, C] bool, True = a frame of the crop; None = all are."""


@dataclass(frozen=True, slots=True)
class Composition:
    """Where a motion is cut and how the predictions are put together, in the memory of one device."""

    crops: Boundaries
    """Frames that are predicted for each segment."""
    batches: tuple[CropBatch, ...]
    weights: tuple[Tensor, ...]
    """Share of each crop in its frames [frames of the crop, 1] float32; they sum to 1 in every frame of the motion."""

    def cut(self, values: Tensor, batch: CropBatch) -> Tensor:
        """Crops [N * crops, C, ...] of [N, T, ...], those of a sample adjacent."""
        return values[:, batch.frames.flatten()].unflatten(1, batch.frames.shape).flatten(0, 1)

    def joined(self, predictions: list[Tensor]) -> Tensor:
        """The clean motion [N, T, D] of predictions [N * crops, C, D], one for each of `batches`."""
        by_segment = {
            segment: part.unflatten(0, (-1, len(batch.segments)))[:, place]
            for batch, part in zip(self.batches, predictions, strict=True)
            for place, segment in enumerate(batch.segments)
        }
        num_samples, _, num_features = by_segment[0].shape
        whole = by_segment[0].new_zeros(num_samples, self.crops[-1][1], num_features)
        for segment, ((start, end), weights) in enumerate(zip(self.crops, self.weights, strict=True)):
            whole[:, start:end] += weights * by_segment[segment][:, : end - start]
        return whole


@functools.lru_cache(maxsize=256)
def composition(
    boundaries: Boundaries, overlap: int, blend: Blend, device: torch.device, *, mix_lengths: bool
) -> Composition:
    """The composition of a motion with these segments.

    Args:
        overlap: frames that a crop reaches beyond its segment, as far as there are any.
        mix_lengths: put crops of all lengths into one batch, which needs a network that hides padding.

    Raises:
        ValueError: segments that do not follow each other from frame 0, or an empty one.
    """
    ends = [0, *(end for _, end in boundaries)]
    if any(start != before or end <= start for (start, end), before in zip(boundaries, ends, strict=False)):
        raise ValueError(f"boundaries are {boundaries}; expected segments that follow each other from frame 0")
    crops = tuple((max(0, start - overlap), min(ends[-1], end + overlap)) for start, end in boundaries)
    lengths = [end - start for start, end in crops]
    together = [list(range(len(crops)))] if mix_lengths else _equal_lengths(lengths)
    shares = _shares(boundaries, crops, overlap, blend)
    return Composition(
        crops=crops,
        batches=tuple(_batch(tuple(segments), crops, device) for segments in together),
        weights=tuple(
            torch.from_numpy(share[start:end, None]).to(device, torch.float32)
            for share, (start, end) in zip(shares, crops, strict=True)
        ),
    )


def _equal_lengths(lengths: list[int]) -> list[list[int]]:
    return [[k for k, length in enumerate(lengths) if length == wanted] for wanted in dict.fromkeys(lengths)]


def _batch(segments: tuple[int, ...], crops: Boundaries, device: torch.device) -> CropBatch:
    lengths = np.array([crops[k][1] - crops[k][0] for k in segments])
    places = np.arange(lengths.max())
    frames = np.stack(
        [crops[k][0] + np.minimum(places, length - 1) for k, length in zip(segments, lengths, strict=True)]
    )
    # Without padding no mask: attention kernels with one round in another way.
    mask = None if (lengths == lengths[0]).all() else torch.from_numpy(places < lengths[:, None]).to(device)
    return CropBatch(segments, torch.from_numpy(frames).to(device), mask)


def _shares(boundaries: Boundaries, crops: Boundaries, overlap: int, blend: Blend) -> np.ndarray:
    """Weight of each crop in each frame [K, T]; the columns sum to 1.

    A crop's weight rises over the 2 * overlap frames around its first border and falls over those around its last one.
    """
    num_frames = boundaries[-1][1]
    places = np.arange(num_frames)
    shares = np.zeros((len(boundaries), num_frames))
    for share, (start, end), (first, last) in zip(shares, boundaries, crops, strict=True):
        if blend == "cut":
            share[start:end] = 1.0
            continue
        steps = 2 * overlap + 1
        rise = np.ones(num_frames) if start == 0 else np.clip((places - start + overlap + 1) / steps, 0.0, 1.0)
        fall = np.ones(num_frames) if end == num_frames else np.clip((end + overlap - places) / steps, 0.0, 1.0)
        share[first:last] = np.minimum(rise, fall)[first:last]
        if blend == "smooth":
            share[:] = share * share * (3.0 - 2.0 * share)
    return shares / shares.sum(axis=0)
