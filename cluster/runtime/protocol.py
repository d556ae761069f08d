"""How the controller calls plain classes: roles, calls, and the interface of both runtimes.

A role is a class to build and the number of its objects; a call names a role, a method and its arguments. An argument
may be an output of an earlier call, which need not have finished: the calls are then chained, and the value does not
pass through the caller. `LocalRuntime` (cluster/runtime/local.py) makes plain calls in this process, `RayRuntime`
(cluster/runtime/on_ray.py) makes supervised calls to actors. Both isolate values in the same way (a receiver gets its
own objects over read-only arrays) and give the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from motions.base.errors import RemoteError

Factory = Callable[[], object]
"""Builds the object of a role, in the process that will hold it. It must be picklable: a module-level function, or
`functools.partial` of one with settings as arguments."""


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of actor: how to build it, how many, and which resources and limits it has.

    Example:
        Role("rollout", functools.partial(build_rollout_worker, settings), count=3, num_cpus=1.0)
    """

    name: str
    factory: Factory
    count: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    threads: int = 1
    deterministic: bool = True
    stateful: bool = False
    """Whether calls change the object (a learner): then they are not repeated on another actor, and its death is
    reported as `ActorLost`."""
    retry_errors: bool = False
    """Whether a call that raises is tried again (a remote reward may recover); else the first exception is final."""
    timeout_s: float = 600.0
    """An actor that makes no progress with a call for longer than this is killed."""
    start_timeout_s: float = 300.0
    """Time limit for placing and building an actor."""
    max_in_flight: int = 2
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class CallStats:
    """When and where a call ran."""

    actor: str
    label: str
    started: float
    """`time.time()` of that machine."""
    seconds: float
    """Duration of the call, by a clock that is never set."""
    pid: int


@dataclass(eq=False, slots=True)
class Call:
    """A submitted call. Runtimes own the fields below `num_outputs`; callers read `stats` and `failure`."""

    role: str
    method: str
    args: tuple[Any, ...]
    label: str
    num_outputs: int
    state: Literal["waiting", "dispatched", "done", "failed"] = "waiting"
    stats: CallStats | None = None
    failure: CallFailed | None = None
    attempts: int = 0
    """Number of attempts that count against `max_attempts`."""
    handles: list[Any] = field(default_factory=list)
    """One per output, then one for the statistics; their type depends on the runtime."""
    actor: Any = None
    submitted_at: float = field(default_factory=time.monotonic)
    dispatched_at: float = 0.0
    finished_at: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether the call is done or has finally failed."""
        return self.state in ("done", "failed")

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs, to be passed to other calls or to `Runtime.result`."""
        return tuple(Output(self, index) for index in range(self.num_outputs))

    @property
    def output(self) -> Output:
        """The first (usually the only) output."""
        return Output(self, 0)

    @property
    def producers(self) -> list[Call]:
        """Calls whose outputs are arguments of this one."""
        calls = [part.call for part in unnest(self.args)[1] if isinstance(part, Output) and part.call is not None]
        return list(dict.fromkeys(calls))


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a call, or (call None) a value that was `put`."""

    call: Call | None
    index: int
    handle: Any = None


class CallFailed(RemoteError):  # noqa: N818 - names what happened, as concurrent.futures' exceptions do
    """A call failed and will not be tried again. The message names the call, the actor and the reason."""


class ActorLost(CallFailed):
    """A stateful actor died: its state is lost, and the caller has to restore it."""


class StartError(RemoteError):
    """The cluster is too small, or an actor could not be placed or built; the message names what is missing."""


@dataclass(slots=True)
class Counters:
    """Counts of what the supervision has done so far."""

    retries: int = 0
    """Number of calls that were tried again."""
    restarts: int = 0
    """Number of actors that were replaced."""


class Runtime(Protocol):
    """Interface for running calls. Not thread-safe; used by one controller."""

    counters: Counters
    concurrent: bool
    """Whether calls run while the caller does something else, in place of inside `submit`."""

    def start(self, roles: Sequence[Role]) -> None:
        """Builds the objects of all roles.

        Raises:
            StartError: an object cannot be placed or built.
        """
        ...

    def put(self, value: Any) -> Output:
        """Stores a value once, so that many calls can take it."""
        ...

    def submit(self, role: str, method: str, *args: Any, num_outputs: int = 1, label: str = "") -> Call:
        """Starts a call. An argument may be an `Output`, or a list with `Output`s in it.

        A method with `num_outputs` above 1 returns a tuple of that length. Errors of the call are not raised here.
        """
        ...

    def wait(self, calls: Collection[Call], between: Callable[[], None] = lambda: None) -> Iterator[Call]:
        """Yields each call when it has finished (see `Call.failure`). Outputs stay where they are.

        Args:
            between: called again and again while it waits; may raise, and the calls go on.
        """
        ...

    def result(self, output: Output) -> Any:
        """Waits for an output and fetches its value.

        Raises:
            CallFailed: the call failed.
        """
        ...

    def rebuild(self, role: str) -> None:
        """Replaces all objects of a stateful role by new ones.

        Raises:
            StartError: an object cannot be placed or built.
        """
        ...

    def spans(self) -> list[CallStats]:
        """Calls that finished since the last request."""
        ...

    def close(self) -> None:
        """Ends everything that this runtime started. May be called repeatedly."""
        ...


Shape = tuple[int | None, ...]
"""One entry per argument: None for a plain one, n for a list of n parts."""


def unnest(args: Sequence[Any]) -> tuple[Shape, list[Any]]:
    """Arguments as one flat list, so that outputs inside lists are seen (and fetched) too."""
    shape: list[int | None] = []
    parts: list[Any] = []
    for argument in args:
        if isinstance(argument, list) and any(isinstance(item, Output) for item in argument):
            shape.append(len(argument))
            parts.extend(argument)
        else:
            shape.append(None)
            parts.append(argument)
    return tuple(shape), parts


def nest(shape: Shape, parts: Sequence[Any]) -> list[Any]:
    """The inverse of `unnest`, with values in place of outputs."""
    args: list[Any] = []
    position = 0
    for length in shape:
        if length is None:
            args.append(parts[position])
            position += 1
        else:
            args.append(list(parts[position : position + length]))
            position += length
    assert position == len(parts)
    return args
