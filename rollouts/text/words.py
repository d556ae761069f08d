"""The vocabulary of a network that learns its own words: a `rollouts.text.models.TextModel` of numbers.

A text is lower-cased and cut into words and marks, so that "walks," and "walks" are the same word. Known words are
numbered in the order in which the training captions first have them; 0 is padding and 1 every other word.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

import numpy as np

from motions.base.errors import UserError

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[^\w\s]")
UNKNOWN, FIRST_WORD = 1, 2
MAX_WORDS = 64
"""Longest text in words and marks."""


def split_words(text: str) -> list[str]:
    """Words and marks of a text, lower-cased."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Sequence[str]) -> tuple[str, ...]:
    """The distinct words of texts, in order of first appearance."""
    return tuple(dict.fromkeys(word for text in texts for word in split_words(text)))


class Words:
    """Numbers of words in place of embeddings: one number for each word of a text.

    Example:
        TextEncoder("words", Words(vocabulary(captions)))
    """

    dim = 1
    max_tokens = MAX_WORDS
    max_positions = MAX_WORDS

    def __init__(self, words: Sequence[str]) -> None:
        """Takes the known words, in order.

        Raises:
            UserError: there is none, or one twice.
        """
        if not words or len(set(words)) < len(words):
            raise UserError(f"a vocabulary of {len(words)} words, {len(set(words))} of them distinct")
        self.known = tuple(words)
        self.fingerprint = hashlib.sha256(json.dumps(self.known).encode()).hexdigest()
        self._numbers = {word: number for number, word in enumerate(self.known, start=FIRST_WORD)}

    @property
    def num_embeddings(self) -> int:
        """Rows of a table of embeddings."""
        return FIRST_WORD + len(self.known)

    def tokenize(self, text: str) -> list[int]:
        """Numbers of the words."""
        return [self._numbers.get(word, UNKNOWN) for word in split_words(text)] or [UNKNOWN]

    def words(self, text: str) -> tuple[list[str], list[str]]:
        """The words of a text that are known, and those that are not; marks count as neither."""
        found = [word for word in split_words(text) if word[0].isalnum()]
        return [word for word in found if word in self._numbers], [word for word in found if word not in self._numbers]

    def pooled(self, ids: Sequence[int]) -> np.ndarray:
        """Not possible: what words mean together is the network's to learn.

        Raises:
            UserError: always.
        """
        raise UserError("text_encoder words gives one number for each word, and no embedding of a whole text")

    def tokens(self, ids: Sequence[int]) -> np.ndarray:
        """The numbers [L, 1] float32."""
        return np.array(ids, np.float32)[:, None]
