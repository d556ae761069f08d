"""Fixtures from outside the repository; one thread per process: two oversubscribed pools run ten times slower.

Where pytest-xdist distributes tests, all that start Ray clusters go to one process, so that one cluster runs at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.toys.ray_cluster import ray_cluster as ray_cluster
from tests.toys.tiny_models import tiny_models as tiny_models

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))
    # The longest one first: begun last, it would keep one process busy long after the other.
    items.sort(key=lambda item: item.name != "test_types")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of the numeric parity fixtures; `KINETUNE_PARITY` names another one."""
    folder = Path(os.environ.get("KINETUNE_PARITY", ROOT.parent / "shared" / "parity"))
    if not folder.is_dir():
        pytest.skip(f"no parity fixtures in {folder} (set KINETUNE_PARITY)")
    return folder
