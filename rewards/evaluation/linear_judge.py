"""A second judge that shares neither architecture nor text encoder with the rewards.

It has no network: a text is the counts of its words, of pairs of neighbouring words and of the character n-grams of its
words; a motion is a few statistics of its features over time. Regularised canonical correlation (Vinod 1976) finds the
directions in which both go together; their cosine is the score. It is fitted in a second or two on the data's captions
for judges, always with the same result, so that no file of weights is needed.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence

import numpy as np

from motions.data.text_motion import TextMotion, thinned
from motions.skeleton.features import FeatureLayout
from motions.skeleton.skeletons import Skeleton

TEXT_WIDTH = 2048
MOST_MOTIONS = 2000
"""More motions are thinned out evenly: the decompositions below take time with the cube of their number."""
MOTION_PARTS, TEXT_PARTS, WIDTH = 150, 200, 28
"""Principal components that are kept of motions and of texts, and canonical directions."""
MOTION_RIDGE, TEXT_RIDGE = 0.01, 0.1
"""Regularisation, relative to the largest variance."""


class LinearJudge:
    """Embeds texts and motions; fitted by `fit`.

    Example:
        judge = LinearJudge.fit(dataset.items("judge"), dataset.skeleton)
        judge.embed_motions([features]) @ judge.embed_texts(["a person walks"]).T   # cosine
    """

    def __init__(self, skeleton: Skeleton, motion: _Projection, text: _Projection, rarity: np.ndarray) -> None:
        self.skeleton = skeleton
        self._motion, self._text, self._rarity = motion, text, rarity

    @classmethod
    def fit(cls, items: Sequence[TextMotion], skeleton: Skeleton) -> LinearJudge:
        """The judge of these motions and captions; a function of them alone.

        Raises:
            ValueError: fewer than two motions, or only one caption.
        """
        chosen = thinned(items, MOST_MOTIONS)
        captions = list(dict.fromkeys(caption for item in chosen for caption in item.captions))
        if len(chosen) < 2 or len(captions) < 2:
            raise ValueError(f"{len(chosen)} motions with {len(captions)} captions; a judge needs two of each")
        counts = np.stack([text_counts(caption) for caption in captions])
        rarity = np.log((1.0 + len(captions)) / (1.0 + (counts > 0).sum(axis=0)))
        row = dict(zip(captions, _unit(counts * rarity), strict=True))
        texts = np.stack([np.mean([row[caption] for caption in item.captions], axis=0) for item in chosen])
        motions = np.stack([motion_statistics(item.features, skeleton) for item in chosen])
        motion = _whitened(motions, MOTION_PARTS, MOTION_RIDGE, scale=motions.std(axis=0) + 1e-3)
        text = _whitened(np.stack(list(row.values())), TEXT_PARTS, TEXT_RIDGE)
        left, strengths, right = np.linalg.svd(motion(motions).T @ text(texts) / len(chosen))
        kept = min(WIDTH, len(strengths))
        share = np.sqrt(strengths[:kept])
        return cls(skeleton, motion.turned(left[:, :kept] * share), text.turned(right[:kept].T * share), rarity)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors [M, d] of M texts."""
        return _unit(self._text(_unit(np.stack([text_counts(text) for text in texts]) * self._rarity)))

    def embed_motions(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors [M, d] of motions [T_i, D] in physical units."""
        return _unit(self._motion(np.stack([motion_statistics(clip, self.skeleton) for clip in clips])))


class _Projection:
    def __init__(self, mean: np.ndarray, matrix: np.ndarray) -> None:
        self._mean, self._matrix = mean, matrix

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self._mean) @ self._matrix

    def turned(self, matrix: np.ndarray) -> _Projection:
        return _Projection(self._mean, self._matrix @ matrix)


def _whitened(rows: np.ndarray, parts: int, ridge: float, scale: np.ndarray | float = 1.0) -> _Projection:
    """Principal components with about unit variance; weak ones stay smaller."""
    mean = rows.mean(axis=0)
    _, singular, axes = np.linalg.svd((rows - mean) / scale, full_matrices=False)
    kept = max(1, min(parts, int((singular > 1e-6).sum())))
    variance = singular[:kept] ** 2 / len(rows)
    return _Projection(
        mean, axes[:kept].T / np.reshape(scale, (-1, 1)) / np.sqrt(variance + ridge * variance[0] + 1e-12)
    )


def text_counts(text: str) -> np.ndarray:
    """Square roots of hashed counts [TEXT_WIDTH] of words, neighbouring words, and character n-grams of 3 to 5."""
    counts = np.zeros(TEXT_WIDTH)
    words = re.findall(r"\w+", text.lower())
    pieces = [f"w {word}" for word in words] + [f"p {pair}" for pair in itertools.pairwise(words)]
    for word in words:
        marked = f"<{word}>"
        pieces += [marked[at : at + size] for size in (3, 4, 5) for at in range(len(marked) - size + 1)]
    for piece in pieces:
        counts[zlib.crc32(piece.encode()) % TEXT_WIDTH] += 1.0
    return np.sqrt(counts)


def motion_statistics(features: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Of each feature but the contacts: mean, spread, extremes, means of the three thirds, and rate of change."""
    contacts = FeatureLayout(skeleton.num_joints).contacts
    values = np.delete(np.asarray(features, np.float64), np.r_[contacts], axis=1)
    thirds = [third.mean(axis=0) for third in np.array_split(values, 3)] if len(values) > 2 else [values[0]] * 3
    rate = np.abs(np.diff(values, axis=0)).mean(axis=0) if len(values) > 1 else np.zeros(values.shape[1])
    extremes = (values.max(axis=0), values.min(axis=0))
    return np.concatenate([values.mean(axis=0), values.std(axis=0), *extremes, *thirds, np.log(rate + 1e-3)])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
