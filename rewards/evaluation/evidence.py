"""Whether a network that scores text and motion knows anything of a run's data.

A TMR that was trained on other motions gives numbers for any pair, and they look like evidence. Therefore each one
first searches the caption of real held-out motions among those of others; where it finds hardly more than chance would,
its scores are marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from motions.data.text_motion import TextMotion

POOL = 32
"""Captions among which the right one is searched, as for the R-precision of Guo et al. (2022)."""
MOST_MOTIONS = 256
LEAST_SKILL = 0.15
"""Share of the way from chance to always right, below which scores are no evidence."""


class PairEmbedder(Protocol):
    """Embeds texts and motions into one space, in which the cosine compares them."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """[M, d] of M texts."""
        ...

    def embed_motions(self, clips: list[np.ndarray]) -> np.ndarray:
        """[M, d] of M motions [T_i, D] in physical units."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """How often the caption of a real held-out motion is found."""

    name: str
    """What was measured: `semantic`, `judge_matching`, `second_judge`."""
    accuracy: float
    """Share of motions whose nearest caption is one of their own."""
    chance: float
    """The same for guessing."""
    num_motions: int

    @property
    def counts(self) -> bool:
        """Whether the scores are evidence: clearly better than chance."""
        return self.accuracy - self.chance >= LEAST_SKILL * (1.0 - self.chance)

    @property
    def words(self) -> str:
        """The result as a sentence."""
        verdict = "" if self.counts else ": NO EVIDENCE, it does not know this data"
        return (
            f"{self.name} finds the caption of {self.accuracy:.0%} of {self.num_motions} real held-out motions "
            f"(chance {self.chance:.0%}){verdict}"
        )

    def row(self) -> dict[str, Any]:
        """Its entry in `evaluation.json`."""
        return {**asdict(self), "counts": self.counts}


def measure_evidence(name: str, embedder: PairEmbedder, items: Sequence[TextMotion], seed: int = 0) -> Evidence | None:
    """Retrieval of captions among up to `POOL` that belong to different motions; None where there are not two such.

    Args:
        items: held-out motions; more than `MOST_MOTIONS` are thinned out by chance, a function of `seed`.
    """
    order = np.random.default_rng(seed).permutation(len(items))
    alike: dict[tuple[str, ...], list[TextMotion]] = {}
    for item in (items[int(place)] for place in order[:MOST_MOTIONS]):
        alike.setdefault(item.captions, []).append(item)
    waiting, hits, chances = list(alike.values()), [], []
    while waiting:
        pool: list[list[TextMotion]] = []
        taken: set[str] = set()
        later = []
        for motions in waiting:
            fits = len(pool) < POOL and taken.isdisjoint(motions[0].captions)
            (pool if fits else later).append(motions)
            taken.update(motions[0].captions if fits else ())
        waiting = later
        if len(pool) < 2 or (hits and len(pool) < POOL // 2):
            continue
        texts = embedder.embed_texts([motions[0].captions[0] for motions in pool])
        clips = embedder.embed_motions([item.features for motions in pool for item in motions])
        nearest = (_unit(clips) @ _unit(texts).T).argmax(axis=1)
        right = np.repeat(np.arange(len(pool)), [len(motions) for motions in pool])
        hits += list(nearest == right)
        chances += [1.0 / len(pool)] * len(right)
    return Evidence(name, float(np.mean(hits)), float(np.mean(chances)), len(hits)) if hits else None


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
