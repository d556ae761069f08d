"""Supervised calls on a real local cluster: chaining, deadlines, deaths, errors, room."""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from cluster.runtime.connect import Connection, connect
from cluster.runtime.on_ray import RayRuntime
from cluster.runtime.protocol import ActorLost, CallFailed, Role, StartError
from cluster.settings import ConnectionSettings
from motions.base.atomic import WriteError
from motions.base.errors import UserError, is_mendable
from tests.toys.running.cluster_toys import broken, strike

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


class Worker:
    """Does what it is told."""

    def __init__(self) -> None:
        self.calls = 0

    def make(self, size: int, seconds: float = 0.0) -> tuple[np.ndarray, int]:
        time.sleep(seconds)
        return np.arange(size, dtype=np.float64), size

    def add(self, *parts: Any) -> float:
        return float(sum(np.sum(part) for part in parts))

    def mark(self, path: Path, _: Any) -> None:
        path.touch()

    def write(self, array: np.ndarray) -> None:
        array[0] = 1.0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def where(self) -> tuple[int, str]:
        return os.getpid(), os.environ["OMP_NUM_THREADS"]

    def die_once(self, flag: Path, value: int) -> int:
        if strike(flag):
            os._exit(3)
        return value

    def die(self) -> None:
        print("the last words of a worker", file=__import__("sys").stderr, flush=True)
        os._exit(3)

    def hang_once(self, flag: Path, value: int) -> int:
        if strike(flag):
            self.sleep_for_ever()
        return value

    def sleep_for_ever(self) -> None:
        time.sleep(10_000)

    def fail(self, message: str) -> None:
        raise KeyError(message)

    def refuse(self, error: Exception) -> None:
        raise error


@contextmanager
def running(*roles: Role, **options: Any) -> Iterator[RayRuntime]:
    runtime = RayRuntime(**options)
    try:
        runtime.start(roles)
        yield runtime
    finally:
        runtime.close()


def worker(name: str = "worker", **options: Any) -> Role:
    return Role(name, Worker, **{"num_cpus": 0.1, "threads": 2, **options})


