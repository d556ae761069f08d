"""Publishes metrics of a running job at the Prometheus endpoint of every Ray node.

Ray accepts only letters, digits and underscores, so `reward/tmr` becomes `kinetune_reward{name="tmr"}` (Ray adds the
prefix `ray_`): the part before the slash is the metric, the rest a tag, so that one query plots all rewards. The
current phase of the run is a one-hot gauge over all phases, initially 0, so that idle hardware can be related to a
phase.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ray.util.metrics import Gauge

PREFIX = "kinetune_"
PHASE = f"{PREFIX}phase"
STEP = f"{PREFIX}step"


class Gauges:
    """The Prometheus series of one run; requires a connected driver.

    Args:
        run: value of the `run` tag of every series.
        phases: names of all phases.
    """

    def __init__(self, run: str, phases: Sequence[str]) -> None:
        self._run = run
        self._phases = tuple(phases)
        self._gauges: dict[str, Gauge] = {}
        self._phase = self._gauge(PHASE, "1 for what the run does now, 0 for the rest")
        self._step = Gauge(STEP, "finished updates", ("run",))
        self.set_phase(None)
        self._step.set(0, {"run": run})

    def set_phase(self, phase: str | None) -> None:
        """Sets the gauge of a phase to 1 and the others to 0; None means no phase."""
        assert phase is None or phase in self._phases, phase
        for name in self._phases:
            self._phase.set(float(name == phase), {"run": self._run, "name": name})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Sets the gauges of the given metrics."""
        self._step.set(step, {"run": self._run})
        for key, value in metrics.items():
            metric, tag = split_name(key)
            if metric not in self._gauges:
                self._gauges[metric] = self._gauge(metric, f"metrics {key.partition('/')[0]}/* of the run")
            self._gauges[metric].set(float(value), {"run": self._run, "name": tag})

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, ("run", "name"))


def split_name(key: str) -> tuple[str, str]:
    """`seconds/rollout` -> (`kinetune_seconds`, `rollout`); a key without a slash is its own tag."""
    group, _, name = key.partition("/")
    return PREFIX + re.sub(r"[^a-zA-Z0-9_]", "_", group), name or group
