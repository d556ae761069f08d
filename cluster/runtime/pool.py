"""The actors of one role: placement, construction, choice for the next call, replacement after death.

A call is assigned to an actor as late as possible (`max_in_flight` per actor), so that a slow actor gets fewer calls; a
call chained on a running one is assigned at once to the least loaded actor, since it costs nothing while it waits and
can begin without the controller. A replacement gets the same bundle of the placement group and a new name.
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
    """Pending while the object is being built; None once it exists."""
    spawned_at: float
    process: ProcessInfo | None = None
    running: list[Call] = field(default_factory=list)
    """Calls assigned to it, oldest first."""
    last_progress: float = 0.0
    """Time at which it last finished something."""
    restarts: int = 0
    failed_starts: int = 0
    """Consecutive deaths before its object was built."""

    @property
    def name(self) -> str:
        """Name such as `rollout-0`, or `rollout-0.1` after one replacement."""
        return self.actor.name

    @property
    def ready(self) -> bool:
        """Whether it can take calls."""
        return self.building is None

    def runnable(self) -> list[Call]:
        """Its calls whose inputs exist, oldest first: it works on the first one."""
        return [call for call in self.running if all(producer.state == "done" for producer in call.producers)]

    def busy_since(self) -> float | None:
        """Time since which it has had work and finished nothing."""
        waits = [
            max([call.dispatched_at, *(producer.finished_at for producer in call.producers)])
            for call in self.runnable()
        ]
        return max(self.last_progress, min(waits)) if waits else None

    def last_words(self) -> str:
        """The end of its stderr, if this machine can read it."""
        if self.process is None or self.process.error_log is None or not Path(self.process.error_log).is_file():
            return ""
        with open(self.process.error_log, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in deque(file, ERROR_LOG_LINES) if not line.startswith(":")]
        return "\nlast lines of its stderr:\n  " + "\n  ".join(lines) if lines else ""


class Pool:
    """The actors of one role.

    Args:
        role: describes the objects to build.
        group: the placement group of all actors of the runtime.
        first_bundle: index of this pool's first bundle in the group.
    """

    def __init__(self, role: Role, group: PlacementGroup, first_bundle: int) -> None:
        self.role = role
        self._group = group
        self.members: list[Member] = []
        for index in range(role.count):
            self.members.append(self._spawn(index, first_bundle + index))

    def pick(self, chained: bool) -> Member | None:
        """The actor for the next call, or None if the call has to wait."""
        candidates = [member for member in self.members if member.ready]
        if not chained:
            candidates = [member for member in candidates if len(member.running) < self.role.max_in_flight]
        return min(candidates, key=lambda member: len(member.running), default=None)

    def check_built(self, member: Member) -> bool:
        """Handles a `building` reference that is ready; returns False if the actor died and was replaced.

        Raises:
            StartError: building raised an error, or the actor died too often while it was built.
        """
        assert member.building is not None
        try:
            member.process = ray.get(member.building)
        except RayTaskError as error:
            cause = raised_by(error)
            message = f"{member.name} could not be built: {type(cause).__name__}: {cause}"
            raise StartError(message, cause) from error
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
        """Puts a new actor in the place of a dead one, whose calls must have been removed."""
        assert not member.running
        member.actor.kill()
        old = member.name
        member.restarts += 1
        fresh = self._spawn(self.members.index(member), member.bundle, member.restarts)
        member.actor, member.building, member.spawned_at = fresh.actor, fresh.building, fresh.spawned_at
        member.process = None
        logger.warning("%s is replaced by %s: %s", old, member.name, reason)

    def check_start_deadline(self, need_all: bool) -> None:
        """Checks the time limit for building actors: for every actor, or only if none of the role has been built.

        Raises:
            StartError: the limit `start_timeout_s` is exceeded.
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
        """Kills all actors."""
        for member in self.members:
            member.actor.kill()

    def _spawn(self, index: int, bundle: int, restarts: int = 0) -> Member:
        name = f"{self.role.name}-{index}" + (f".{restarts}" if restarts else "")
        actor = Actor(self.role, name, self._group, bundle)
        return Member(bundle, actor, actor.build(), time.monotonic(), restarts=restarts)


def raised_by(error: RayTaskError) -> BaseException:
    """What was raised in the other process, without Ray's wrapping."""
    return error.cause if isinstance(error.cause, BaseException) else error


def describe(error: RayError) -> str:
    """The sentence of a Ray error that describes what happened."""
    text = str(error)
    if isinstance(error, RayActorError):
        # The earlier lines are ids; the hints at the end are the same for every death.
        text = text.rsplit("\n", 1)[-1].partition(" Some common causes")[0]
    return " ".join(text.split())


def describe_resources(resources: Mapping[str, float]) -> str:
    """CPUs, GPUs and memory of a dictionary of Ray resources, as text."""
    memory = resources.get("memory", 0.0) / 2**30
    return f"{resources.get('CPU', 0.0):g} CPU, {resources.get('GPU', 0.0):g} GPU, {memory:.1f} GiB memory"
