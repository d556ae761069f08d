"""The dense semantic reward: each segment should match its own text and not the other segments' texts.

Pure functions in float64. Symbols, with N motions of one prompt and K segments:

    similarity[n, k, j]       s_kj   motion segment k with text j
    text_similarity[k, j]     B_kj   text k with text j, the margin
    r_pos[n]                  R_pos = mean_k s_kk
    r_neg[n]                  R_neg = mean_k max_j relu(s_kj - B_kj)
    semantic[n]               R_sem = R_pos - alpha * R_neg

B is an adaptive margin: similarity to another text is penalised only beyond the similarity of the two texts. Text-text
similarities are usually larger, so R_neg is often 0; `margin_active` is the fraction of pairs where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.data.prompts import MIN_SEGMENT_FRAMES, Prompt


@dataclass(frozen=True, slots=True)
class DenseReward:
    """The dense reward of N motions and its parts, each [N] float64."""

    semantic: np.ndarray
    r_pos: np.ndarray
    r_neg: np.ndarray
    margin_active: np.ndarray
    """Fraction of the (segment, other text) pairs whose margin is exceeded; 0 with one segment."""
    logic_accuracy: np.ndarray
    """Fraction of segments whose most similar text is their own (Logic-Acc of MDM-GRPO); 1 with one segment."""


def dense_reward(similarity: np.ndarray, text_similarity: np.ndarray, alpha: float) -> DenseReward:
    """R_sem and its parts from s [N, K, K] and B [K, K].

    Raises:
        ValueError: shapes that do not fit.
    """
    num_segments = text_similarity.shape[0]
    if similarity.shape[1:] != (num_segments, num_segments) or text_similarity.shape != (num_segments, num_segments):
        raise ValueError(
            f"similarity {similarity.shape} and text_similarity {text_similarity.shape}: need [N,K,K], [K,K]"
        )
    other = ~np.eye(num_segments, dtype=bool)
    own = np.diagonal(similarity, axis1=1, axis2=2)
    # j = k contributes 0 by definition (B_kk is the largest possible similarity); computed this way without rounding.
    excess = np.where(other, np.maximum(similarity - text_similarity, 0.0), 0.0)
    r_pos = own.mean(axis=1)
    r_neg = excess.max(axis=2).mean(axis=1)
    active = (excess > 0.0).sum(axis=(1, 2)) / max(int(other.sum()), 1)
    correct = similarity.argmax(axis=2) == np.arange(num_segments)
    return DenseReward(r_pos - alpha * r_neg, r_pos, r_neg, active, correct.mean(axis=1))


def dense_reward_with_gradient(similarity: Tensor, text_similarity: Tensor, alpha: float) -> Tensor:
    """R_sem [N] of `dense_reward`, for tensors."""
    other = ~torch.eye(len(text_similarity), dtype=torch.bool, device=similarity.device)
    excess = torch.where(other, (similarity - text_similarity).clamp(min=0.0), 0.0)
    own = torch.diagonal(similarity, dim1=1, dim2=2)
    return own.mean(dim=1) - alpha * excess.amax(dim=2).mean(dim=1)


def segment_ranges(prompt: Prompt, lengths: np.ndarray, max_frames: int) -> np.ndarray:
    """Half-open frame ranges [N, K, 2] of a prompt's segments in N motions of `lengths` [N] frames.

    A motion ends at its length or at `max_frames`, whichever is earlier; segments end there too and never extend into
    padding. Frames after the last segment belong to no segment.

    Raises:
        UserError: a segment has fewer than 4 frames left.
    """
    boundaries = np.array(prompt.boundaries, dtype=np.int64).reshape(1, -1, 2)
    ranges = np.minimum(boundaries, np.minimum(lengths, max_frames).reshape(-1, 1, 1))
    frames = ranges[:, :, 1] - ranges[:, :, 0]
    if frames.size == 0:
        raise ValueError(f"prompt {prompt.text!r} has no segments")
    if frames.min() < MIN_SEGMENT_FRAMES:
        sample, segment = np.unravel_index(int(frames.argmin()), frames.shape)
        raise UserError(
            f"prompt {prompt.text!r}, sample {sample}: segment {segment} ({prompt.segments[segment].text!r}) has "
            f"{frames[sample, segment]} frames of a motion of {lengths[sample]} (at most {max_frames} are looked at); "
            f"at least {MIN_SEGMENT_FRAMES} are needed"
        )
    return ranges


def cut(features: np.ndarray, ranges: np.ndarray) -> list[np.ndarray]:
    """Clips of motions [N, T, D] at ranges [N, K, 2]: N*K views [t, D], sample by sample."""
    return [motion[start:end] for motion, rows in zip(features, ranges, strict=True) for start, end in rows]


def cut_with_gradient(features: Tensor, ranges: np.ndarray) -> tuple[Tensor, Tensor]:
    """Clips of motions [N, T, D] at ranges [N, K, 2], sample by sample and padded with zeros: [N*K, t, D], and their
    lengths [N*K] int64."""
    clips = [motion[start:end] for motion, rows in zip(features, ranges, strict=True) for start, end in rows]
    lengths = torch.tensor([len(clip) for clip in clips], device=features.device)
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths


def pad(clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pads clips of unequal length with zeros: [M, T, D] float32, and their lengths [M] int64."""
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    padded = np.zeros((len(clips), int(lengths.max()), clips[0].shape[1]), dtype=np.float32)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    return padded, lengths
