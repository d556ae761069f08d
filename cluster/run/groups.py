"""Groups of a step on their way through rollout actors and reward actors."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.runtime.protocol import Call, Output
from rewards.messages import Mixed
from rollouts.messages import RolloutRequest


@dataclass(frozen=True, slots=True)
class PendingGroup:
    """A group whose rollout and rewards have been submitted."""

    request: RolloutRequest
    rollout: Call
    scores: tuple[Call, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """The rollout, then the rewards."""
        return self.rollout, *self.scores


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """The groups of a training step, which have been requested."""

    groups: list[PendingGroup]
    requested: float
    """When, by `time.monotonic`."""

    @property
    def calls(self) -> list[Call]:
        """All rollouts and rewards."""
        return [call for group in self.groups for call in group.calls]


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group with its rewards; motions and trajectory are still where they were computed."""

    request: RolloutRequest
    rewards: Mixed
    motions: Output
    trajectory: Output
