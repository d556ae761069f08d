"""The object of a role with the process settings it needs; no Ray in here.

Choices: numeric threads and deterministic kernels are set around every call and put back, because the same class serves
as an actor (its own process) and inside the caller's process (`LocalRuntime`). PyTorch is configured only once somebody
imported it: an actor without torch starts four times faster.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.runtime.protocol import CallStats, Factory, Shape, unflatten

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""Deterministic matrix products on CUDA need a fixed workspace."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """Where an object lives."""

    pid: int
    error_log: str | None
    """File that gets its stderr, on that machine; None where the system does not tell."""


class ActorHost:
    """Builds one object by its factory and calls its methods."""

    def __init__(self, name: str, factory: Factory, threads: int, deterministic: bool) -> None:
        self._name = name
        self._factory = factory
        self._threads = threads
        self._deterministic = deterministic
        self._thread_id = threading.get_ident()
        self._object: object = None

    def build(self) -> ProcessInfo:
        """Build the object. Not part of the constructor, so that Ray hands over what the factory raised as it is.

        Raises:
            Whatever the factory raises.
        """
        self._thread_id = threading.get_ident()
        with self._numerics():
            self._object = self._factory()
        stderr = Path("/proc/self/fd/2")
        return ProcessInfo(os.getpid(), os.path.realpath(stderr) if stderr.exists() else None)

    def call(self, method: str, label: str, num_outputs: int, shape: Shape, *parts: Any) -> tuple[Any, ...]:
        """The method's outputs, then `CallStats`.

        Raises:
            TypeError: the method does not return a tuple of `num_outputs`.
            Whatever the method raises.
        """
        self._thread_id = threading.get_ident()
        started = time.time()
        with self._numerics():
            result = getattr(self._object, method)(*unflatten(shape, parts))
        stats = CallStats(self._name, label, started, time.time(), os.getpid())
        if num_outputs == 1:
            return result, stats
        if not isinstance(result, tuple) or len(result) != num_outputs:
            raise TypeError(f"{type(self._object).__name__}.{method} must return a tuple of {num_outputs} values")
        return *result, stats

    def stack(self) -> str:
        """What the thread of the current call is doing; answered from another thread."""
        frame = sys._current_frames().get(self._thread_id)
        frames = traceback.extract_stack(frame) if frame else []
        # Only what the object itself does: above it are Ray and this file.
        ours = [i for i, entry in enumerate(frames) if entry.filename == __file__ and entry.name in ("build", "call")]
        return "".join(traceback.format_list(frames[ours[-1] + 1 :])) if ours else "  between two calls\n"

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        with thread_count(self._threads), deterministic_kernels(self._deterministic):
            yield


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """PyTorch's threads inside the block."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """PyTorch's deterministic kernels inside the block; an operation without one raises RuntimeError.

    Warning instead is no choice: attention then keeps gradients that differ from run to run on a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not wanted:
        yield
        return
    os.environ.setdefault(*_CUBLAS_WORKSPACE)
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    # Not `use_deterministic_algorithms`: that imports the compiler, a second of work in every actor.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def environment(threads: int) -> dict[str, str]:
    """Environment variables of an actor's process, read by the numeric libraries when they are loaded."""
    count = str(threads)
    names: Sequence[str] = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict([*((name, count) for name in names), _CUBLAS_WORKSPACE, ("TOKENIZERS_PARALLELISM", "false")])
