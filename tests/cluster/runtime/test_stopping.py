"""Requests to end: at once, or noted and answered where a run can be saved; a second one always ends at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cluster.runtime.stopping import ClusterLost, Stopped, check, handled, kept, orderly, request


def ask(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_ends_at_once_where_nobody_asks_for_order(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, handled():
        ask(number)
    assert caught.value.status == 128 + number and signal.getsignal(number) == before


def test_a_request_is_noted_where_order_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with handled():
        with orderly():
            check()
            ask()
            assert "SIGTERM: the run is saved and ends; once more ends it at once" in capsys.readouterr().err
            with pytest.raises(Stopped):
                check()
            with pytest.raises(Stopped):
                ask(signal.SIGINT)
        with pytest.raises(Stopped):
            ask()
    with handled(), orderly():
        check()


def test_handlers_that_a_library_puts_in_place_are_taken_away() -> None:
    with handled():
        ours = signal.getsignal(signal.SIGTERM)
        with kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == ours


def test_what_was_noted_is_raised_where_ray_raises_a_plain_interrupt() -> None:
    with handled(), pytest.raises(ClusterLost, match="the raylet has ended"), orderly():
        request(ClusterLost("the raylet has ended"))
        # As Ray's compiled code does for a signal that arrives while it waits.
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as caught, handled(), orderly():
        raise KeyboardInterrupt
    assert type(caught.value) is KeyboardInterrupt


def test_outside_the_main_thread_nothing_is_handled() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work() -> None:
        with handled(), kept(), orderly():
            found.append(signal.getsignal(signal.SIGTERM))
            check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
