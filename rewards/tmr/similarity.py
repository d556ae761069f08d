"""Similarity of embeddings: cosine, or a reward computed from the euclidean distance.

Pure functions in float64. Each exists for tensors, through which gradients flow, and for arrays.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rewards.declared.semantic import SemanticSettings


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of every row of `left` [..., n, d] with every row of `right` [..., m, d]: [..., n, m] in [-1, 1].

    A zero vector has cosine 0 with everything.
    """
    return np.clip(_unit(left) @ np.swapaxes(_unit(right), -1, -2), -1.0, 1.0)


def euclidean(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Distance of every row of `left` [..., n, d] to every row of `right` [..., m, d]: [..., n, m]."""
    difference = left.astype(np.float64)[..., :, None, :] - right.astype(np.float64)[..., None, :, :]
    return np.linalg.norm(difference, axis=-1)


def distances(left: Tensor, right: Tensor) -> Tensor:
    """`euclidean` of tensors."""
    return (left.double()[..., :, None, :] - right.double()[..., None, :, :]).norm(dim=-1)


def distance_reward(distance: Tensor, settings: SemanticSettings) -> Tensor:
    """Reward of a distance d: linear 1 - clamp(d / max, 0, 1), exponential exp(-d / scale), sigmoid(-d / scale).

    MDM-GRPO (jufan666/text-to-motion) additionally rescales the exponential form by minimum and maximum over the batch;
    that would make a sample's reward depend on the others and is left out.
    """
    if settings.tmr_normalization == "linear":
        return 1.0 - (distance / settings.tmr_max_distance).clamp(0.0, 1.0)
    decay = torch.exp(-distance / settings.tmr_scale)
    return decay if settings.tmr_normalization == "exponential" else decay / (1.0 + decay)


def similarities(left: Tensor, right: Tensor, settings: SemanticSettings) -> Tensor:
    """The similarity that `reward_type` and `tmr_similarity_type` select, of every row of `left` [..., n, d] with every
    row of `right` [..., m, d]: [..., n, m]."""
    if settings.tmr_similarity_type == "cosine":
        units = (torch.nn.functional.normalize(vectors.double(), dim=-1, eps=1e-300) for vectors in (left, right))
        one, other = units
        return (one @ other.mT).clamp(-1.0, 1.0)
    return distance_reward(distances(left, right), settings)


def similarity(left: np.ndarray, right: np.ndarray, settings: SemanticSettings) -> np.ndarray:
    """`similarities` of arrays."""
    if settings.tmr_similarity_type == "cosine":
        return cosine(left, right)
    return distance_reward(torch.from_numpy(euclidean(left, right)), settings).numpy()


def _unit(vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float64)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(norms == 0.0, 1.0, norms)
