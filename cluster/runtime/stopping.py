"""Ends a command in order when it is asked to: by SIGTERM, as schedulers send it, by Ctrl-C, or by a thread of its own
that sees the Ray cluster die.

The command line handles the signals (`handled`). Where nothing can be lost they end the command at once, by `Stopped`.
A run that makes steps asks for order (`orderly`): a request is then noted, and the run ends itself at the next place
where its state can be saved (`check`). A second request ends it at once everywhere.

Signals belong to the process, so what is noted is kept by this module.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
SAME_REQUEST_S = 1.0
"""A signal that comes again within this time is the same request: a scheduler may send it to all processes of a
command, and the process that guards a command passes it on as well."""


class Stopped(KeyboardInterrupt):
    """The command was asked to end.

    Attributes:
        status: exit status of the process; for a signal 128 and its number.
        can_save: whether a run can still save its state.
        saved: what a run has saved, for the message.
    """

    def __init__(self, reason: str, status: int, can_save: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.can_save = can_save
        self.saved = ""

    @classmethod
    def by_signal(cls, number: int) -> Stopped:
        """The request that a signal makes."""
        return cls(f"stopped by {SIGNALS[signal.Signals(number)]}", 128 + number)


class ClusterLost(Stopped):
    """The Ray cluster of the run is gone. A run that is resumed on another one ends with the same bits."""

    STATUS = os.EX_TEMPFAIL
    """75, as sysexits.h names it: the same command may succeed if it is tried again."""

    def __init__(self, reason: str, can_save: bool = False) -> None:
        super().__init__(reason, self.STATUS, can_save)


class _Requests:
    noted: Stopped | None = None
    at_once = False
    """Whether what is noted is raised as soon as the main thread can."""
    signalled: tuple[int, float] = (0, 0.0)
    """The last signal, and when it came."""
    in_order = False
    handling = False


@contextmanager
def handled(*, ends: bool = False) -> Iterator[None]:
    """Handles the signals inside the block; does nothing outside the main thread, where Python cannot.

    Args:
        ends: the process ends after the block. A signal that comes again meanwhile is ignored: it would end the process
            before that has said why.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    _Requests.handling = True
    try:
        with _as_noted():
            yield
    finally:
        _Requests.handling, _Requests.noted, _Requests.at_once, _Requests.signalled = False, None, False, (0, 0.0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)


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
        with _as_noted():
            yield
    finally:
        _Requests.in_order = outer


@contextmanager
def _as_noted() -> Iterator[None]:
    """Raises what was noted in place of a plain KeyboardInterrupt: where a signal arrives inside a call of Ray's C++
    code, Ray drops what the handler raised and raises KeyboardInterrupt itself."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Stopped) or _Requests.noted is None:
            raise
        raise _Requests.noted from None


def check() -> None:
    """Raises Stopped if a request was noted."""
    if _Requests.noted is not None:
        _Requests.at_once = False
        raise _Requests.noted


def request(stop: Stopped) -> None:
    """Asks the command to end, as a signal does; for other threads than the main one. What comes first counts."""
    if not _Requests.in_order:
        interrupt(stop)
    elif _Requests.noted is None:
        _Requests.noted = stop


def interrupt(stop: Stopped) -> None:
    """Ends the command at once, from another thread: raised in the main thread wherever it is, if signals are handled,
    and else by the next `check`."""
    _Requests.noted = stop
    if _Requests.handling:
        _Requests.at_once = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _handle(number: int, frame: object) -> None:
    if _Requests.at_once:
        check()
    now = time.monotonic()
    last, when = _Requests.signalled
    if last == number and now - when < SAME_REQUEST_S:
        return
    _Requests.signalled = number, now
    again = _Requests.noted is not None
    _Requests.noted = Stopped.by_signal(number)
    if again or not _Requests.in_order:
        raise _Requests.noted
    name = SIGNALS[signal.Signals(number)]
    print(f"{name}: the run is saved and ends; once more ends it at once", file=sys.stderr, flush=True)
