"""Batches for TMR training: random windows of motions with smooth noise, and captions as precomputed token embeddings.

Rewards score segments of 16 to 60 frames of imperfect motion, so TMR is trained on windows and on motions with small
flaws. A random batch rarely holds pairs that are hard to distinguish, such as kicks with the left and with the right
leg; therefore part of a batch consists of near misses: motions whose captions are similar to others in the batch. All
randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from learners.supervised.retrieval import RetrievalBatch
from learners.supervised.settings import RetrievalSettings
from motions.base.errors import UserError
from motions.data.text_motion import TextMotion
from motions.skeleton.normalization import Normalizer
from rollouts.text.padding import pad_tokens

_KNOT_FRAMES = 8
"""Frames between the knots of smooth noise."""
_NEAREST = 3
"""Near misses are drawn among this many captions of other motions that are nearest to a caption."""


class CaptionEncoder(Protocol):
    """The methods of `rollouts.text.encoders.TextEncoder` that are used here."""

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token embeddings [L_i, E] of each text."""
        ...

    def encode_pooled(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence embeddings [N, S] of the texts."""
        ...


class RetrievalData:
    """Source of pairs of text and motion from a split.

    Example:
        data = RetrievalData(dataset.items("train"), encoder, settings, dataset.normalizer, max_frames=196)
        learner.update(data.sample(np.random.default_rng([seed, step])))
    """

    def __init__(
        self,
        items: Sequence[TextMotion],
        encoder: CaptionEncoder,
        settings: RetrievalSettings,
        normalizer: Normalizer,
        max_frames: int,
    ) -> None:
        """Encodes every distinct caption once.

        Raises:
            UserError: an item without captions, or a caption over the encoder's limit.
        """
        if not items:
            raise ValueError("items is empty: there is nothing to train on")
        for item in items:
            if not item.captions:
                raise UserError(f"motion {item.clip_id} has no captions")
        if max_frames < settings.min_crop_frames:
            raise UserError(f"max_frames is {max_frames}, below min_crop_frames {settings.min_crop_frames}")
        self.items = tuple(items)
        self.settings = settings
        self.std = normalizer.std
        self.max_frames = max_frames
        self._carriers: dict[str, list[int]] = {}
        for index, item in enumerate(self.items):
            for text in item.captions:
                self._carriers.setdefault(text, []).append(index)
        self._texts = sorted(self._carriers)
        self._rows = {text: row for row, text in enumerate(self._texts)}
        self._tokens = encoder.encode_tokens(self._texts)
        self._sentences = encoder.encode_pooled(self._texts)
        norms = np.linalg.norm(self._sentences, axis=1, keepdims=True)
        self._directions = self._sentences / np.maximum(norms, 1e-12)

    def sample(self, rng: np.random.Generator) -> RetrievalBatch:
        """`batch_size` motions drawn with replacement, each with one of its captions, cropped and with noise added."""
        size = self.settings.batch_size
        num_near = round(size * self.settings.near_miss_share / 2)
        chosen = [self.items[int(index)] for index in rng.integers(len(self.items), size=size - num_near)]
        texts = [item.captions[int(rng.integers(len(item.captions)))] for item in chosen]
        for index in range(num_near):
            near = self._near_miss(texts[index], chosen[index], rng)
            carriers = self._carriers[near]
            chosen.append(self.items[carriers[int(rng.integers(len(carriers)))]])
            texts.append(near)
        longest = min(self.max_frames, max(item.num_frames for item in chosen))
        if rng.random() < self.settings.crop_share and longest > self.settings.min_crop_frames:
            # One crop length for the batch instead of one per motion leaves less padding.
            longest = int(rng.integers(self.settings.min_crop_frames, longest + 1))
        return self._batch(chosen, texts, [self._augmented(item.features, longest, rng) for item in chosen])

    def pairs(self, rng: np.random.Generator, num_frames: int | None = None) -> RetrievalBatch:
        """Pairs for evaluation: as many as possible without repeating a caption or a motion.

        Args:
            rng: generator that chooses motions and windows.
            num_frames: length of a random window to use of motions that are longer; by default whole motions.
        """
        captions: dict[str, TextMotion] = {}
        for index in rng.permutation(len(self.items)):
            item = self.items[int(index)]
            unused = [text for text in item.captions if text not in captions]
            if unused:
                captions[unused[0]] = item
        longest = min(num_frames or self.max_frames, self.max_frames)
        windows = []
        for item in captions.values():
            start = int(rng.integers(max(item.num_frames - longest, 0) + 1))
            windows.append(item.features[start : start + longest])
        return self._batch(list(captions.values()), list(captions), windows)

    def _near_miss(self, text: str, item: TextMotion, rng: np.random.Generator) -> str:
        """A caption similar to `text` that does not describe `item`; if all captions describe it, any of them."""
        similarity = self._directions @ self._directions[self._rows[text]]
        similarity[[self._rows[own] for own in item.captions]] = -np.inf
        count = min(_NEAREST, int(np.isfinite(similarity).sum()))
        if count == 0:
            return self._texts[int(rng.integers(len(self._texts)))]
        nearest = np.argpartition(similarity, -count)[-count:]
        return self._texts[int(nearest[int(rng.integers(count))])]

    def _batch(self, items: Sequence[TextMotion], texts: list[str], windows: list[np.ndarray]) -> RetrievalBatch:
        lengths = np.array([len(window) for window in windows], dtype=np.int64)
        features = np.zeros((len(windows), int(lengths.max()), windows[0].shape[1]), dtype=np.float32)
        for row, window in zip(features, windows, strict=True):
            row[: len(window)] = window
        rows = [self._rows[text] for text in texts]
        tokens, token_lengths = pad_tokens([self._tokens[row] for row in rows])
        return RetrievalBatch(
            features=torch.from_numpy(features),
            lengths=torch.from_numpy(lengths),
            tokens=tokens,
            token_lengths=token_lengths,
            sentences=torch.from_numpy(self._sentences[rows]),
            describes=torch.tensor([[text in item.captions for item in items] for text in texts]),
        )

    def _augmented(self, features: np.ndarray, longest: int, rng: np.random.Generator) -> np.ndarray:
        """A random window, of at most `longest` frames, of a motion [T, D], with or without noise."""
        settings = self.settings
        length = min(len(features), longest)
        start = int(rng.integers(len(features) - length + 1))
        window = features[start : start + length]
        if rng.random() < settings.noise_share:
            noise = smooth_noise(length, features.shape[1], rng)
            window = window + settings.noise_std * rng.random() * self.std * noise
        return window.astype(np.float32)


def smooth_noise(num_frames: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Noise [T, width] of about unit variance that varies over tenths of a second: interpolated knots, plus white noise
    of a quarter of their size."""
    position = np.arange(num_frames) / _KNOT_FRAMES + rng.random()
    knots = rng.standard_normal((int(position[-1]) + 2, width))
    left = position.astype(int)
    share = (position - left)[:, None]
    return (1 - share) * knots[left] + share * knots[left + 1] + 0.25 * rng.standard_normal((num_frames, width))
