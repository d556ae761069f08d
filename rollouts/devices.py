"""Where tensors live."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """The device a settings string names; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        ValueError: the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}; this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device is {name!r}; this machine has no MPS device")
    return device
