"""Reports the progress of a run: a progress bar or lines of text, trackers, the cluster's metrics endpoint, a trace.

Nothing here affects the run, and `metrics.jsonl` is not written here but by the run directory, because a resumed run
depends on it. Text goes to stderr (stdout is for results), as a bar on a terminal and otherwise as one line every
`log_interval` steps.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from cluster.records.trackers import Tracker
from cluster.runtime.protocol import CallStats
from motions.base.atomic import atomic_write

if TYPE_CHECKING:
    from cluster.records.gauges import Gauges

PHASES = ("start", "rollout", "update", "evaluation", "checkpoint")
SHOWN = ("reward/total", "evaluation/total", "policy/kl_reference", "seconds/step")
"""Metrics on the bar and in the lines, where a job names no others."""


class Telemetry:
    """Sends progress and metrics of a run to terminal, tracker, gauges and trace.

    Args:
        num_steps: steps of the run; an estimate where it counts something else.
        step: steps that are done already.
        log_interval: steps between lines of text.
        shown: metrics on the bar and in the lines.
        tracker: TensorBoard or Weights & Biases.
        gauges: the cluster's metrics endpoint, if there is a cluster.
        trace: file for the Chrome trace, if one is wanted.
        stream: where text goes; stderr.
    """

    def __init__(
        self,
        num_steps: int,
        step: int = 0,
        log_interval: int = 1,
        tracker: Tracker | None = None,
        gauges: Gauges | None = None,
        trace: Path | None = None,
        stream: TextIO | None = None,
        shown: Sequence[str] = SHOWN,
    ) -> None:
        self.seconds: dict[str, float] = {}
        """Wall-clock duration of each phase's last run."""
        self._num_steps = max(num_steps, step)
        self._log_interval = log_interval
        self._tracker = tracker
        self._gauges = gauges
        self._trace = trace
        self._events: list[dict[str, Any]] = []
        self._stream = stream or sys.stderr
        self._names = tuple(shown)
        self._shown: dict[str, float] = {}
        self._started: float | None = None
        self._first_step = step
        self._bar = (
            _Bar(total=self._num_steps, initial=step, unit="step", file=self._stream, **_bar_size(self._stream))
            if self._stream.isatty()
            else None
        )

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures a phase, and shows it at the metrics endpoint while it lasts."""
        assert name in PHASES, name
        if self._gauges is not None:
            self._gauges.set_phase(name)
        started = time.monotonic()
        if name in ("rollout", "update") and self._started is None:
            self._started = started
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started
            if self._gauges is not None:
                self._gauges.set_phase(None)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics of a step, or of an evaluation after it."""
        if self._tracker is not None:
            self._tracker.log(metrics, step)
        if self._gauges is not None:
            self._gauges.log(metrics, step)
        self._shown |= {name: metrics[name] for name in self._names if name in metrics}

    def show(self, metrics: Mapping[str, float]) -> None:
        """Shows numbers that belong to no step at the metrics endpoint, and nowhere else."""
        if self._gauges is not None:
            self._gauges.show(metrics)

    def finished_step(self, step: int, num_steps: int | None = None) -> None:
        """Advances the bar, or writes a line. `num_steps` is a better estimate of how many there will be."""
        self._num_steps = max(step, self._num_steps if num_steps is None else num_steps)
        if self._bar is not None:
            self._bar.total = self._num_steps
            # The bar decides when it is drawn again; a training can make hundreds of steps a second.
            values = {name.replace("/", " "): f"{value:.4g}" for name, value in self._shown.items()}
            self._bar.set_postfix(values, refresh=False)
            self._bar.update(step - self._bar.n)
        elif step % self._log_interval == 0 or step == self._num_steps:
            values = "  ".join(f"{name} {value:.4g}" for name, value in self._shown.items())
            self._stream.write(f"step {step}/{self._num_steps}  {values}  {_duration(self._seconds_left(step))} left\n")
            self._stream.flush()

    def _seconds_left(self, step: int) -> float:
        """By the pace since the first rollout or update; the start of the actors is not part of a step."""
        now = time.monotonic()
        pace = (now - (now if self._started is None else self._started)) / max(step - self._first_step, 1)
        return pace * (self._num_steps - step)

    def rewound(self, step: int) -> None:
        """Resets the bar when the run continues from an earlier step."""
        if self._bar is not None:
            self._bar.n = step
            self._bar.refresh()

    def finished_last_step(self) -> None:
        """Leave the bar as it stands; what follows are other things."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def message(self, text: str) -> None:
        """Prints a line for the user."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def spans(self, spans: Sequence[CallStats]) -> None:
        """Adds calls to the trace and to the metrics endpoint's histograms."""
        if self._gauges is not None:
            self._gauges.observe(spans)
        if self._trace is not None:
            self._events += [trace_event(span) for span in spans]

    def close(self) -> None:
        """Writes what is buffered, and closes the tracker."""
        self.finished_last_step()
        if self._tracker is not None:
            self._tracker.close()
        if self._trace is not None:
            with atomic_write(self._trace) as file:
                file.write(json.dumps({"traceEvents": self._events}).encode())


class _Bar(tqdm):
    """A progress bar by a clock that is never set, unlike tqdm's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._time = time.monotonic
        self.start_t = self.last_print_t = self._time()


def _bar_size(stream: TextIO) -> dict[str, Any]:
    """The terminal's width at any time; a fixed one where a terminal does not tell (tqdm would draw nothing)."""
    try:
        told = all(os.get_terminal_size(stream.fileno()))
    except OSError:
        told = False
    return {"dynamic_ncols": True} if told else {"ncols": 100, "nrows": 24}


def trace_event(span: CallStats) -> dict[str, Any]:
    """A complete event in Chrome's trace format: microseconds, one row per actor."""
    return {
        "name": span.label,
        "ph": "X",
        "ts": span.started * 1e6,
        "dur": span.seconds * 1e6,
        "pid": "kinetune",
        "tid": span.actor,
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
