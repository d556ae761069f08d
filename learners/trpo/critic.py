"""Fits a critic: least squares on standardised returns with Adam over minibatches.

Several learners may each hold a part of a batch. The order of all samples is drawn from a shared key, every learner
processes the samples of a minibatch that it holds, and the gradients are summed. The fit equals that of a single
learner, and all learners make the same number of collective calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learners.trpo.trust_region import Reduce, alone, flatten, split_like


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch that a learner holds: `size` of `total` samples, beginning at `start`."""

    start: int
    size: int
    total: int


class CriticFit:
    """Fits a critic and keeps its optimizer between batches."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        """`network` maps inputs [B, I] to standardised values [B, 1]."""
        self._network = network
        self._parameters = list(network.parameters())
        self._adam = torch.optim.Adam(self._parameters, lr=learning_rate, fused=True)

    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        share: Share,
        epochs: int,
        batch_size: int,
        generator: np.random.Generator,
        reduce: Reduce = alone,
    ) -> None:
        """Makes `epochs` passes over the batch.

        Args:
            inputs: [B, I] of this learner's samples.
            targets: [B] standardised returns.
            share: position of these samples in the whole batch.
            generator: draws the order of the samples; equal on all learners.
        """
        for _ in range(epochs):
            order = generator.permutation(share.total)
            for start in range(0, share.total, batch_size):
                chosen = order[start : start + batch_size]
                own = chosen[(chosen >= share.start) & (chosen < share.start + share.size)] - share.start
                rows = torch.from_numpy(own).to(inputs.device)
                self._step(inputs[rows], targets[rows], len(chosen), reduce)

    def _step(self, inputs: Tensor, targets: Tensor, total: int, reduce: Reduce) -> None:
        error = self._network(inputs).squeeze(-1) - targets
        gradients: Sequence[Tensor] = torch.autograd.grad(error.square().sum() / total, self._parameters)
        if reduce is not alone:
            gradients = split_like(reduce(flatten(gradients)), self._parameters)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._adam.step()

    def state(self) -> dict[str, Any]:
        """State of the optimizer: Adam's moments."""
        return self._adam.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Restores the result of `state()`."""
        self._adam.load_state_dict(state)
