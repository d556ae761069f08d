"""Exponential moving average of weights.

avg = d * avg + (1 - d) * weight after every optimizer step (MDM: d = 0.9999 from step 0, no bias correction). With
`warmup` the decay of the n-th update is d_n = min(d, (1 + n) / (10 + n)), so that the random initial weights do not
remain in the average of a run of a few thousand steps. The average is a float32 copy; the weights themselves change
only inside `swapped`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from motions.base.errors import UserError


class EMA:
    """Exponential moving average of named parameters.

    Example:
        ema = EMA(dict(network.named_parameters()), decay=0.9999)
        optimizer.step(); ema.update()
        with ema.swapped():
            evaluate(network)
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float, warmup: bool = False) -> None:
        """Starts the average at the parameters' values. `decay` is in [0, 1)."""
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay is {decay}; expected 0 <= decay < 1")
        self.decay = decay
        self.warmup = warmup
        self.num_updates = 0
        self._parameters = dict(parameters)
        self._average = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the parameters' present values."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) if self.warmup else self.decay
        for name, value in self._parameters.items():
            self._average[name].mul_(decay).add_(value.detach().float(), alpha=1 - decay)
        self.num_updates += 1

    def weights(self) -> dict[str, Tensor]:
        """Copies of the averages by name, float32."""
        return {name: value.clone() for name, value in self._average.items()}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the parameters hold their averages; at its end they get their own values back."""
        own = {name: value.detach().clone() for name, value in self._parameters.items()}
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(self._average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._parameters.items():
                    value.copy_(own[name])

    def state(self) -> dict[str, Any]:
        """Averages and the number of updates: copies on the CPU, loadable with `weights_only=True`."""
        average = {name: value.cpu() for name, value in self.weights().items()}
        return {"average": average, "num_updates": self.num_updates}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state()`.

        Raises:
            UserError: names or shapes differ from the parameters'.
        """
        copy_named(state["average"], self._average, "the EMA of the checkpoint")
        self.num_updates = int(state["num_updates"])


@torch.no_grad()
def copy_named(source: Mapping[str, Tensor], target: Mapping[str, Tensor], origin: str) -> None:
    """Copies tensors by name into `target`, which must have the same names and shapes; otherwise nothing is copied.

    Args:
        source: tensors to copy.
        target: tensors written in place.
        origin: description of `source` for the error message.

    Raises:
        UserError: a name is missing or unknown, or a shape differs.
    """
    missing = sorted(target.keys() - source.keys())
    unknown = sorted(source.keys() - target.keys())
    if missing or unknown:
        raise UserError(
            f"{origin} does not fit this model: {len(missing)} of {len(target)} tensors missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}"
        )
    for name, value in target.items():
        if source[name].shape != value.shape:
            raise UserError(f"{origin}: {name} has shape {tuple(source[name].shape)}, here {tuple(value.shape)}")
    for name, value in target.items():
        value.copy_(source[name])
