"""Connects to a Ray cluster, or starts one, and shuts down what it started.

Cases:
1. The process is connected already (a notebook, a test, a Tune trial): it is left as it is.
2. Inside a submitted job: plain `ray.init()`. The job has brought its address and code; Ray would reject resources or a
second runtime environment.
3. With an address: the working directory is uploaded (without what .rayignore and .gitignore name), and kinetune's
packages with it, because the other machines do not have them. The size is checked first.
4. Otherwise a new cluster is started on this machine, with Ray's token authentication and with as many logical CPUs as
the plan needs, even if there are fewer cores, so that a small machine works through the calls in turn.

Workers find kinetune's packages and the user's own modules in the uploaded directory; on a new local cluster they get
the driver's module path.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.runtime import liveness, stopping
from cluster.runtime.pool import describe, raised_by
from cluster.runtime.protocol import CallFailed
from cluster.runtime.ray_job import in_ray_job
from cluster.settings import AddressSettings
from motions.base.errors import UserError

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
MAX_UPLOAD_MB = 200
ANSWER_TIMEOUT_S = 10.0


class ConnectionFailed(UserError):  # noqa: N818 - names what happened
    """There is no cluster at the address, or the code cannot be uploaded to it."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Information about a connected driver."""

    started: bool
    """Whether the cluster was started here and ends with the connection."""
    resources: dict[str, float]
    """`ray.cluster_resources()` at the start."""
    metrics_urls: tuple[str, ...]
    """Prometheus endpoints of the nodes that are up."""


@contextmanager
def connect(settings: AddressSettings, needed_cpus: float = 0.0) -> Iterator[Connection]:
    """Connects for the duration of the block.

    Args:
        settings: address of the cluster, or options for a new one.
        needed_cpus: least number of logical CPUs for a new cluster.

    Raises:
        ConnectionFailed: no cluster answers, or the upload is too large.
        CallFailed: an error of Ray inside the block: a process that a library started (RLlib's) raised or died.
    """
    try:
        with _connected(settings, needed_cpus) as connection:
            yield connection
    except RayTaskError as error:
        cause = raised_by(error)
        raise CallFailed(f"{type(cause).__name__}: {cause}", cause) from error
    except RayError as error:
        raise CallFailed(describe(error)) from error


@contextmanager
def _connected(settings: AddressSettings, needed_cpus: float) -> Iterator[Connection]:
    if ray.is_initialized():
        yield _describe(started=False)
        return
    own = settings.ray_address == "local"
    address = os.environ.get("RAY_ADDRESS") if settings.ray_address == "auto" else settings.ray_address
    with stopping.kept():
        if settings.ray_address == "auto" and in_ray_job():
            ray.init(logging_level=logging.WARNING)
        elif own or address is None:
            own = True
            _start(settings, needed_cpus)
        else:
            attach(address)
    try:
        connection = _describe(started=own)
        logger.info("connected to Ray: %s", connection)
        with _watched(connection):
            yield connection
    finally:
        ray.shutdown()


@contextmanager
def _watched(connection: Connection) -> Iterator[None]:
    """Watches the cluster inside the block: see cluster/runtime/liveness.py."""
    own = ray.get_runtime_context().get_node_id()
    [node] = [node for node in ray.nodes() if node["NodeID"] == own]
    raylet = liveness.Place(node["NodeManagerAddress"], node["NodeManagerPort"])
    gcs = liveness.Place.parse(ray.get_runtime_context().gcs_address)
    # Nobody restarts the head of a cluster that was started here.
    with liveness.watched(raylet, gcs, 0.0 if connection.started else liveness.gcs_patience_s()):
        yield


def module_path() -> list[str]:
    """Folders of this driver's module path outside the Python installation; kinetune's is the first."""
    folders = [os.path.abspath(entry) for entry in sys.path]
    installed = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    own = [folder for folder in folders if os.path.isdir(folder) and not folder.startswith(installed)]
    return list(dict.fromkeys([str(ROOT), *own]))


def upload(working_directory: Path) -> dict[str, Any]:
    """The runtime environment that sends a working directory and kinetune's packages to other machines.

    Raises:
        ConnectionFailed: it is larger than `MAX_UPLOAD_MB`.
    """
    size = upload_megabytes(working_directory)
    if size > MAX_UPLOAD_MB:
        raise ConnectionFailed(
            f"the working directory {working_directory} would upload {size:.0f} MB, more than {MAX_UPLOAD_MB}: name "
            "what is not code in .rayignore"
        )
    if working_directory.resolve() == ROOT:
        return {"working_dir": str(ROOT)}
    packages = sorted(str(path.parent) for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
    return {"working_dir": str(working_directory), "py_modules": packages}


def upload_megabytes(folder: Path) -> float:
    """Size of the files of a folder that neither .gitignore nor .rayignore names, in MB."""
    from ray._private.runtime_env.packaging import _dir_travel

    total = 0

    def measure(path: Path) -> None:
        nonlocal total
        total += path.stat().st_size if path.is_file() else 0

    # Uses the file walk of Ray's own upload, so that the size is the one that Ray checks.
    _dir_travel(folder, [], measure, include_gitignore=True, logger=logger)
    return total / 1e6


def protect_token(environ: Mapping[str, str] = os.environ, *, create: bool = False) -> None:
    """Makes the file of Ray's authentication token readable by its owner alone.

    Ray itself makes the file readable by everybody, and whoever has the token can run code on the cluster.

    Args:
        create: make a token, as Ray does for a new cluster, if there is none.
    """
    if environ.get("RAY_AUTH_MODE", "token") != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & environ.keys():
        return
    path = Path.home() / ".ray" / "auth_token"
    # What cannot be done here, such as in a home that is read-only, Ray reports in its own words.
    with suppress(OSError):
        if path.exists():
            path.chmod(0o600)
        elif create:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))


def _start(settings: AddressSettings, needed_cpus: float) -> None:
    protect_token(create=True)
    store = None if settings.object_store_mb is None else settings.object_store_mb * 10**6
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, ceil(needed_cpus)),
        object_store_memory=store,
        include_dashboard=settings.dashboard,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(module_path())}},
        logging_level=logging.WARNING,
    )


def attach(address: str) -> None:
    """Connects to the cluster at an address (`host:port`, or Ray's `auto`) and uploads the code.

    Raises:
        ConnectionFailed: there is no answer, or the code is too large.
    """
    protect_token()
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal():
            # Ray itself would retry for minutes.
            socket.create_connection((host, int(port)), ANSWER_TIMEOUT_S).close()
        ray.init(address=address, runtime_env=upload(Path.cwd()), logging_level=logging.WARNING)
    except (OSError, RuntimeError) as error:
        raise ConnectionFailed(f"no Ray cluster answers at {address!r}: {error}") from error


def _describe(started: bool) -> Connection:
    urls = [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"] and node["MetricsExportPort"] > 0
    ]
    return Connection(started, dict(ray.cluster_resources()), tuple(urls))
