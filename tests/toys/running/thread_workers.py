"""Learners that work together in threads of one process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, stack


class ThreadWorkers:
    """A group of threads; `of_size` makes all of its members."""

    def __init__(self, rank: int, barrier: threading.Barrier, places: list[Any]) -> None:
        self.rank, self.size = rank, len(places)
        self._barrier, self._places = barrier, places

    @classmethod
    def of_size(cls, size: int) -> list[ThreadWorkers]:
        barrier, places = threading.Barrier(size, timeout=300), [None] * size
        return [cls(rank, barrier, places) for rank in range(size)]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        everybody = self._exchange([tensor.clone() for tensor in tensors])
        for tensor, *values in zip(tensors, *everybody, strict=True):
            tensor.copy_(stack(values).sum(dim=0))

    def gather(self, array: np.ndarray) -> np.ndarray:
        return np.concatenate(self._exchange(array))

    def interleaved(self, dealt: Sequence[Any]) -> list[Any]:
        rounds = itertools.zip_longest(*self._exchange(list(dealt)))
        return [entry for entries in rounds for entry in entries if entry is not None]

    def _exchange(self, mine: Any) -> list[Any]:
        """What each of them gave."""
        self._places[self.rank] = mine
        self._barrier.wait()
        given = list(self._places)
        self._barrier.wait()
        return given
