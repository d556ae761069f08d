"""Runs a command that uses Ray in a child process, so that an end of the child without a word is explained.

Ray's C++ code ends the process of a driver by `_exit(1)`, without an exception, if the object store is asked for
anything after the raylet died; the kernel may kill it for its memory. The parent, which has loaded neither PyTorch nor
Ray, waits for the child, passes signals on to it, and then says what happened.

A driver that is killed leaves the processes of its cluster without a parent. Most end at once; the agents of a node
first try for a minute to tell the head, which is gone as well. The parent adopts them, and ends them.

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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl."""
_ADOPT_ORPHANS = 36
"""`PR_SET_CHILD_SUBREAPER`."""
_RAYS = ("ray::", "/ray/core/", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/")
"""One of these is in the command of every process that Ray starts."""
_ORPHANS_S = 5.0
"""How long processes may take to lose their parents, one after the other."""
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
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1)
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
        status, has_spoken = os.waitstatus_to_exitcode(how), self._has_spoken()
        os.close(self.pipe)
        if not has_spoken or status < 0:
            _end_orphans()
            raise Silenced(status)
        return status

    def _has_spoken(self) -> bool:
        # A process that the child forked may live on and hold the other end, so reading could wait for good.
        os.set_blocking(self.pipe, False)
        try:
            return os.read(self.pipe, 1) != b""
        except BlockingIOError:
            return False


def _end_orphans() -> None:
    """Kills the processes of Ray that this process has adopted, until there are no more."""
    deadline, quiet = time.monotonic() + _ORPHANS_S, 0
    while quiet < 3 and time.monotonic() < deadline:
        orphans = list(_children_of_ray())
        quiet = 0 if orphans else quiet + 1
        for orphan in orphans:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.1)


def _children_of_ray() -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if int(parent) == os.getpid() and any(part in command for part in _RAYS):
                yield int(folder.name)


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
