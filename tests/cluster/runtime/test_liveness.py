"""The watch over a cluster's two ports: what refuses has died, and the run hears of it."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.runtime import liveness
from cluster.runtime.liveness import Place, lost, watched
from cluster.runtime.stopping import ClusterLost, check, handled, orderly

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "TICK_S", 0.01)


def listening(port: int = 0) -> socket.socket:
    """Somebody who listens on this machine."""
    return socket.create_server(("127.0.0.1", port), backlog=1000)


@pytest.fixture
def raylet() -> Iterator[socket.socket]:
    with listening() as server:
        yield server


@pytest.fixture
def gcs() -> Iterator[socket.socket]:
    with listening() as server:
        yield server


def place(server: socket.socket) -> Place:
    return Place(*server.getsockname())


def wait(until: Callable[[], bool] = lambda: False) -> None:
    """Time passes; what the watch raises is raised here."""
    deadline = time.monotonic() + LIMIT_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_raylet_ends_a_command_at_once_even_where_it_asks_for_order(
    raylet: socket.socket, gcs: socket.socket
) -> None:
    with (
        pytest.raises(ClusterLost, match=r"the raylet of this node \(127.0.0.1:\d+\) has ended") as caught,
        handled(),
        watched(place(raylet), place(gcs), 0.0),
        orderly(),
    ):
        assert not lost()
        raylet.close()
        wait()
    assert (caught.value.status, caught.value.can_save) == (75, False)
    assert not lost()


def test_after_the_death_of_the_head_a_run_may_save_itself(raylet: socket.socket, gcs: socket.socket) -> None:
    with handled(), watched(place(raylet), place(gcs), 0.0), orderly():
        gcs.close()
        wait(lost)

        def asked() -> bool:
            try:
                check()
            except ClusterLost as stop:
                return stop.can_save and "its head (GCS, " in str(stop)
            return False

        wait(asked)


def test_a_run_that_does_not_save_itself_is_ended(
    raylet: socket.socket, gcs: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SAVING_S", 0.05)
    with (
        pytest.raises(ClusterLost) as caught,
        handled(),
        watched(place(raylet), place(gcs), 0.0),
        orderly(),
    ):
        gcs.close()
        wait()
    assert not caught.value.can_save


def test_a_head_that_returns_is_nothing_to_end_for(
    raylet: socket.socket, gcs: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    where = place(gcs)
    with handled(), watched(place(raylet), where, LIMIT_S), orderly():
        gcs.close()
        wait(lambda: "is away; it has 60 s to return" in caplog.text)
        with listening(where.port):
            wait(lambda: "answers again" in caplog.text)
        check()
        assert not lost()


def test_the_patience_is_half_of_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(liveness.GIVES_UP, raising=False)
    assert liveness.gcs_patience_s() == 30
    monkeypatch.setenv(liveness.GIVES_UP, "600")
    assert liveness.gcs_patience_s() == 300


def test_a_place_that_only_keeps_silent_does_not_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", slow)
    assert not Place.parse("[::1]:80").refuses() and str(Place.parse("10.0.0.1:80")) == "10.0.0.1:80"
