"""The runtime on Ray: supervised calls to actors.

A call waits, is dispatched to an actor, and finishes or fails; all bookkeeping happens in the driver's thread, inside
`submit` and `wait`. Faults and how they are handled:

    an actor dies             its calls, and those chained on them, return to the queue with the same arguments, and a
                              new actor is started. Counted as an attempt of the call that was running, up to
                              `max_attempts`
    an actor hangs            no progress for `timeout_s`: the actor is killed, and the case above applies; the message
                              names actor, call, queue and the line of code
    a call raises             tried again if the role allows it, else final; calls chained on it fail with it
    an output is lost         (a node died) the call that made it is repeated, then those that needed it
    a stateful actor dies     its calls fail with `ActorLost`; the controller rebuilds the actor and restores its state

Calls of stateless roles are pure functions of their arguments, so none of this changes results.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from cluster.runtime import liveness
from cluster.runtime.pool import Member, Pool, describe, describe_resources, raised_by
from cluster.runtime.protocol import ActorLost, Call, CallFailed, CallStats, Counters, Output, Role, StartError, unnest
from cluster.settings import PlacementStrategy, SupervisionSettings

logger = logging.getLogger(__name__)

TICK_S = 0.5
"""Longest time between two checks of the deadlines."""
SMALLEST_BUNDLE = 0.001
"""CPUs of a placement bundle for an actor that reserves nothing; Ray does not allow empty bundles."""


class RayRuntime:
    """Implementation of `Runtime` on the Ray cluster that this process is connected to (see
    cluster/runtime/connect.py).

    Args:
        placement_strategy: Ray's strategy for the placement group of all actors.
        start_timeout_s: time limit for reserving the placement group.
        stall_timeout_s: time without progress after which the log describes what every actor is doing.
    """

    concurrent = True

    def __init__(
        self,
        placement_strategy: PlacementStrategy = "PACK",
        start_timeout_s: float = 300.0,
        stall_timeout_s: float = 120.0,
    ) -> None:
        self.counters = Counters()
        self._strategy = placement_strategy
        self._start_timeout_s = start_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._group: PlacementGroup | None = None
        self._pools: dict[str, Pool] = {}
        self._active: list[Call] = []
        """Calls that wait or are dispatched, oldest first."""
        self._stale: list[ray.ObjectRef] = []
        """References of abandoned attempts; their errors are read so that Ray does not report them as unhandled."""
        self._spans: list[CallStats] = []
        self._last_progress = time.monotonic()

    @classmethod
    def from_settings(cls, settings: SupervisionSettings) -> RayRuntime:
        """The runtime that a configuration describes."""
        return cls(settings.placement_strategy, settings.start_timeout_s, settings.stall_timeout_s)

    def start(self, roles: Sequence[Role]) -> None:
        """Reserves one bundle per actor, then places and builds all actors; see `Runtime.start`."""
        assert self._group is None, "started twice"
        bundles = [
            {"CPU": max(role.num_cpus, SMALLEST_BUNDLE), **({"GPU": role.num_gpus} if role.num_gpus else {})}
            for role in roles
            for _ in range(role.count)
        ]
        self._group = placement_group(bundles, strategy=self._strategy)
        if not self._group.wait(self._start_timeout_s):
            needed = describe_resources({key: sum(b.get(key, 0.0) for b in bundles) for key in ("CPU", "GPU")})
            free = describe_resources(ray.available_resources())
            self.close()
            raise StartError(
                f"no room for the actors within {self._start_timeout_s:g} s (start_timeout_s): they need "
                f"{needed.rsplit(',', 1)[0]} as {self._strategy}, free are {free}"
            )
        first_bundle = 0
        for role in roles:
            self._pools[role.name] = Pool(role, self._group, first_bundle)
            first_bundle += role.count
        self._await_built(list(self._pools.values()))

    def put(self, value: Any) -> Output:
        """Stores a value: see `Runtime.put`."""
        return Output(None, 0, ray.put(value))

    def submit(self, role: str, method: str, *args: Any, num_outputs: int = 1, label: str = "") -> Call:
        """Starts a call: see `Runtime.submit`."""
        call = Call(role, method, args, label or f"{role}.{method}", num_outputs)
        self._active.append(call)
        self._dispatch()
        return call

    def wait(self, calls: Collection[Call], between: Callable[[], None] = lambda: None) -> Iterator[Call]:
        """Yields calls as they finish: see `Runtime.wait`."""
        pending = list(dict.fromkeys(calls))
        self._last_progress = time.monotonic()
        while pending:
            finished = [call for call in pending if call.finished]
            pending = [call for call in pending if not call.finished]
            yield from finished
            between()
            if pending and not finished:
                self._step()

    def result(self, output: Output) -> Any:
        """The value of an output: see `Runtime.result`."""
        if output.call is None:
            return ray.get(output.handle)
        while True:
            for call in self.wait([output.call]):
                if call.failure is not None:
                    raise call.failure
            try:
                return ray.get(output.call.handles[output.index])
            except ObjectLostError:
                self._make_again(output.call)

    def rebuild(self, role: str) -> None:
        """Replaces all actors of a role: see `Runtime.rebuild`."""
        pool = self._pools[role]
        for call in [call for call in self._active if call.role == role]:
            self._fail(call, ActorLost(f"{call.label}: all {role} actors are rebuilt"))
        for member in pool.members:
            self.counters.restarts += 1
            pool.replace(member, "rebuilt")
        self._await_built([pool])

    def spans(self) -> list[CallStats]:
        """Finished calls: see `Runtime.spans`."""
        spans, self._spans = self._spans, []
        return spans

    def close(self) -> None:
        """Kills all actors and releases their resources; those of a lost cluster end by themselves."""
        if liveness.lost():
            return
        for call in list(self._active):
            self._take_back(call)
        self._drain_stale()
        for pool in self._pools.values():
            pool.kill()
        self._pools.clear()
        self._active.clear()
        self._stale.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def describe(self) -> str:
        """What every actor is doing and how many calls wait, in one line."""
        now = time.monotonic()
        parts = []
        for name, pool in self._pools.items():
            for member in pool.members:
                runnable = member.runnable()
                doing = f"{runnable[0].label} for {now - (member.busy_since() or now):.0f} s" if runnable else "idle"
                doing = doing if member.ready else "being built"
                parts.append(f"{member.name}: {doing}, {len(member.running)} given")
            parts.append(f"{self._num_waiting(name)} waiting for {name}")
        return "; ".join(parts)

    # One pass of the event loop: finished calls, calls to dispatch, deadlines.

    def _step(self) -> None:
        num_active = len(self._active)
        self._dispatch()
        pending = {ref: call for call in self._active if call.state == "dispatched" for ref in call.handles[-1:]}
        building = {m.building: (p, m) for p in self._pools.values() for m in p.members if m.building is not None}
        refs = [*pending, *building]
        if not refs:
            # Calls whose inputs failed were already failed during dispatch.
            assert len(self._active) < num_active, f"nothing runs and nothing can: {self.describe()}"
            return
        ray.wait(refs, num_returns=1, timeout=TICK_S, fetch_local=False)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            if ref in building:
                self._settle_building(*building[ref])
            elif pending[ref].state == "dispatched" and pending[ref].handles[-1] == ref:
                self._settle(pending[ref])
        now = time.monotonic()
        self._last_progress = now if ready else self._last_progress
        self._check_deadlines(now)
        self._drain_stale()

    def _dispatch(self) -> None:
        for call in list(self._active):
            if call.state != "waiting":
                continue
            producers = call.producers
            failures = [producer.failure for producer in producers if producer.failure is not None]
            if failures:
                self._fail(call, failures[0])
                continue
            if any(producer.state == "waiting" for producer in producers):
                continue
            chained = any(producer.state != "done" for producer in producers)
            member = self._pools[call.role].pick(chained)
            if member is not None:
                self._send(call, member)

    def _send(self, call: Call, member: Member) -> None:
        shape, parts = unnest(call.args)
        refs = [_reference(part) if isinstance(part, Output) else part for part in parts]
        call.handles = list(member.actor.call(call.method, call.label, call.num_outputs, shape, refs))
        call.state, call.actor, call.dispatched_at = "dispatched", member, time.monotonic()
        member.running.append(call)

    # Outcomes of a call.

    def _settle(self, call: Call) -> None:
        """Handles a dispatched call whose statistics are ready: it finished, or failed in one of several ways."""
        try:
            stats: CallStats = ray.get(call.handles[-1])
        except RayTaskError as error:
            self._settle_raised(call, error)
        except RayError as error:
            self._lose(call.actor, describe(error))
        else:
            call.stats, call.state, call.finished_at = stats, "done", time.monotonic()
            call.handles.pop()
            if self._pools[call.role].role.stateful:
                # It is never repeated, so drop its inputs; otherwise every version would keep all earlier steps in
                # memory.
                call.args = ()
            call.actor.running.remove(call)
            call.actor.last_progress = call.finished_at
            self._active.remove(call)
            self._spans.append(stats)

    def _settle_raised(self, call: Call, error: RayTaskError) -> None:
        # A call also fails with the error of a failed input. That is the input's failure: handle it first.
        for producer in call.producers:
            if producer.state == "dispatched" and ray.wait([producer.handles[-1]], timeout=0)[0]:
                self._settle(producer)
        if call.state != "dispatched":
            return
        if any(producer.state != "done" for producer in call.producers):
            self._take_back(call)
            return
        lost = error.cause.object_ref_hex if isinstance(error.cause, ObjectLostError) else None
        makers = [producer for producer in call.producers if any(ref.hex() == lost for ref in producer.handles)]
        if makers:
            self._take_back(call)
            self._make_again(makers[0])
        else:
            self._count_raise(call, error)

    def _count_raise(self, call: Call, error: RayTaskError) -> None:
        role = self._pools[call.role].role
        call.attempts += 1
        call.actor.last_progress = time.monotonic()
        cause = raised_by(error)
        if role.retry_errors and call.attempts < role.max_attempts:
            logger.warning("%s raised %s on %s; trying again", call.label, cause, call.actor.name)
            self.counters.retries += 1
            self._take_back(call)
            return
        message = f"{call.label} failed on {call.actor.name}: {type(cause).__name__}: {cause}"
        failure = CallFailed(message, cause)
        failure.__cause__ = error  # It has the traceback of the other process.
        self._fail(call, failure)

    def _make_again(self, call: Call) -> None:
        """Returns a finished call whose output is lost to the queue."""
        role = self._pools[call.role].role
        call.attempts += 1
        if role.stateful or call.attempts >= role.max_attempts:
            message = f"the result of {call.label} was lost with its node and cannot be made again"
            call.failure, call.state = (ActorLost if role.stateful else CallFailed)(message), "failed"
            return
        logger.warning("the result of %s was lost with its node; it is made again", call.label)
        self.counters.retries += 1
        call.state, call.handles, call.stats = "waiting", [], None
        self._active.insert(0, call)

    def _take_back(self, call: Call) -> None:
        """Reverts the dispatch of a call, and of the calls that wait for its outputs."""
        for dependent in list(self._active):
            if dependent.state == "dispatched" and call in dependent.producers:
                self._take_back(dependent)
        if call.state == "dispatched":
            call.actor.running.remove(call)
            self._stale.extend(call.handles)
            call.state, call.handles, call.actor = "waiting", [], None

    def _fail(self, call: Call, failure: CallFailed) -> None:
        if call.state == "dispatched":
            self._take_back(call)
        call.failure, call.state, call.finished_at = failure, "failed", time.monotonic()
        self._active.remove(call)

    # Death of an actor.

    def _lose(self, member: Member, reason: str) -> None:
        """Handles the death of an actor: keeps what it finished, re-submits the rest, starts a new one."""
        pool = self._pools[next(name for name, pool in self._pools.items() if member in pool.members)]
        for call in list(member.running):
            if call.state == "dispatched" and ray.wait([call.handles[-1]], timeout=0)[0] and _succeeded(call):
                self._settle(call)
        suspects = member.runnable()[:1]
        words = member.last_words()
        for call in list(member.running):
            call.attempts += call in suspects
            if pool.role.stateful:
                self._fail(call, ActorLost(f"{member.name} was lost in {call.label}: {reason}{words}"))
            elif call.attempts >= pool.role.max_attempts:
                message = f"{call.label} was given up after {call.attempts} attempt(s): {member.name} was lost"
                self._fail(call, CallFailed(f"{message}: {reason}{words}"))
            else:
                self.counters.retries += 1
                self._take_back(call)
        if not pool.role.stateful:
            self.counters.restarts += 1
            pool.replace(member, f"it was lost{f' in {suspects[0].label}' if suspects else ''}: {reason}{words}")

    def _settle_building(self, pool: Pool, member: Member) -> None:
        if not pool.check_built(member):
            self.counters.restarts += 1

    def _await_built(self, pools: list[Pool]) -> None:
        """
        Raises:
            StartError: an actor cannot be placed or built; everything is closed.
        """
        try:
            while waiting := [(pool, member) for pool in pools for member in pool.members if member.building]:
                refs = {member.building: (pool, member) for pool, member in waiting}
                ready, _ = ray.wait(list(refs), num_returns=1, timeout=TICK_S)
                for ref in ready:
                    self._settle_building(*refs[ref])
                for pool in pools:
                    pool.check_start_deadline(need_all=True)
        except StartError:
            self.close()
            raise

    def _check_deadlines(self, now: float) -> None:
        for name, pool in self._pools.items():
            pool.check_start_deadline(need_all=False)
            for member in list(pool.members):
                since = member.busy_since()
                if since is None or now - since <= pool.role.timeout_s:
                    continue
                hung = member.runnable()[0]
                reason = (
                    f"{hung.label} made no progress on {member.name} for {now - since:.0f} s (limit "
                    f"{pool.role.timeout_s:g} s); {len(member.running)} calls given to it, "
                    f"{self._num_waiting(name)} more waiting for {name}. It was here:\n{member.actor.stack()}"
                )
                member.actor.kill()
                self._lose(member, reason)
        if now - self._last_progress > self._stall_timeout_s:
            logger.warning("nothing finished for %.0f s: %s", now - self._last_progress, self.describe())
            self._last_progress = now

    def _num_waiting(self, role: str) -> int:
        return sum(call.role == role and call.state == "waiting" for call in self._active)

    def _drain_stale(self) -> None:
        if not self._stale:
            return
        ready, self._stale = ray.wait(self._stale, num_returns=len(self._stale), timeout=0, fetch_local=False)
        for ref in ready:
            # The attempt was abandoned; its outcome does not matter.
            with suppress(RayError):
                ray.get(ref)


def _reference(output: Output) -> ray.ObjectRef:
    return output.handle if output.call is None else output.call.handles[output.index]


def _succeeded(call: Call) -> bool:
    try:
        ray.get(call.handles[-1])
    except RayError:
        return False
    return True
