"""A learner as an actor: an update and its new weights are one call with two results.

The report goes to the controller; the weights stay in the object store until rollout actors fetch them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rollouts.messages import PolicyVersion, Trajectory

if TYPE_CHECKING:
    from learners.workers import Workers

LearnerState = dict[str, Any]
"""All that a learner needs to continue bit for bit. Leaves are torch tensors, numbers, strings, booleans or None, in
dictionaries, lists and tuples, which `torch.load(weights_only=True)` reads."""


class Learner(Protocol):
    """Interface of a learner that the controller can use."""

    def update(self, trajectories: list[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        """Updates the parameters from P trajectories and their advantages [P, N]; returns metrics by name."""
        ...

    def version(self) -> PolicyVersion:
        """The present weights, numbered by updates."""
        ...

    def evaluation_version(self) -> PolicyVersion:
        """The weights to evaluate and export: an average, if the learner keeps one."""
        ...

    def state(self) -> LearnerState:
        """Everything that an update depends on or changes."""
        ...

    def load(self, state: LearnerState) -> None:
        """Continues exactly from the result of `state()`."""
        ...

    def join(self, workers: Workers) -> None:
        """Makes later updates together with other learners; only called where there are several."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What the controller is told about an update."""

    metrics: dict[str, float]
    version_number: int
    """Number of the version that the update made."""


class LearnerService:
    """Wraps a learner in its own process."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._store: Any = None
        """Through which learners find each other."""

    def meet(self, size: int, timeout_s: float) -> tuple[str, int]:
        """Opens the place where `size` learners meet, of which this is the first; returns its host and port."""
        import ray.util

        from learners.workers import opened_store

        host = ray.util.get_node_ip_address()
        self._store = opened_store(host, 0, size, timeout_s, first=True)
        return host, self._store.port

    def join(self, rank: int, size: int, place: tuple[str, int], timeout_s: float) -> None:
        """Makes later updates together with the other learners, who must be called too.

        Args:
            rank: of this learner; 0 is the one that was asked for the place.
            timeout_s: how long it waits for the others, now and in an update.

        Raises:
            PeerLost: they did not come.
        """
        import torch

        from learners.workers import ProcessGroup, opened_store

        if rank:
            self._store = opened_store(*place, size, timeout_s, first=False)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        self._learner.join(ProcessGroup.join(rank, size, self._store, timeout_s, backend))

    def update(self, advantages: np.ndarray, trajectories: list[Trajectory]) -> tuple[UpdateReport, PolicyVersion]:
        """Makes one update; returns its report and the new weights."""
        metrics = self._learner.update(trajectories, advantages)
        version = self._learner.version()
        return UpdateReport({name: float(value) for name, value in metrics.items()}, version.number), version

    def follow(self, advantages: np.ndarray, trajectories: list[Trajectory]) -> int:
        """Takes part in an update that another learner reports; returns the number of the version."""
        self._learner.update(trajectories, advantages)
        return self._learner.version().number

    def publish(self) -> tuple[int, PolicyVersion]:
        """Number and weights of the present version."""
        version = self._learner.version()
        return version.number, version

    def evaluation(self) -> tuple[int, PolicyVersion]:
        """Number and weights of the version to evaluate."""
        version = self._learner.evaluation_version()
        return version.number, version

    def state(self) -> LearnerState:
        """State of the learner: see `Learner.state`."""
        return self._learner.state()

    def load(self, state: LearnerState) -> tuple[int, PolicyVersion]:
        """Continues from a state; returns number and weights."""
        self._learner.load(state)
        return self.publish()


def build_learner_service(factory: Callable[[], object]) -> LearnerService:
    """Builds the `LearnerService` of the learner that a factory builds."""
    learner: Any = factory()
    return LearnerService(learner)
