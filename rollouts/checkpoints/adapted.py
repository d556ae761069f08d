"""Whether a network has adapters, asked without peft, whose import takes seconds."""

from __future__ import annotations

from torch import nn


def has_lora(network: nn.Module) -> bool:
    """Whether a network has adapters (`rollouts/checkpoints/adapters.py` adds and loads them)."""
    return any(".lora_A." in f".{name}" for name, _ in network.named_parameters())
