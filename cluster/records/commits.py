"""Tells others in this process when a run has committed a checkpoint.

A search listens to the run that it started, which knows nothing of searches:

    with listening(report):
        run(config)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Commit = Callable[[Path, int], None]
"""Called with the run directory and the committed step, after every metric of that step is written."""

_LISTENERS: list[Commit] = []


@contextmanager
def listening(listener: Commit) -> Iterator[None]:
    """Calls the listener after every commit of any run of this process, for the duration of the block."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def tell(folder: Path, step: int) -> None:
    """Says that a run has committed a step."""
    for listener in tuple(_LISTENERS):
        listener(folder, step)
