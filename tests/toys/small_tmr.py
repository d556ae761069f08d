"""A tiny random TMR with a text encoder of its own, for tests of what is built on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from rewards.tmr.network import TMR, TMRConfig
from rollouts.messages import GroupMotions

CONFIG = TMRConfig(num_features=263, text_dim=6, latent_dim=8, ff_size=16, num_layers=2, num_heads=2)


class WordEncoder:
    """One vector per word, made from its letters; counts what it is asked for."""

    name = "words"
    dim = 6
    fingerprint = "words-1"
    max_tokens = 64
    truncate = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def num_tokens(self, text: str) -> int:
        """Number of words."""
        return len(text.split())

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """[number of words, 6] for each text."""
        self.asked.extend(texts)
        return [np.stack([_vector(word) for word in text.split()]) for text in texts]

    def encode_pooled(self, texts: Sequence[str]) -> np.ndarray:
        """Mean over the words, [N, 6]."""
        return np.stack([tokens.mean(axis=0) for tokens in self.encode_tokens(texts)])


class WordModel:
    """The same words as a `rollouts.text.models.TextModel`, so that the settings can name them."""

    dim, max_tokens, max_positions, fingerprint = 6, 16, 16, WordEncoder.fingerprint

    def __init__(self, path: str | None) -> None:
        self.words: list[str] = []

    def tokenize(self, text: str) -> list[int]:
        self.words.extend(text.split())
        return [self.words.index(word) for word in text.split()]

    def tokens(self, ids: list[int]) -> np.ndarray:
        return WordEncoder().encode_tokens([" ".join(self.words[index] for index in ids)])[0]

    def pooled(self, ids: list[int]) -> np.ndarray:
        return self.tokens(ids).mean(axis=0)


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(6).astype(np.float32)


def small_tmr(seed: int = 0, *, config: TMRConfig = CONFIG, with_decoder: bool = False) -> TMR:
    """Random weights, scaled so that different inputs have rather different embeddings."""
    torch.manual_seed(seed)
    normalizer = Normalizer(np.zeros(config.num_features), np.ones(config.num_features))
    fingerprint = WordEncoder.fingerprint
    tmr = TMR(config, normalizer, "words", text_encoder_fingerprint=fingerprint, with_decoder=with_decoder)
    with torch.no_grad():
        for encoder in (tmr.text_encoder, tmr.motion_encoder):
            encoder.projection.weight.mul_(5.0)
            encoder.tokens.mul_(0.1)
    return tmr


def prompt_of(*segments: tuple[str, int]) -> Prompt:
    """A prompt of (text, frames) segments; a composite's text joins them with ", then "."""
    return Prompt(", then ".join(text for text, _ in segments), tuple(Segment(*segment) for segment in segments))


def random_group(prompt: Prompt, lengths: Sequence[int], seed: int = 0, num_features: int = 263) -> GroupMotions:
    """Noise as motions, with noise in the padding too."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((len(lengths), max(lengths), num_features)).astype(np.float32)
    return GroupMotions(features, np.array(lengths), prompt, 0, 0.0)
