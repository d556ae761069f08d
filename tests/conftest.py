"""Fixtures from outside the repository; one thread per process: two oversubscribed pools run ten times slower.

Where pytest-xdist distributes tests, those that share the fixture `ray_cluster` go to one process, and those that start
clusters of their own to another.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from jobs.command_line.guard import Guard
from tests.toys.tiny_models import clip_folder as clip_folder
from tests.toys.tiny_models import distilbert_folder as distilbert_folder
from tests.toys.tiny_models import tiny_models as tiny_models

if TYPE_CHECKING:
    from cluster.runtime.connect import Connection

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
LOGICAL_CPUS = 8
OWN_CLUSTERS = ("test_submit.py", "test_ray_cluster.py", "test_trpo_benchmark.py", "test_kills.py")
"""Their tests run commands that start a Ray cluster."""

# Read by Ray's processes when they start, those of tests' own clusters too.
os.environ |= {
    # By default metrics appear after ten seconds,
    "RAY_metrics_report_interval_ms": "1000",
    # workers are nice to whatever else the machine does, which makes tests wait for it,
    "RAY_worker_niceness": "0",
    # a cluster starts a worker for each of its CPUs, whether or not it will be used.
    "RAY_prestart_worker_first_driver": "0",
    # and kills workers where others have taken the machine's memory.
    "RAY_memory_monitor_refresh_ms": "0",
}


# What is imported and collected stays until the end: a search for garbage in it finds none, and is as long as all else.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What takes longest first: begun last, it would keep one process busy long after the other.
    order = ("ray_cluster", "types", "own clusters", "")

    def group(item: pytest.Item) -> str:
        if item.get_closest_marker("ray"):
            return "own clusters" if item.path.name in OWN_CLUSTERS else "ray_cluster"
        return "types" if item.name == "test_types" else ""

    for item in items:
        if group(item):
            item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: order.index(group(item)))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files are written; whether a disk has them shows when the power fails, and in no test."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands that a test calls in its own process stay in it: a fork of pytest would go on with all other tests."""
    with open(os.devnull, "wb") as nobody:
        monkeypatch.setattr(Guard, "fork", lambda: Guard(child=0, pipe=nobody.fileno()))
        yield


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of the numeric parity fixtures; `KINETUNE_PARITY` names another one."""
    folder = Path(os.environ.get("KINETUNE_PARITY", ROOT.parent / "shared" / "parity"))
    if not folder.is_dir():
        pytest.skip(f"no parity fixtures in {folder} (set KINETUNE_PARITY)")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Connection]:
    """A connected local cluster with 8 logical CPUs; ended with the session."""
    from cluster.runtime.connect import connect
    from cluster.settings import ClusterSettings

    settings = ClusterSettings(ray_address="local", object_store_mb=200, dashboard=False)
    with connect(settings, LOGICAL_CPUS) as connection:
        yield connection


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return path


@contextmanager
def limited(num_bytes: int) -> Iterator[None]:
    """Make writes past `num_bytes` fail in the kernel (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """`with file_size_limit(1000):` is a disk that fills up while a file is written."""
    return limited
