"""Holds the object of a role in a process with suitable numeric settings; does not use Ray.

Numeric threads and deterministic kernels are set for each call and restored afterwards, because the same class serves
as an actor (in its own process) and inside the caller's process (`LocalRuntime`). PyTorch is configured only once it
has been imported: an actor without torch starts four times faster.
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

from cluster.runtime.protocol import CallStats, Factory, Shape, nest

_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""Environment variable and value: deterministic matrix products on CUDA require a fixed workspace."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """Description of the process that holds an object."""

    pid: int
    error_log: str | None
    """File that receives the process's stderr, on that machine; None if unknown."""


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
        """Builds the object. Not part of the constructor, so that Ray passes on the factory's exception unchanged.

        Raises:
            Exception: any exception of the factory.
        """
        self._thread_id = threading.get_ident()
        with self._numerics():
            self._object = self._factory()
        stderr = Path("/proc/self/fd/2")
        return ProcessInfo(os.getpid(), os.path.realpath(stderr) if stderr.exists() else None)

    def call(self, method: str, label: str, num_outputs: int, shape: Shape, *parts: Any) -> tuple[Any, ...]:
        """Calls a method; returns its outputs, followed by `CallStats`.

        Raises:
            TypeError: the method does not return a tuple of `num_outputs`.
            Exception: any exception of the method.
        """
        self._thread_id = threading.get_ident()
        started, clock = time.time(), time.monotonic()
        with self._numerics():
            result = getattr(self._object, method)(*nest(shape, parts))
        stats = CallStats(self._name, label, started, time.monotonic() - clock, os.getpid())
        if num_outputs == 1:
            return result, stats
        if not isinstance(result, tuple) or len(result) != num_outputs:
            raise TypeError(f"{type(self._object).__name__}.{method} must return a tuple of {num_outputs} values")
        return *result, stats

    def stack(self) -> str:
        """Stack of the thread that runs the current call; called from another thread."""
        frame = sys._current_frames().get(self._thread_id)
        frames = traceback.extract_stack(frame) if frame else []
        # Show only the object's own frames: those above belong to Ray and to this file.
        ours = [i for i, entry in enumerate(frames) if entry.filename == __file__ and entry.name in ("build", "call")]
        return "".join(traceback.format_list(frames[ours[-1] + 1 :])) if ours else "  between two calls\n"

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        with thread_count(self._threads), deterministic_kernels(self._deterministic):
            yield


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Sets the number of PyTorch's threads inside the block."""
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
    """Requires deterministic kernels of PyTorch inside the block; an operation without one raises RuntimeError.

    PyTorch's option to warn instead is not enough: with it attention's gradients still differ from run to run on a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not wanted:
        yield
        return
    os.environ.setdefault(*_CUBLAS_WORKSPACE)
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    # Not `use_deterministic_algorithms`: it imports the compiler, which takes a second in every actor.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def environment(threads: int) -> dict[str, str]:
    """Environment variables for an actor's process, which the numeric libraries read when they are loaded."""
    count = str(threads)
    names: Sequence[str] = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict([*((name, count) for name in names), _CUBLAS_WORKSPACE, ("TOKENIZERS_PARALLELISM", "false")])
