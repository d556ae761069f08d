"""The learner as the cluster sees it: an update and the weights it made are one call with two results.

The report goes to the controller, the weights stay in the object store until the rollout actors take them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rollouts.messages import PolicyVersion, Trajectory

LearnerState = dict[str, Any]
"""Everything a learner needs to continue to the same bits. Leaves are torch tensors, numbers, strings, booleans or
None, in dictionaries, lists and tuples: what `torch.load(weights_only=True)` reads."""


class Learner(Protocol):
    """A class of learners/ that the controller can drive."""

    def update(self, trajectories: list[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        """Change the parameters by P trajectories and their advantages [P, N]; metrics by name."""
        ...

    def version(self) -> PolicyVersion:
        """The weights, numbered by updates."""
        ...

    def evaluation_version(self) -> PolicyVersion:
        """The weights to evaluate and export: an average, if the learner keeps one."""
        ...

    def state(self) -> LearnerState:
        """Everything that an update depends on or changes."""
        ...

    def load(self, state: LearnerState) -> None:
        """Continue from a `state()`."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What the controller learns about an update."""

    metrics: dict[str, float]
    version_number: int
    """Of the weights the update made."""


class LearnerService:
    """A learner in its own process."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def update(self, advantages: np.ndarray, trajectories: list[Trajectory]) -> tuple[UpdateReport, PolicyVersion]:
        """One update, and the weights it made."""
        metrics = self._learner.update(trajectories, advantages)
        version = self._learner.version()
        return UpdateReport({name: float(value) for name, value in metrics.items()}, version.number), version

    def publish(self) -> tuple[int, PolicyVersion]:
        """Number and weights as they are."""
        version = self._learner.version()
        return version.number, version

    def evaluation(self) -> tuple[int, PolicyVersion]:
        """Number and weights to evaluate."""
        version = self._learner.evaluation_version()
        return version.number, version

    def state(self) -> LearnerState:
        """See `Learner.state`."""
        return self._learner.state()

    def load(self, state: LearnerState) -> tuple[int, PolicyVersion]:
        """Continue from a state; number and weights then."""
        self._learner.load(state)
        return self.publish()


def build_learner_service(factory: Callable[[], object]) -> LearnerService:
    """`LearnerService` of the learner a factory builds."""
    learner: Any = factory()
    return LearnerService(learner)
