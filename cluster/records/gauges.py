"""Publishes metrics of a running job at the Prometheus endpoint of every Ray node.

Ray accepts only letters, digits and underscores, so `reward/tmr` becomes `kinetune_reward{name="tmr"}` (Ray adds the
prefix `ray_`): the part before the slash is the metric, the rest a tag, so that one query plots all rewards. The
current phase of the run is a one-hot gauge over all phases, initially 0, so that idle hardware can be related to a
phase. Counts and times begin at 0, so that a query has their series before the first step has ended; rewards, KL and
ratios do not, where a 0 would look like a measurement. The durations of calls by role, and of steps, are histograms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ray.util.metrics import Gauge, Histogram

from cluster.runtime.protocol import CallStats

PREFIX = "kinetune_"
PHASE = f"{PREFIX}phase"
STEP = f"{PREFIX}step"
CALL_SECONDS = f"{PREFIX}call_seconds"
STEP_SECONDS = f"{PREFIX}step_seconds"
SECONDS = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
"""Boundaries of the histograms' buckets."""


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
        self._calls = Histogram(CALL_SECONDS, "duration of the calls of each role", SECONDS, ("run", "name"))
        self._steps = Histogram(STEP_SECONDS, "duration of steps", SECONDS, ("run",))
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
        if "seconds/step" in metrics:
            self._steps.observe(metrics["seconds/step"], {"run": self._run})
        self.show(metrics)

    def observe(self, spans: Sequence[CallStats]) -> None:
        """Counts finished calls in the histogram of their role."""
        for span in spans:
            # Actors of a pool are numbered, rollout-0; the one object of a role in this process is not.
            role = re.sub(r"-[0-9.]+$", "", span.actor)
            self._calls.observe(span.seconds, {"run": self._run, "name": role})

    def show(self, metrics: Mapping[str, float]) -> None:
        """Sets gauges that belong to no step."""
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
