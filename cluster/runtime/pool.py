"""The actors of one role: placed, built, chosen for the next call, replaced when they die.

Choices: a call is bound to an actor as late as possible (`max_in_flight` per actor), so that a slow actor gets less; a
call chained on one that still runs is bound at once to the least loaded actor, since it costs nothing while it waits
and can begin without the controller. A replaced actor gets the same place in the placement group and a new name.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup

from cluster.runtime.actor_host import ProcessInfo
from cluster.runtime.actors import Actor
from cluster.runtime.protocol import Call, Role, StartError

logger = logging.getLogger(__name__)
ERROR_LOG_LINES = 15


@dataclass(eq=False, slots=True)
class Member:
    """One actor of a pool."""

    bundle: int
    actor: Actor
    building: ray.ObjectRef[ProcessInfo] | None
    """Pending while the object is built; None once it stands."""
    spawned_at: float
    process: ProcessInfo | None = None
    running: list[Call] = field(default_factory=list)
    """Calls given to it, oldest first."""
    last_progress: float = 0.0
    """When it last finished something."""
    restarts: int = 0
    failed_starts: int = 0
    """Deaths in a row before it stood."""

    @property
    def name(self) -> str:
        """Such as `rollout-0`, and `rollout-0.1` after one replacement."""
        return self.actor.name

    @property
    def ready(self) -> bool:
        """It can take calls."""
        return self.building is None

    def runnable(self) -> list[Call]:
        """Its calls whose inputs exist, oldest first: the first one is what it works on."""
        return [call for call in self.running if all(producer.state == "done" for producer in call.producers)]

    def busy_since(self) -> float | None:
        """Since when it had work and finished nothing."""
        waits = [
            max([call.dispatched_at, *(producer.finished_at for producer in call.producers)])
            for call in self.runnable()
        ]
        return max(self.last_progress, min(waits)) if waits else None

    def last_words(self) -> str:
        """End of its stderr, where this machine can read it."""
        if self.process is None or self.process.error_log is None or not Path(self.process.error_log).is_file():
            return ""
        with open(self.process.error_log, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in deque(file, ERROR_LOG_LINES) if not line.startswith(":")]
        return "\nlast lines of its stderr:\n  " + "\n  ".join(lines) if lines else ""


class Pool:
    """Actors of one role.

    Args:
        role: what to build.
        group: the placement group of all actors of the runtime.
        first_bundle: this pool's first place in it.
    """

    def __init__(self, role: Role, group: PlacementGroup, first_bundle: int) -> None:
        self.role = role
        self._group = group
        self.members: list[Member] = []
        for index in range(role.count):
            self.members.append(self._spawn(index, first_bundle + index))

    def pick(self, chained: bool) -> Member | None:
        """The actor for the next call, None if the call has to wait."""
        candidates = [member for member in self.members if member.ready]
        if not chained:
            candidates = [member for member in candidates if len(member.running) < self.role.max_in_flight]
        return min(candidates, key=lambda member: len(member.running), default=None)

    def check_built(self, member: Member) -> bool:
        """Settle a `building` reference that is ready; False if the actor died and was replaced.

        Raises:
            StartError: building raised, or the actor died too often while it was built.
        """
        assert member.building is not None
        try:
            member.process = ray.get(member.building)
        except RayTaskError as error:
            cause = error.cause
            raise StartError(f"{member.name} could not be built: {type(cause).__name__}: {cause}") from error
        except RayError as error:
            member.failed_starts += 1
            reason = describe(error)
            if member.failed_starts >= self.role.max_attempts:
                raise StartError(
                    f"{member.name} died {member.failed_starts} times while it was built: {reason}"
                ) from error
            self.replace(member, reason)
            return False
        member.building = None
        member.failed_starts = 0
        member.last_progress = time.monotonic()
        return True

    def replace(self, member: Member, reason: str) -> None:
        """Put a new actor in a dead one's place; its calls must have been taken away."""
        assert not member.running
        member.actor.kill()
        old = member.name
        member.restarts += 1
        fresh = self._spawn(self.members.index(member), member.bundle, member.restarts)
        member.actor, member.building, member.spawned_at = fresh.actor, fresh.building, fresh.spawned_at
        member.process = None
        logger.warning("%s is replaced by %s: %s", old, member.name, reason)

    def check_start_deadline(self, need_all: bool) -> None:
        """Complain about actors that are not built in time: any of them, or only if none of the role stands.

        Raises:
            StartError: over `start_timeout_s`.
        """
        if not need_all and any(member.ready for member in self.members):
            return
        for member in self.members:
            waited = time.monotonic() - member.spawned_at
            if not member.ready and waited > self.role.start_timeout_s:
                raise StartError(
                    f"{member.name} was not placed and built within {waited:.0f} s (start_timeout_s "
                    f"{self.role.start_timeout_s:g}); free now: {describe_resources(ray.available_resources())}"
                )

    def kill(self) -> None:
        """End all actors."""
        for member in self.members:
            member.actor.kill()

    def _spawn(self, index: int, bundle: int, restarts: int = 0) -> Member:
        name = f"{self.role.name}-{index}" + (f".{restarts}" if restarts else "")
        actor = Actor(self.role, name, self._group, bundle)
        return Member(bundle, actor, actor.build(), time.monotonic(), restarts=restarts)


def describe(error: RayError) -> str:
    """The sentence of a Ray error that says what happened."""
    text = str(error)
    if isinstance(error, RayActorError):
        # The lines before are ids; the hints behind are the same for every death.
        text = text.rsplit("\n", 1)[-1].partition(" Some common causes")[0]
    return " ".join(text.split())


def describe_resources(resources: Mapping[str, float]) -> str:
    """CPUs, GPUs and memory of a Ray resource dictionary in words."""
    memory = resources.get("memory", 0.0) / 2**30
    return f"{resources.get('CPU', 0.0):g} CPU, {resources.get('GPU', 0.0):g} GPU, {memory:.1f} GiB memory"
