"""Metrics of text-to-motion models: those of Guo et al. (2022) on embeddings, and TMR's retrieval protocols.

All functions use NumPy in float64 on embeddings or similarities, so they serve any evaluator. Randomness is an
argument: recorded indices, or a generator to draw them with.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import LinAlgWarning, sqrtm

Indices = tuple[np.ndarray, np.ndarray]
"""Two index vectors of one length: the pairs whose distance is averaged."""

RECALL_RANKS = (1, 2, 3, 5, 10)


def distance_matrix(text: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Euclidean distances [N, M] of text embeddings [N, d] (rows) and motion embeddings [M, d] (columns)."""
    text, motion = _embeddings("text", text), _embeddings("motion", motion)
    if text.shape[1] != motion.shape[1]:
        raise ValueError(f"text embeddings have width {text.shape[1]}, motion embeddings {motion.shape[1]}")
    squares = (text**2).sum(1)[:, None] + (motion**2).sum(1)[None] - 2.0 * text @ motion.T
    return np.sqrt(np.maximum(squares, 0.0))


def matching_score(text: np.ndarray, motion: np.ndarray) -> float:
    """Mean distance of each text [N, d] to its own motion [N, d] (multimodal distance); lower is better."""
    text, motion = _paired(text, motion)
    return float(np.linalg.norm(text - motion, axis=1).mean())


def r_precision(text: np.ndarray, motion: np.ndarray, *, top_k: int = 3, pool_size: int = 32) -> np.ndarray:
    """Share of texts whose own motion is among the 1, ..., `top_k` nearest of its pool; [top_k].

    Pools are consecutive rows, as an evaluator's batches of 32 are; an incomplete pool at the end is dropped.
    Raises ValueError where there is no complete pool or `top_k` exceeds it.
    """
    text, motion = _paired(text, motion)
    num_pools = len(text) // pool_size
    if num_pools == 0:
        raise ValueError(f"{len(text)} pairs do not fill one pool of {pool_size}")
    if not 1 <= top_k <= pool_size:
        raise ValueError(f"top_k={top_k}: expected 1 to pool_size={pool_size}")
    hits = np.zeros(top_k)
    for pool in range(num_pools):
        rows = slice(pool * pool_size, (pool + 1) * pool_size)
        nearest = np.argsort(distance_matrix(text[rows], motion[rows]), axis=1, kind="stable")[:, :top_k]
        hits += (nearest == np.arange(pool_size)[:, None]).cumsum(axis=1).sum(axis=0)
    return hits / (num_pools * pool_size)


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """FID of embeddings [N, d] and [M, d]: |dmu|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)).

    Raises ValueError for fewer than two rows, different widths, or a square root that is not real.
    """
    real, generated = _embeddings("real", real), _embeddings("generated", generated)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(f"real embeddings have width {real.shape[1]}, generated ones {generated.shape[1]}")
    for name, array in (("real", real), ("generated", generated)):
        if len(array) < 2:
            raise ValueError(f"{name} has {len(array)} rows, a covariance needs at least 2")
    return frechet_distance_of_moments(*moments(real), *moments(generated))


