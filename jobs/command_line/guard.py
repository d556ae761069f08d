"""Runs a command that uses Ray in a child process, so that an end of the child without a word is explained.

Ray's C++ code ends the process of a driver by `_exit(1)`, without an exception, if the object store is asked for
anything after the raylet died; the kernel may kill it for its memory. The parent, which has loaded neither PyTorch nor
Ray, waits for the child, passes signals on to it, and then says what happened.

    guard = Guard.fork()
    if guard.is_parent:
        return guard.wait()                 # raises Silenced if the child ended without a word
    try: ...                                # the command
    finally: guard.speaks()
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_SET_PARENT_DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl."""
PASSED_ON = (signal.SIGTERM, signal.SIGINT)


class Silenced(Exception):  # noqa: N818 - names what happened
    """The child ended without a word: `status` is its exit status, negative for a signal that killed it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Guard:
    """One end of the pair of processes."""

    child: int
    """Process id of the child; 0 in the child."""
    pipe: int
    """Descriptor of the child's last word: to be read by the parent, written by the child."""

    @property
    def is_parent(self) -> bool:
        """Whether this process is the one that waits."""
        return self.child != 0

    @classmethod
    def fork(cls) -> Guard:
        """Makes the child, which is killed if the parent is. Only for a process with a single thread."""
        sys.stdout.flush()
        sys.stderr.flush()
        reading, writing = os.pipe()
        parent = os.getpid()
        child = os.fork()
        os.close(writing if child else reading)
        if not child:
            _die_with(parent)
        return cls(child, reading if child else writing)

    def speaks(self) -> None:
        """Tells the parent that the child ends by itself, and has said why."""
        os.write(self.pipe, b".")

    def wait(self) -> int:
        """Waits for the child and returns its exit status.

        Raises:
            Silenced: it was killed, or ended without `speaks`.
        """
        with _passed_on(self.child):
            _, how = os.waitpid(self.child, 0)
        status, spoken = os.waitstatus_to_exitcode(how), os.read(self.pipe, 1)
        os.close(self.pipe)
        if not spoken or status < 0:
            raise Silenced(status)
        return status


@contextmanager
def _passed_on(child: int) -> Iterator[None]:
    def pass_on(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
