"""One local Ray cluster for all tests of a session that need one; starting one takes longer than most tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cluster.runtime.connect import Connection

LOGICAL_CPUS = 8

# Read by Ray's processes when they start, those of tests' own clusters too.
os.environ |= {
    # By default metrics appear after ten seconds,
    "RAY_metrics_report_interval_ms": "1000",
    # workers are nice to whatever else the machine does, which makes tests wait for it,
    "RAY_worker_niceness": "0",
    # and a cluster starts a worker for each of its CPUs, whether or not it will be used.
    "RAY_prestart_worker_first_driver": "0",
}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Connection]:
    """A connected local cluster with 8 logical CPUs; ended with the session."""
    from cluster.runtime.connect import connect
    from cluster.settings import ClusterSettings

    settings = ClusterSettings(ray_address="local", object_store_mb=200, dashboard=False)
    with connect(settings, LOGICAL_CPUS) as connection:
        yield connection
