"""The object of a role in its process: threads and kernels during a call, outputs, the stack of a hanging call."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cluster.runtime.actor_host import ActorHost, environment
from cluster.runtime.local import LocalRuntime
from cluster.runtime.protocol import CallFailed, Output, Role, nest, unnest


class Worker:
    """Tells what it sees."""

    def __init__(self) -> None:
        self.built_with = numerics()
        self.release = threading.Event()

    def numerics(self) -> tuple[int, bool]:
        return numerics()

    def pair(self) -> tuple[int, int]:
        return 1, 2

    def add(self, *parts: Any) -> Any:
        return sum(sum(part) if isinstance(part, list) else part for part in parts)

    def wait(self) -> None:
        self.release.wait()


def numerics() -> tuple[int, bool]:
    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()


def hosted(threads: int, deterministic: bool) -> tuple[ActorHost, Worker]:
    """A host and the object that it built."""
    built: list[Worker] = []

    def factory() -> Worker:
        built.append(Worker())
        return built[0]

    host = ActorHost("worker-0", factory, threads, deterministic)
    host.build()
    return host, built[0]


@pytest.mark.parametrize(("threads", "deterministic"), [(2, True), (1, False)])
def test_numerics_are_set_around_a_call_and_put_back(threads: int, deterministic: bool) -> None:
    before = numerics()
    host, worker = hosted(threads, deterministic)
    inside, stats = host.call("numerics", "label", 1, ())
    assert inside == (threads, deterministic or before[1])
    assert worker.built_with == inside
    assert numerics() == before
    assert (stats.actor, stats.label) == ("worker-0", "label")


def test_a_clock_that_is_set_back_makes_no_call_last_less_than_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = ActorHost("worker-0", Worker, 1, False)
    host.build()
    now = itertools.count(2e9, -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(now))
    assert host.call("add", "label", 1, (None,), 1)[1].seconds >= 0


def test_several_outputs_are_a_tuple_of_that_length() -> None:
    host, _ = hosted(1, True)
    assert host.call("pair", "", 2, ())[:2] == (1, 2)
    with pytest.raises(TypeError, match=r"Worker.pair must return a tuple of 3 values"):
        host.call("pair", "", 3, ())


def test_the_stack_names_the_line_of_the_call_only() -> None:
    host, worker = hosted(1, True)
    assert "between two calls" in host.stack()
    thread = threading.Thread(target=host.call, args=("wait", "", 1, ()))
    thread.start()
    while "in wait" not in host.stack():
        pass
    stack = host.stack()
    worker.release.set()
    thread.join()
    assert "self.release.wait()" in stack and "cluster/runtime/actor_host.py" not in stack


def test_the_environment_pins_every_numeric_library() -> None:
    variables = environment(3)
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "3"


def test_lists_with_outputs_are_taken_apart_and_put_together() -> None:
    first, second = Output(None, 0, "a"), Output(None, 0, "b")
    shape, parts = unnest((1, [first, 5, second], [7, 8], []))
    assert parts == [1, first, 5, second, [7, 8], []]
    assert nest(shape, [1, 10, 5, 20, [7, 8], []]) == [1, [10, 5, 20], [7, 8], []]


@pytest.fixture
def runtime() -> Iterator[LocalRuntime]:
    local = LocalRuntime()
    local.start([Role("worker", Worker)])
    yield local
    local.close()


def test_local_calls_chain_and_fail_as_on_ray(runtime: LocalRuntime) -> None:
    pair = runtime.submit("worker", "pair", num_outputs=2)
    total = runtime.submit("worker", "add", [*pair.outputs], pair.outputs[1], runtime.put(10))
    assert runtime.result(total.output) == 15
    failing = runtime.submit("worker", "add", "text", label="sum of step 2")
    dependent = runtime.submit("worker", "add", failing.output)
    with pytest.raises(CallFailed, match=r"sum of step 2 failed: TypeError") as caught:
        runtime.result(dependent.output)
    assert isinstance(caught.value.cause, TypeError)
    assert [span.label for span in runtime.spans()] == ["worker.pair", "worker.add"] and runtime.spans() == []
