"""Bootstrap intervals of means over prompts, where prompts of one text, and texts of one clip, are alike.

The same caption may be drawn for several prompts, and a clip has several captions; taking all prompts for independent
gives intervals that are too narrow. Both levels are resampled: clips with replacement, and within each clip that is
drawn its texts (two-stage cluster bootstrap, Davison & Hinkley 1997, section 3.8). Prompts of a text stay together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_RESAMPLES = 10_000
FEW = 30
"""Below this number of independent units the bounds of a percentile bootstrap lie too close together."""


class Resamples:
    """The resamples of P prompts, drawn once and used for every quantity.

    Args:
        texts: [P] texts of the prompts.
        clips: [P] recordings that the prompts describe; None where that is not known, and the text stands for itself.
        seed: fixes the resamples.

    Example:
        Resamples(["a walk", "a walk", "a kick"], ["walk", "walk", "kick"]).interval(np.array([0.1, 0.2, 0.3]))
    """

    def __init__(self, texts: Sequence[str], clips: Sequence[str | None] | None = None, seed: int = 0) -> None:
        if not texts:
            raise ValueError("there is no prompt to resample")
        owners = [
            text if clip is None else clip for text, clip in zip(texts, clips or [None] * len(texts), strict=True)
        ]
        units = list(zip(owners, texts, strict=True))
        # In the order of their first appearance, so that the draws do not depend on how a set is ordered.
        rows = {unit: row for row, unit in enumerate(dict.fromkeys(units))}
        of_clip: dict[str, list[int]] = {}
        for (owner, _), row in rows.items():
            of_clip.setdefault(owner, []).append(row)
        self.num_texts = len(set(texts))
        """Number of different texts."""
        self.num_clips = len(of_clip)
        """Number of different clips, or combinations of clips."""
        self._rows = np.array([rows[unit] for unit in units])
        rng = np.random.default_rng(seed)
        times = rng.multinomial(len(of_clip), np.full(len(of_clip), 1.0 / len(of_clip)), size=NUM_RESAMPLES)
        self._weights = np.zeros((NUM_RESAMPLES, len(rows)), np.float32)
        for column, members in enumerate(of_clip.values()):
            share = np.full(len(members), 1.0 / len(members))
            self._weights[:, members] = rng.multinomial(times[:, column] * len(members), share)
        self._sizes = np.bincount(self._rows, minlength=len(rows)).astype(np.float64)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of values [P] or [P, S] in every resample: [NUM_RESAMPLES]."""
        per_prompt = np.asarray(values, np.float64).reshape(len(self._rows), -1).mean(axis=1)
        sums = np.bincount(self._rows, weights=per_prompt, minlength=len(self._sizes))
        return (self._weights @ sums) / (self._weights @ self._sizes)

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """95 % interval of the mean of values [P] or [P, S] (percentiles, Efron 1979)."""
        return bounds(self.means(values))

    @property
    def caution(self) -> str | None:
        """Why the intervals should not be trusted, for the report; None where there are enough prompts."""
        if min(self.num_texts, self.num_clips) >= FEW:
            return None
        if self.num_texts == 1:
            return "only one text, so no interval can be given"
        return (
            f"only {self.num_texts} texts of {counted(self.num_clips, 'clip')} or combinations of clips: such "
            "intervals are too narrow (with 16 independent prompts a 95 % interval holds the truth in about 90 % of "
            "cases)"
        )


def bounds(means: np.ndarray) -> tuple[float, float]:
    """2.5 % and 97.5 % percentiles of resampled values."""
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 clip`, `2 clips`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
