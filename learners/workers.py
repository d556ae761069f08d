"""Processes that train one network together, from a learner's point of view: rank, size and two collective operations.

Gradients are summed explicitly, not by DDP, because a learner divides by the global weight of a batch, which a mean
over equal shards does not give; one process and many then differ by rounding only. Nothing here uses Ray: the code that
starts the processes initialises `torch.distributed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


class Workers(Protocol):
    """A group of processes, all of which must make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replaces every tensor by its sum over the processes, in place."""
        ...

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The arrays [N, ...] of all processes, concatenated in the order of their ranks; N may differ."""
        ...


class OneWorker:
    """A group of one process."""

    rank = 0
    size = 1

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Does nothing: the sum over one process is the tensor itself."""

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array


class ProcessGroup:
    """The default group of `torch.distributed`, which must be initialised."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return dist.get_rank()

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size()

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sums all tensors in place in one collective call."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Concatenates the processes' arrays; they are sent as tensors padded to the longest."""
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(array)]))
        longest = max(int(count) for count in counts)
        mine = torch.zeros((longest, *array.shape[1:]), dtype=torch.from_numpy(array[:0].copy()).dtype)
        mine[: len(array)] = torch.from_numpy(np.ascontiguousarray(array))
        parts = [torch.zeros_like(mine) for _ in counts]
        dist.all_gather(parts, mine)
        return np.concatenate([part[: int(count)].numpy() for part, count in zip(parts, counts, strict=True)])


@dataclass(frozen=True, slots=True)
class TrainContext:
    """What a training function can use of its surroundings."""

    workers: Workers
    report: Callable[[Mapping[str, float], Path | None], None]
    """Reports metrics, and a folder whose content becomes the checkpoint (None: metrics only). All workers must call it
    together; the folder of rank 0 is kept."""
    resume_from: Path | None
    """Folder of the last checkpoint after a restart, else None."""


TrainFunction = Callable[[TrainContext, Any], None]
"""Importable function of the context and of a picklable configuration."""
