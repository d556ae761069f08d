"""Devices on which tensors are computed: selection, transfer, seeding, and their arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError

_CPU_QUERIES = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def resolve_device(name: str) -> torch.device:
    """The device that a settings string names; `auto` is the first GPU, or the CPU if there is none.

    Raises:
        UserError: the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        number = torch.cuda.device_count()
        remedy = "" if number else ": give --device cpu"
        raise UserError(f"device is {name!r}; this machine has {number} CUDA devices{remedy}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device is {name!r}; this machine has no MPS device")
    return device


def require_device(option: str, name: str, reserved: Mapping[str, float] | None = None) -> None:
    """Checks a device before the processes start that will use it.

    Args:
        option: that names it, for the message.
        reserved: GPUs that each process reserves on a cluster, by option; Ray shows it these only, numbered from 0.
            None where the device is one of this process.

    Raises:
        UserError: a process will have no such device.
    """
    if reserved is None:
        try:
            resolve_device(name)
        except UserError as error:
            raise UserError(f"{option}: {error}") from error
        return
    number = int(name.partition(":")[2] or 0)
    for reserving, gpus in reserved.items():
        if name.startswith("cuda") and number >= math.ceil(gpus):
            raise UserError(
                f"{option} is {name!r}, but {reserving} is {gpus:g}: each process has the GPUs that it reserves, "
                "numbered from 0; reserve one and leave the device at auto"
            )


def moved(values: np.ndarray, device: torch.device) -> Tensor:
    """A small array, copied to a device without waiting for a GPU, so that work can be queued ahead of it."""
    return torch.from_numpy(values).to(device, non_blocking=True)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seeds the device's global generator, which dropout uses, inside the block and restores it at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        elif device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


def multiplies(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has units for products of a half precision. A CPU without them emulates it, many times slower
    than float32 (`python -m benchmarks.sampling`). If torch cannot tell, True is returned."""
    if device.type != "cpu" or dtype not in _CPU_QUERIES:
        return True
    query = getattr(torch.ops.mkldnn, _CPU_QUERIES[dtype], None)
    return query is None or bool(query())
