"""Watches the Ray cluster of this process: its own node (the raylet) and the head (the GCS).

Ray's driver does not notice when one of them is gone: its calls wait until a time limit, or its C++ code ends the
process without a word as soon as the object store is needed (raylet) or after a minute (GCS). The watch asks both ports
for a connection every second and ends the command by `stopping.ClusterLost`:

    the raylet refuses     the objects of this node are lost, and so are its actors: the command ends at once
    the GCS refuses        actors live on, and calls between them go on: the run saves itself and ends. A cluster of
                           somebody else's may restart it, so it is given half of the time after which Ray gives up
                           (`RAY_gcs_rpc_server_reconnect_timeout_s`, by default a minute)

A port that does not answer in time, as those of a stopped process or an overloaded machine, is not one that refuses.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.runtime import stopping

logger = logging.getLogger(__name__)

TICK_S = 1.0
CONNECT_TIMEOUT_S = 5.0
REFUSALS = 2
"""So many refusals in a row count as a death."""
SAVING_S = 15.0
"""Seconds in which a run may save itself after the GCS died, before it is ended at once: Ray gives it a minute."""
GIVES_UP = "RAY_gcs_rpc_server_reconnect_timeout_s"


@dataclass(frozen=True, slots=True)
class Place:
    """A port on which a process of the cluster listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> Place:
        """The place of `host:port`."""
        host, _, port = address.rpartition(":")
        return cls(host.strip("[]"), int(port))

    def refuses(self) -> bool:
        """Whether nobody listens there."""
        try:
            socket.create_connection((self.host, self.port), CONNECT_TIMEOUT_S).close()
        except ConnectionError:
            return True
        except OSError:
            # Too slow, or too many open files here: no sign of a death.
            return False
        return False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


_watches: list[threading.Event] = []
"""Of the watches that run; an event is set once its cluster is lost."""


def lost() -> bool:
    """Whether the cluster of this process is known to be lost: what asks its GCS for anything would wait for good."""
    return any(event.is_set() for event in _watches)


@contextmanager
def watched(raylet: Place, gcs: Place, patience_s: float) -> Iterator[None]:
    """Watches both ports inside the block, and ends the command if one is lost.

    Args:
        patience_s: how long the GCS may be away before the run is asked to end.
    """
    ended, gone = threading.Event(), threading.Event()
    watch = threading.Thread(
        target=_watch, args=(raylet, gcs, patience_s, ended, gone), name="cluster-liveness", daemon=True
    )
    _watches.append(gone)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        _watches.remove(gone)


def gcs_patience_s() -> float:
    """How long the GCS of a cluster that others run may be away."""
    return float(os.environ.get(GIVES_UP, "60")) / 2


def _watch(raylet: Place, gcs: Place, patience_s: float, ended: threading.Event, gone: threading.Event) -> None:
    raylet_refusals, gcs_refusals = 0, 0
    away_since = asked_at = None
    while not ended.wait(TICK_S):
        raylet_refusals = raylet_refusals + 1 if raylet.refuses() else 0
        if raylet_refusals >= REFUSALS:
            gone.set()
            stopping.interrupt(
                stopping.ClusterLost(f"the Ray cluster is lost: the raylet of this node ({raylet}) has ended")
            )
            return
        gcs_refusals = gcs_refusals + 1 if gcs.refuses() else 0
        now = time.monotonic()
        if gcs_refusals < REFUSALS:
            if away_since is not None and gcs_refusals == 0:
                logger.warning("the head of the Ray cluster (GCS, %s) answers again", gcs)
                away_since = asked_at = None
            continue
        reason = f"the Ray cluster is lost: its head (GCS, {gcs}) has ended"
        if away_since is None:
            away_since = now
            if patience_s:
                words = "the head of the Ray cluster (GCS, %s) is away; it has %.0f s to return"
                logger.warning(words, gcs, patience_s)
        if asked_at is None and now - away_since >= patience_s:
            asked_at = now
            gone.set()
            stopping.request(stopping.ClusterLost(reason, can_save=True))
        if asked_at is not None and now - asked_at >= SAVING_S:
            stopping.interrupt(stopping.ClusterLost(reason))
            return