def wait_until(condition: Callable[[], bool], limit_s: float = 240.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def runtime(ray_cluster: object) -> Iterator[RayRuntime]:
    """Two workers and one with state, for tests that leave them alive."""
    with running(worker(count=2), worker("keeper", stateful=True)) as started:
        yield started


def test_values_go_by_reference_and_lists_of_outputs_are_resolved(runtime: RayRuntime) -> None:
    first, second = (runtime.submit("worker", "make", size, num_outputs=2) for size in (4, 5))
    whole = runtime.put(np.full(3, 100.0))
    total = runtime.submit("worker", "add", [first.output, second.output], 1.0, whole)
    # A list argument arrives as a list: np.sum over two arrays of unequal length would fail, so sum them by parts.
    parts = runtime.submit("worker", "add", first.output, second.output, whole)
    assert runtime.result(parts.output) == 6 + 10 + 300
    with pytest.raises(CallFailed, match="inhomogeneous"):
        runtime.result(total.output)
    assert runtime.result(first.outputs[1]) == 4
    assert first.stats is not None and first.stats.actor.startswith("worker-") and first.stats.seconds >= 0


def test_inputs_are_read_only(runtime: RayRuntime) -> None:
    made = runtime.submit("worker", "make", 200_000, num_outputs=2)
    with pytest.raises(CallFailed, match="read-only"):
        runtime.result(runtime.submit("worker", "write", made.output).output)


def test_a_chained_call_runs_without_the_controller(runtime: RayRuntime, tmp_path: Path) -> None:
    slow = runtime.submit("worker", "make", 3, 0.3, num_outputs=2)
    chained = runtime.submit("worker", "mark", tmp_path / "mark", slow.output)
    # Nobody calls into the runtime meanwhile.
    wait_until((tmp_path / "mark").exists)
    assert chained.state == "dispatched"
    assert [call.failure for call in runtime.wait([chained])] == [None]


def test_an_actor_is_given_few_calls_at_a_time(runtime: RayRuntime) -> None:
    calls = [runtime.submit("worker", "make", 1, 0.02, num_outputs=2) for _ in range(12)]
    assert sum(call.state == "dispatched" for call in calls) == 4
    for _ in runtime.wait(calls):
        assert sum(call.state == "dispatched" for call in calls) <= 4
    assert {call.stats.actor for call in calls if call.stats} == {"worker-0", "worker-1"}


def test_no_prompt_is_published_at_the_metrics_endpoint(runtime: RayRuntime, ray_cluster: Connection) -> None:
    """The endpoint asks for no token, and Ray publishes the names of calls there."""
    runtime.result(runtime.submit("worker", "add", 1, label="rollout of a diary entry").output)

    def published() -> str:
        with urllib.request.urlopen(ray_cluster.metrics_urls[0]) as answer:
            return answer.read().decode()

    wait_until(lambda: 'Name="worker.add"' in published())
    assert "diary" not in published()


def test_an_exception_is_final_and_named_and_ends_what_depends_on_it(runtime: RayRuntime) -> None:
    failing = runtime.submit("worker", "fail", "no such joint", label="score of prompt 3")
    dependent = runtime.submit("worker", "add", failing.output)
    list(runtime.wait([failing, dependent]))
    assert failing.failure is not None and isinstance(failing.failure.cause, KeyError)
    assert "score of prompt 3 failed on worker-" in str(failing.failure) and "no such joint" in str(failing.failure)
    assert dependent.failure is failing.failure and failing.attempts == 1
    # A mistake in the code keeps the other process's traceback.
    assert not is_mendable(failing.failure)
    assert "in fail\n" in "".join(traceback.format_exception(failing.failure))


def test_what_a_user_can_mend_is_so_from_another_process_too(runtime: RayRuntime) -> None:
    for mistake in (UserError("no such clip"), WriteError(errno.ENOSPC, "No space left on device", "x.npy")):
        failing = runtime.submit("worker", "refuse", mistake)
        list(runtime.wait([failing]))
        assert failing.failure is not None and is_mendable(failing.failure)
        assert f"{type(mistake).__name__}: {mistake}" in str(failing.failure)


@pytest.mark.parametrize(("mistake", "mendable"), [(UserError("no clip"), True), (TypeError("no clip"), False)])
def test_an_error_in_a_process_of_a_library_is_told_as_one_of_ours(mistake: Exception, mendable: bool) -> None:
    actor: Any = ray.remote(Worker)
    actor = actor.options(num_cpus=0.1).remote()
    with (
        pytest.raises(CallFailed, match=f"^{type(mistake).__name__}: no clip$") as caught,
        connect(ConnectionSettings()),
    ):
        ray.get(actor.refuse.remote(mistake))
    assert is_mendable(caught.value) is mendable
    assert "in refuse\n" in "".join(traceback.format_exception(caught.value))


def test_threads_are_pinned_in_the_process(runtime: RayRuntime) -> None:
    pid, threads = runtime.result(runtime.submit("worker", "where").output)
    assert pid != os.getpid() and threads == "2"


def test_state_stays_with_its_actor(runtime: RayRuntime) -> None:
    assert [runtime.result(runtime.submit("keeper", "count").output) for _ in range(3)] == [1, 2, 3]
    runtime.rebuild("keeper")
    assert runtime.result(runtime.submit("keeper", "count").output) == 1


def test_a_death_costs_a_retry_and_its_dependents_follow(tmp_path: Path) -> None:
    with running(worker(count=2), worker("judge")) as runtime:
        calls = [runtime.submit("worker", "die_once", tmp_path / "flag", value) for value in range(6)]
        judged = [runtime.submit("judge", "add", call.output) for call in calls]
        list(runtime.wait(judged))
        assert [runtime.result(call.output) for call in judged] == list(range(6))
        assert runtime.counters.restarts == 1
        # The calls that the dead worker was given; what was chained on them just waits longer.
        assert 1 <= runtime.counters.retries <= 2
        # Killed from outside while it had nothing to do: found out at the next call.
        pid, _ = runtime.result(runtime.submit("judge", "where").output)
        os.kill(pid, 9)
        assert runtime.result(runtime.submit("judge", "add", 7).output) == 7


def test_a_call_that_always_kills_is_given_up_with_the_last_words() -> None:
    with running(worker(max_attempts=2)) as runtime:
        call = runtime.submit("worker", "die", label="rollout of step 4")
        with pytest.raises(CallFailed, match=r"rollout of step 4 was given up after 2 attempt") as caught:
            runtime.result(call.output)
        assert "worker-0.1 was lost" in str(caught.value) and "the last words of a worker" in str(caught.value)
        # The next call finds a living actor.
        assert runtime.result(runtime.submit("worker", "add", 1).output) == 1


def test_a_hanging_call_is_named_with_its_place_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(worker(timeout_s=3.0), stall_timeout_s=0.3) as runtime:
        calls = [
            runtime.submit("worker", "hang_once", tmp_path / "flag", value, label=f"prompt {value}")
            for value in range(4)
        ]
        with caplog.at_level(logging.WARNING):
            assert [runtime.result(call.output) for call in calls] == [0, 1, 2, 3]
    report = next(record.getMessage() for record in caplog.records if "is replaced by" in record.getMessage())
    assert "prompt 0 made no progress on worker-0" in report and "in sleep_for_ever" in report
    assert "2 calls given to it, 2 more waiting for worker" in report
    # Long before the deadline the log says what everybody does.
    stalled = [record.getMessage() for record in caplog.records if "nothing finished for" in record.getMessage()]
    assert stalled and "worker-0: prompt 0 for" in stalled[0] and "2 waiting for worker" in stalled[0]


def test_the_death_of_an_actor_with_state_is_reported(tmp_path: Path) -> None:
    with running(worker("keeper", stateful=True)) as runtime:
        call = runtime.submit("keeper", "die_once", tmp_path / "flag", 1)
        with pytest.raises(ActorLost, match="keeper-0 was lost"):
            runtime.result(call.output)
        with pytest.raises(ActorLost):
            runtime.result(runtime.submit("keeper", "count").output)
        runtime.rebuild("keeper")
        assert runtime.result(runtime.submit("keeper", "count").output) == 1


def test_an_actor_that_cannot_be_built_is_named_at_once() -> None:
    with pytest.raises(StartError, match=r"scorer-0 could not be built: ValueError: tmr.pt: expected a motion"):
        RayRuntime().start([Role("scorer", broken, num_cpus=0.1)])


def test_a_busy_cluster_is_named_with_what_is_free() -> None:
    with running(worker(num_cpus=6.0)), pytest.raises(StartError, match=r"need 5 CPU.*free are [12](\.\d+)? CPU"):
        RayRuntime(start_timeout_s=1.0).start([worker("other", count=2, num_cpus=2.5)])


def test_a_slow_start_is_named() -> None:
    slow = Role("slow", functools.partial(time.sleep, 10_000), num_cpus=0.1, start_timeout_s=1.0)
    with pytest.raises(StartError, match=r"slow-0 was not placed and built within"):
        RayRuntime().start([slow])
