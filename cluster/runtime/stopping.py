"""Ends a command in order when it is asked to: by SIGTERM, as schedulers send it, or by Ctrl-C.

The command line handles the signals (`handled`). Where nothing can be lost they end the command at once, by `Stopped`.
A run that makes steps asks for order (`orderly`): a request is then noted, and the run ends itself at the next place
where its state can be saved (`check`). A second request ends it at once everywhere.

Signals belong to the process, so what is noted is kept by this module.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Stopped(KeyboardInterrupt):
    """The command was asked to end.

    Attributes:
        number: of the signal; the exit status of the process is 128 and this number.
        saved: what a run has saved, for the message.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {SIGNALS[signal.Signals(number)]}")
        self.number = number
        self.saved = ""


class _Requests:
    noted: int | None = None
    in_order = False


@contextmanager
def handled() -> Iterator[None]:
    """Handles the signals inside the block; does nothing outside the main thread, where Python cannot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        _Requests.noted = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def kept() -> Iterator[None]:
    """Restores what handles SIGTERM after the block: Ray puts a handler of its own, which ends all its processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def orderly() -> Iterator[None]:
    """Requests inside the block are noted, for `check`."""
    outer, _Requests.in_order = _Requests.in_order, True
    try:
        yield
    finally:
        _Requests.in_order = outer


def check() -> None:
    """Raises Stopped if a request was noted."""
    if _Requests.noted is not None:
        raise Stopped(_Requests.noted)


def _handle(number: int, frame: object) -> None:
    again = _Requests.noted is not None
    _Requests.noted = number
    if again or not _Requests.in_order:
        raise Stopped(number)
    name = SIGNALS[signal.Signals(number)]
    print(f"{name}: the run is saved and ends; once more ends it at once", file=sys.stderr, flush=True)
