"""The metrics of Guo et al. (2022) in replications: each on other motions, summarised by means and intervals.

One replication gives one number for each metric. Reported are the mean over replications and half of its 95 % interval,
1.96 times the population standard deviation over the square root of their number, as the public code has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motions import metrics
from motions.base.errors import UserError

Z_95 = 1.96
TOP_K = 3


class NotFiniteError(UserError):
    """A metric is not a number; the message names it and its replication."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of one replication."""

    texts: np.ndarray
    """[M, d] of texts."""
    parts: np.ndarray
    """[M, d] of motions, or of segments, that belong to the texts."""
    motions: np.ndarray
    """[N, d] of whole motions."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric over the replications."""

    mean: float
    interval: float | None
    """Half of the 95 % interval of the mean; None for one replication, which has no interval."""
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """The summary of one number per replication."""
        spread = Z_95 * float(np.std(values)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), None if len(values) == 1 else spread, tuple(map(float, values)))


def replication_metrics(
    found: Embeddings,
    rng: np.random.Generator,
    *,
    pool_size: int = 32,
    diversity_times: int = 300,
    by_cosine: bool = False,
) -> dict[str, float]:
    """`matching_score`, `r_precision_1` to `_3`, and `diversity` of one replication.

    Args:
        rng: shuffles the pools and draws the pairs.
        pool_size: texts among which a motion's own is searched; those that do not fill a pool are left out.
        diversity_times: pairs of the diversity; with fewer motions as many as there are.
        by_cosine: compare unit vectors, for networks that were trained by the cosine. The public evaluator compares
            embeddings as they are.

    Raises:
        UserError: there is no full pool.
    """
    texts, parts = (unit(found.texts), unit(found.parts)) if by_cosine else (found.texts, found.parts)
    if len(texts) < pool_size:
        raise UserError(
            f"pool_size is {pool_size} and there are {len(texts)} pairs of text and motion: no pool is full. The "
            "published size is 32; with a smaller one R-precision is higher, and is not comparable with published ones"
        )
    order = rng.permutation(len(texts))
    precision = metrics.r_precision(texts[order], parts[order], top_k=min(TOP_K, pool_size), pool_size=pool_size)
    pairs = min(diversity_times, len(found.motions))
    return {
        "matching_score": metrics.matching_score(texts, parts),
        **{f"r_precision_{k}": float(value) for k, value in enumerate(precision, start=1)},
        "diversity": metrics.diversity(found.motions, num_pairs=pairs, rng=rng),
    }


def distances_to(real: np.ndarray, motions: np.ndarray, suffix: str = "") -> dict[str, float]:
    """`fid` of embeddings [M, d] of real motions and [N, d] of others as they are, and `fid_unit` of unit vectors."""
    return {
        f"fid{suffix}": metrics.frechet_distance(real, motions),
        f"fid_unit{suffix}": metrics.frechet_distance(unit(real), unit(motions)),
    }


def summaries(replications: Sequence[Mapping[str, float]], of: str) -> dict[str, Summary]:
    """The summary of each metric that all replications have.

    Args:
        of: whose metrics they are, for messages.

    Raises:
        NotFiniteError: a metric is not finite in a replication: it is never left out of a mean.
    """
    for number, replication in enumerate(replications, start=1):
        for name, value in replication.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"{name} of {of} is {value} in replication {number}; a metric must be finite")
    shared = [name for name in replications[0] if all(name in one for one in replications)]
    return {name: Summary.of([one[name] for one in replications]) for name in shared}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., d] divided by their norms; a zero vector stays one."""
    values = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(norms == 0.0, 1.0, norms)
