"""AdamW for all learners: learning rate schedule, gradient clipping, a check for finite gradients before each step, and
a state that resumes bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from learners.workers import Workers
from motions.base.errors import UserError

_FIRST_LOSS_SCALE = 2.0**16
_STEPS_UNTIL_GROWTH = 2000


class DivergenceError(UserError):
    """A loss or a gradient is not finite; the step that found it changed no weights."""


class GradientOverflowError(ArithmeticError):
    """A scaled fp16 gradient overflowed. The scale was halved: compute the gradients again and call `step` again."""


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """Options of one optimizer; see the learners' settings."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    """Of all parameters but those that the optimizer is told not to decay."""
    max_grad_norm: float = 0.0
    """Largest norm of the gradients; 0 means no limit."""
    warmup_steps: int = 0
    decay_steps: int = 0
    """Steps over which the learning rate falls to 0 along a cosine; 0 keeps it constant."""


def learning_rate_factor(step: int, warmup_steps: int, decay_steps: int) -> float:
    """Factor on the learning rate at a step (from 0): linear warm-up, then constant or a cosine to `decay_steps`."""
    factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if decay_steps:
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / decay_steps)))
    return factor


def undecayed_names(network: nn.Module) -> frozenset[str]:
    """Parameters that weight decay must not touch, by the `undecayed` attributes of a network's modules: names of a
    module's own parameters, or of its parts'."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name in getattr(type(module), "undecayed", ())
    )


class Optimizer:
    """AdamW on named parameters.

    Example:
        optimizer = Optimizer(dict(network.named_parameters()), OptimizerOptions(learning_rate=1e-4))
        loss.backward()
        grad_norm = optimizer.step()
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        options: OptimizerOptions,
        loss_scaling: bool = False,
        undecayed: Collection[str] = (),
    ) -> None:
        """Creates an optimizer.

        Args:
            loss_scaling: losses pass through `scaled`, for networks that run in fp16.
            undecayed: names of parameters without weight decay (`undecayed_names`); others than those of `parameters`
                mean nothing.

        Raises:
            UserError: there are no parameters.
        """
        if not parameters:
            raise UserError("there are no trainable parameters: nothing requires a gradient")
        self.options = options
        self.num_steps = 0
        decayed = [name for name in parameters if name not in undecayed]
        spared = [name for name in parameters if name in undecayed]
        # In the order of AdamW's groups, by which its state counts.
        self._parameters = {name: parameters[name] for name in (*decayed, *spared)}
        # By hand, not torch.amp.GradScaler: that skips a step in silence and shrinks without end, while a learner here
        # must hear of it to compute the gradients again, and a norm that overflows counts as well.
        self._loss_scale = _FIRST_LOSS_SCALE if loss_scaling else 1.0
        self._steps_at_scale = 0
        self._scaling = loss_scaling
        groups = ((decayed, options.weight_decay), (spared, 0.0))
        self._adamw = torch.optim.AdamW(
            [
                {"params": [parameters[name] for name in names], "weight_decay": decay}
                for names, decay in groups
                if names
            ],
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        options = self.options
        return options.learning_rate * learning_rate_factor(self.num_steps, options.warmup_steps, options.decay_steps)

    def zero_grad(self) -> None:
        """Clears all gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def sum_gradients(self, workers: Workers) -> None:
        """Replaces every gradient by its sum over the learners; a parameter that none of them used keeps none."""
        if workers.size == 1:
            return
        values = list(self._parameters.values())
        used = torch.tensor([float(value.grad is not None) for value in values], device=values[0].device)
        for value in values:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        workers.sum([*(value.grad for value in values if value.grad is not None), used])
        for value, count in zip(values, used.tolist(), strict=True):
            if not count:
                value.grad = None

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` on, multiplied by the loss scale, which keeps small fp16 gradients above 0."""
        return loss * self._loss_scale if self._scaling else loss

    def step(self) -> float:
        """Clips the gradients, takes one step and clears them.

        Returns:
            The norm of the gradients before clipping.

        Raises:
            DivergenceError: a gradient is not finite; weights and optimizer are unchanged, gradients are cleared.
            GradientOverflowError: the same in fp16, if the loss scale could be halved.
        """
        if self._scaling:
            self._unscale()
        limit = self.options.max_grad_norm or math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))
        if not math.isfinite(grad_norm):
            culprits = [
                name
                for name, value in self._parameters.items()
                if value.grad is not None and not bool(value.grad.isfinite().all())
            ]
            self.zero_grad()
            if self._scaling and self._loss_scale > 1.0:
                self._loss_scale /= 2
                self._steps_at_scale = 0
                raise GradientOverflowError(f"fp16 gradients overflowed; the loss scale is now {self._loss_scale}")
            raise DivergenceError(
                f"optimizer step {self.num_steps}: the gradient is not finite in {len(culprits)} of "
                f"{len(self._parameters)} tensors, first {culprits[:3]}; the weights were not changed. Lower the "
                "learning rate, or look at the rewards and states of this update"
            )
        for group in self._adamw.param_groups:
            group["lr"] = self.learning_rate
        self._adamw.step()
        self.num_steps += 1
        self._steps_at_scale += 1
        if self._scaling and self._steps_at_scale == _STEPS_UNTIL_GROWTH:
            self._loss_scale *= 2
            self._steps_at_scale = 0
        self.zero_grad()
        return grad_norm

    def _unscale(self) -> None:
        for value in self._parameters.values():
            if value.grad is not None:
                value.grad.div_(self._loss_scale)

    def state(self) -> dict[str, Any]:
        """Moments by parameter name, number of steps and loss scale: CPU copies, loadable with `weights_only=True`."""
        inner = self._adamw.state_dict()["state"]
        moments = {
            name: {key: value.detach().cpu().clone() for key, value in inner.get(index, {}).items()}
            for index, name in enumerate(self._parameters)
        }
        scale = [self._loss_scale, float(self._steps_at_scale)]
        return {"moments": moments, "num_steps": self.num_steps, "loss_scale": scale}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores the result of `state()`.

        Raises:
            UserError: the moments belong to other parameters or shapes; nothing is changed.
        """
        moments: Mapping[str, Mapping[str, Tensor]] = state["moments"]
        if list(moments) != list(self._parameters):
            differing = sorted(moments.keys() ^ self._parameters.keys())
            raise UserError(
                f"optimizer state of {len(moments)} parameters does not fit the {len(self._parameters)} trainable "
                f"ones; differing: {differing[:3] or 'their order'}"
            )
        for name, entry in moments.items():
            shape = self._parameters[name].shape
            if any(value.dim() > 0 and value.shape != shape for value in entry.values()):
                raise UserError(f"optimizer state of {name} does not have the parameter's shape {tuple(shape)}")
        fresh = self._adamw.state_dict()
        fresh["state"] = {
            index: {key: value.clone() for key, value in entry.items()}
            for index, entry in enumerate(moments.values())
            if entry
        }
        self._adamw.load_state_dict(fresh)
        self.num_steps = int(state["num_steps"])
        scale, steps_at_scale = state["loss_scale"]
        self._loss_scale, self._steps_at_scale = (float(scale) if self._scaling else 1.0), int(steps_at_scale)
