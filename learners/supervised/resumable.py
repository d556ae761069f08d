"""What every supervised learner keeps for an exact resume: trained parameters, optimizer, step and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from learners.ema import copy_named
from learners.optimizer import Optimizer
from motions.base.errors import UserError


class ResumableLearner:
    """State of a learner whose steps are a function of parameters, optimizer, seed and step number.

    Args:
        parameters: the trained ones, by name.
        optimizer: of these parameters.
        seed: of the training.
    """

    kind: ClassVar[str]
    """Names the learner in its checkpoints."""

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: Optimizer, seed: int) -> None:
        self.seed = seed
        self.num_steps = 0
        self._parameters = dict(parameters)
        self._optimizer = optimizer

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs: copies of tensors, and plain types."""
        return {
            "kind": self.kind,
            "parameters": {name: value.detach().cpu().clone() for name, value in self._parameters.items()},
            "optimizer": self._optimizer.state(),
            "num_steps": self.num_steps,
            "seed": self.seed,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues exactly from `state()`; the next updates are bit for bit those of the other run.

        Raises:
            UserError: the state has another kind of learner, model or seed.
        """
        self._require_same(state)
        copy_named(state["parameters"], self._parameters, "the checkpoint")
        self._optimizer.load(state["optimizer"])
        self.num_steps = int(state["num_steps"])

    def _require_same(self, state: Mapping[str, Any]) -> None:
        if state.get("kind") != self.kind:
            raise UserError(f"this is the state of a {state.get('kind')!r} learner, not of a {self.kind!r} one")
        if state["seed"] != self.seed:
            raise UserError(f"the checkpoint was trained with seed {state['seed']}, this run has seed {self.seed}")
