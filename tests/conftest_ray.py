"""One local Ray cluster for all tests of a session that need one; starting one takes longer than most tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cluster.connect import Connection

LOGICAL_CPUS = 8
METRICS_INTERVAL = "RAY_metrics_report_interval_ms"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Connection]:
    """A connected local cluster with 8 logical CPUs; ended with the session."""
    from cluster.connect import connect
    from cluster.settings import ClusterSettings

    before = os.environ.get(METRICS_INTERVAL)
    # Read by Ray's processes when they start; by default metrics appear after ten seconds.
    os.environ[METRICS_INTERVAL] = "1000"
    settings = ClusterSettings(ray_address="local", object_store_mb=200, dashboard=False)
    with connect(settings, LOGICAL_CPUS) as connection:
        yield connection
    if before is None:
        del os.environ[METRICS_INTERVAL]
    else:
        os.environ[METRICS_INTERVAL] = before
