"""The runtime without Ray: plain calls in this process, one object per role.

A call runs inside `submit`. All values pass through pickle with out-of-band buffers, as in Ray's object store:
receivers get their own objects over read-only arrays, so a reward that writes into its input fails here too, and no
state is shared. Deadlines do not apply, because a call in this process cannot be killed.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.runtime.actor_host import ActorHost
from cluster.runtime.protocol import Call, CallFailed, CallStats, Counters, Output, Role, StartError, unnest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A pickled value; arrays loaded from it are views of immutable buffers."""

    data: bytes
    buffers: list[bytes]

    @classmethod
    def of(cls, value: Any) -> _Stored:
        """Pickles a value."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return cls(data, [bytes(buffer.raw()) for buffer in buffers])

    def load(self) -> Any:
        """The value, unpickled."""
        return pickle.loads(self.data, buffers=self.buffers)


class LocalRuntime:
    """Implementation of `Runtime` in this process."""

    concurrent = False

    def __init__(self) -> None:
        self.counters = Counters()
        self._roles: dict[str, Role] = {}
        self._hosts: dict[str, ActorHost] = {}
        self._spans: list[CallStats] = []

    def start(self, roles: Sequence[Role]) -> None:
        """Builds one object per role; see `Runtime.start`."""
        for role in roles:
            self._roles[role.name] = role
            self._hosts[role.name] = self._build(role)

    def put(self, value: Any) -> Output:
        """Stores a value: see `Runtime.put`."""
        return Output(None, 0, _Stored.of(value))

    def submit(self, role: str, method: str, *args: Any, num_outputs: int = 1, label: str = "") -> Call:
        """Runs the call immediately; see `Runtime.submit`."""
        call = Call(role, method, args, label or f"{role}.{method}", num_outputs)
        limit = self._roles[role].max_attempts if self._roles[role].retry_errors else 1
        while not call.finished:
            self._try(call, limit)
        return call

    def wait(self, calls: Collection[Call], between: Callable[[], None] = lambda: None) -> Iterator[Call]:
        """Yields the calls, which have all finished; see `Runtime.wait`."""
        between()
        yield from calls

    def result(self, output: Output) -> Any:
        """The value of an output: see `Runtime.result`."""
        if output.call is None:
            return output.handle.load()
        if output.call.failure is not None:
            raise output.call.failure
        return output.call.handles[output.index].load()

    def rebuild(self, role: str) -> None:
        """Replaces a role's object: see `Runtime.rebuild`."""
        self._hosts[role] = self._build(self._roles[role])

    def spans(self) -> list[CallStats]:
        """Finished calls: see `Runtime.spans`."""
        spans, self._spans = self._spans, []
        return spans

    def close(self) -> None:
        """Drops all objects."""
        self._hosts.clear()

    def _build(self, role: Role) -> ActorHost:
        host = ActorHost(role.name, role.factory, role.threads, role.deterministic)
        try:
            host.build()
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            raise StartError(f"{role.name} could not be built: {type(error).__name__}: {error}", error) from error
        return host

    def _try(self, call: Call, limit: int) -> None:
        for producer in call.producers:
            if producer.failure is not None:
                _fail(call, producer.failure)
                return
        call.attempts += 1
        try:
            shape, parts = unnest(call.args)
            values = [self.result(part) if isinstance(part, Output) else _Stored.of(part).load() for part in parts]
            outputs = self._hosts[call.role].call(call.method, call.label, call.num_outputs, shape, *values)
            handles = [_Stored.of(value) for value in outputs[:-1]]
        except BaseException as error:
            # Like a supervisor, pass on any exception of the call; an interrupt is not one of the call.
            if not isinstance(error, Exception):
                raise
            if call.attempts < limit:
                self.counters.retries += 1
                logger.warning("%s raised %s; trying again", call.label, error)
                return
            message = f"{call.label} failed: {type(error).__name__}: {error}"
            _fail(call, CallFailed(message, error))
        else:
            call.handles, call.stats, call.state = handles, outputs[-1], "done"
            # Drop the inputs; otherwise every policy version would keep all earlier steps in memory.
            call.args = ()
            call.finished_at = time.monotonic()
            self._spans.append(outputs[-1])


def _fail(call: Call, failure: CallFailed) -> None:
    call.failure, call.state, call.finished_at = failure, "failed", time.monotonic()