def moments(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] (divided by N - 1) of embeddings [N, d]."""
    array = _embeddings("embeddings", embeddings)
    return array.mean(axis=0), np.atleast_2d(np.cov(array, rowvar=False))


def frechet_distance_of_moments(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """Frechet distance of two Gaussians, with the fallbacks of Guo et al.'s code.

    If the square root is not finite (singular product) it is computed again with 1e-6 added to both diagonals. An
    imaginary part is dropped where its diagonal is below 1e-3, else ValueError is raised.
    """
    with warnings.catch_warnings():
        # With fewer embeddings than dimensions the product is singular; its square root exists all the same.
        warnings.simplefilter("ignore", LinAlgWarning)
        root = np.asarray(sqrtm(cov1 @ cov2))
    if not np.isfinite(root).all():
        ridge = 1e-6 * np.eye(len(cov1))
        root = np.asarray(sqrtm((cov1 + ridge) @ (cov2 + ridge)))
    if np.iscomplexobj(root):
        imaginary = float(np.abs(np.imag(np.diagonal(root))).max())
        if not imaginary < 1e-3:
            raise ValueError(f"square root of the covariance product has an imaginary part of {imaginary:.3g}")
        root = np.real(root)
    difference = mean1 - mean2
    return float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2.0 * np.trace(root))


def diversity(
    embeddings: np.ndarray,
    *,
    num_pairs: int = 300,
    rng: np.random.Generator | None = None,
    indices: Indices | None = None,
) -> float:
    """Mean distance of random pairs of embeddings [N, d].

    The two sides are independent draws without replacement, so a row may meet itself. Give `rng`, or the recorded
    `indices` (then `num_pairs` is not used). Raises ValueError where N < num_pairs.
    """
    array = _embeddings("embeddings", embeddings)
    first, second = _draw(len(array), num_pairs, rng, indices, "embeddings")
    return float(np.linalg.norm(array[first] - array[second], axis=1).mean())


def multimodality(
    embeddings: np.ndarray,
    *,
    num_pairs: int = 10,
    rng: np.random.Generator | None = None,
    indices: Indices | None = None,
) -> float:
    """Mean distance between motions of one text, from embeddings [texts, repeats, d].

    All texts share the two draws of repeats; arguments as in `diversity`. Raises ValueError where repeats < num_pairs.
    """
    array = np.asarray(embeddings, dtype=np.float64)
    if array.ndim != 3:
        raise ValueError(f"embeddings have shape {array.shape}, expected [texts, repeats, d]")
    first, second = _draw(array.shape[1], num_pairs, rng, indices, "repeats")
    return float(np.linalg.norm(array[:, first] - array[:, second], axis=2).mean())


def retrieval_metrics(
    similarity: np.ndarray,
    *,
    text_similarity: np.ndarray | None = None,
    threshold: float = 0.95,
    round_to: int | None = 2,
) -> dict[str, float]:
    """TMR's retrieval metrics of a similarity matrix [N, N], rows texts and columns motions.

    Args:
        text_similarity: [N, N] cosines of the sentence embeddings. With it (protocol "threshold") every motion whose
            text has a score cos/2 + 1/2 above `threshold` counts as correct; without it ("normal") only the text's own
            motion.
        round_to: decimals of the result, None for none.

    Returns:
        For each direction, t2m and m2t: `R01 R02 R03 R05 R10` (recall at rank k, in percent), `MedR` (median rank,
        1 = first) and `len` (N). Equal similarities share their mean rank.
    """
    scores = np.asarray(similarity, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(f"similarity has shape {scores.shape}, expected [N, N]")
    if not np.isfinite(scores).all():
        raise ValueError("similarity is not finite")
    same = np.eye(len(scores), dtype=bool)
    if text_similarity is not None:
        if np.shape(text_similarity) != scores.shape:
            raise ValueError(f"text_similarity has shape {np.shape(text_similarity)}, expected {scores.shape}")
        same = same | (np.asarray(text_similarity) > 2.0 * threshold - 1.0)
    metrics: dict[str, float] = {}
    for direction, rows, right in (("t2m", scores, same), ("m2t", scores.T, same.T)):
        ranks = _ranks(rows, right)
        for k in RECALL_RANKS:
            metrics[f"{direction}/R{k:02d}"] = 100.0 * float((ranks < k).mean())
        metrics[f"{direction}/MedR"] = float(np.median(ranks)) + 1.0
        metrics[f"{direction}/len"] = float(len(ranks))
    return metrics if round_to is None else {name: round(value, round_to) for name, value in metrics.items()}


def grouped_retrieval_metrics(
    similarity: np.ndarray, *, group_size: int = 32, order: np.ndarray | None = None
) -> dict[str, float]:
    """TMR's "guo" protocol: retrieval within groups of consecutive rows, averaged, rounded to 2 decimals.

    `order` [N] permutes texts and motions first (`guo_order` is the published one); an incomplete group is dropped.
    Raises ValueError where there is no complete group.
    """
    scores = np.asarray(similarity, dtype=np.float64)
    indices = np.arange(len(scores)) if order is None else np.asarray(order)
    num_groups = len(indices) // group_size
    if num_groups == 0:
        raise ValueError(f"{len(indices)} pairs do not fill one group of {group_size}")
    groups = [indices[start * group_size : (start + 1) * group_size] for start in range(num_groups)]
    results = [retrieval_metrics(scores[np.ix_(group, group)], round_to=None) for group in groups]
    return {name: round(float(np.mean([result[name] for result in results])), 2) for name in results[0]}


def guo_order(num_pairs: int) -> np.ndarray:
    """The published order of TMR's grouped protocol, for clips sorted by id: NumPy's legacy generator with seed 0."""
    order = np.arange(num_pairs)
    np.random.RandomState(0).shuffle(order)
    return order


def _ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank, counted from 0, of the best correct column in each row [N]; ties share their mean rank."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    better = (scores > best).sum(axis=1)
    tied = (scores == best).sum(axis=1)
    return better + (tied - 1) / 2.0


def _draw(size: int, num_pairs: int, rng: np.random.Generator | None, indices: Indices | None, what: str) -> Indices:
    if (rng is None) == (indices is None):
        raise ValueError("give either rng or indices")
    if indices is not None:
        return np.asarray(indices[0]), np.asarray(indices[1])
    assert rng is not None
    if not 1 <= num_pairs <= size:
        raise ValueError(f"num_pairs={num_pairs}: expected 1 to the number of {what}, {size}")
    return rng.choice(size, num_pairs, replace=False), rng.choice(size, num_pairs, replace=False)


def _embeddings(name: str, array: np.ndarray) -> np.ndarray:
    checked = np.asarray(array, dtype=np.float64)
    if checked.ndim != 2 or not len(checked):
        raise ValueError(f"{name} has shape {checked.shape}, expected [N, d]")
    if not np.isfinite(checked).all():
        raise ValueError(f"{name} is not finite")
    return checked


def _paired(text: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    text, motion = _embeddings("text", text), _embeddings("motion", motion)
    if text.shape != motion.shape:
        raise ValueError(f"text embeddings have shape {text.shape}, motion embeddings {motion.shape}")
    return text, motion
