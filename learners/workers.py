"""Processes that train one network together, from a learner's point of view: rank, size and collective operations.

Gradients are summed explicitly, not by DDP, because a learner divides by the global weight of a batch, which a mean
over equal shards does not give; one process and many then differ by rounding only. Nothing here uses Ray: the code that
starts the processes initialises `torch.distributed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from motions.base.errors import PeerLost


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

    def interleaved(self, dealt: Sequence[Any]) -> list[Any]:
        """The entries of all processes in the order in which they were dealt out: the first of each by rank, then the
        second of each, and so on. Entries are of any picklable kind, and their tensors come on the CPU where there are
        several processes."""
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

    def interleaved(self, dealt: Sequence[Any]) -> list[Any]:
        """The entries themselves."""
        return list(dealt)


class ProcessGroup:
    """The default group of `torch.distributed`, which must be initialised.

    Its operations raise `PeerLost` where another process of the group is gone.
    """

    @classmethod
    def join(cls, rank: int, size: int, store: Any, timeout_s: float, backend: str) -> ProcessGroup:
        """Joins a new group, and waits until all its processes have. A group that the process is in ends.

        Args:
            rank: number of this process, from 0.
            size: number of processes.
            store: `opened_store` of each of them, through which they find each other.
            timeout_s: how long an operation waits for the others.
            backend: `gloo`, or `nccl` for tensors on GPUs.

        Raises:
            PeerLost: not all have come within `timeout_s`.
        """
        if dist.is_initialized():
            dist.destroy_process_group()
        with _peers():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s)
            )
        return cls()

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
        with _peers():
            dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Concatenates the processes' arrays; they are sent as tensors padded to the longest."""
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _peers():
            dist.all_gather(counts, torch.tensor([len(array)]))
        longest = max(int(count) for count in counts)
        mine = torch.zeros((longest, *array.shape[1:]), dtype=torch.from_numpy(array[:0].copy()).dtype)
        mine[: len(array)] = torch.from_numpy(np.ascontiguousarray(array))
        parts = [torch.zeros_like(mine) for _ in counts]
        with _peers():
            dist.all_gather(parts, mine)
        return np.concatenate([part[: int(count)].numpy() for part, count in zip(parts, counts, strict=True)])

    def interleaved(self, dealt: Sequence[Any]) -> list[Any]:
        """See `Workers.interleaved`; the entries are pickled."""
        everybody: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(everybody, list(dealt))
        rounds = itertools.zip_longest(*everybody, fillvalue=_NOTHING)
        return [entry for entries in rounds for entry in entries if entry is not _NOTHING]


def opened_store(host: str, port: int, size: int, timeout_s: float, first: bool) -> Any:
    """The store through which the processes of a group find each other; its `port` is where it listens.

    Args:
        host: address of the first process.
        port: of the store; 0 for a free one, which the first process may ask for.
        first: whether this is the first process, which opens it for all.
    """
    # PyTorch's types do not know that its documentation names this class.
    store: Any = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
    return store(host, port, size, is_master=first, timeout=timedelta(seconds=timeout_s), wait_for_workers=False)


_NOTHING = object()


@contextmanager
def _peers() -> Iterator[None]:
    """
    Raises:
        PeerLost: a collective operation inside the block failed.
    """
    try:
        yield
    except RuntimeError as error:
        # PyTorch's own classes for it differ by backend; gloo raises RuntimeError itself.
        raise PeerLost(f"another process of the group is gone: {error}") from error


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
