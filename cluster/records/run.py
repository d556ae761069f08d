"""An open run: its directory, its checkpoints, and where its metrics go. Every training uses this module.

    with open_run(settings, config, fingerprint, num_steps) as run:
        run.record(step, {"loss": 0.5})
        run.checkpoint(step, learner.state())

The same numbers go to `metrics.jsonl`, to the tracker (TensorBoard or Weights & Biases), to the progress display and to
the cluster's metrics endpoint, under the same names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cluster.records import commits
from cluster.records.curves import draw_curves
from cluster.records.measured import read_records
from cluster.records.opening import METRICS
from cluster.records.run_directory import Export, RunDirectory
from cluster.records.telemetry import PHASES, SHOWN, Telemetry
from cluster.records.trackers import make_tracker
from cluster.runtime.ray_job import in_ray_job
from cluster.runtime.stopping import Stopped
from cluster.settings import ConnectionSettings, RunSettings
from motions.settings import Settings

CURVES_FILE = "training_curves_latest.png"


class Run:
    """An open run. `open_run` makes one.

    Args:
        directory: the opened run directory.
        telemetry: progress display, tracker and metrics endpoint.
        settings: intervals, and the metric by which the best checkpoint is chosen.
    """

    def __init__(self, directory: RunDirectory, telemetry: Telemetry, settings: RunSettings) -> None:
        self.directory = directory
        self.telemetry = telemetry
        self.settings = settings
        self._measured: set[str] = set()
        self._checkpoints = 0
        self._best_at: tuple[int, float] | None = None
        """Step and value of the last measurement of `best_metric`."""

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    def record(self, step: int, metrics: Mapping[str, float], **others: Any) -> None:
        """Writes a line about a step to `metrics.jsonl`, and sends the metrics to tracker and metrics endpoint.

        Args:
            others: values that are written to the file only.
        """
        self.directory.append_metrics({"step": step, **others, **metrics})
        self._tell(step, metrics)

    def record_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes a line to `evaluations.jsonl`. Tracker and metrics endpoint get the figures as `evaluation/NAME`."""
        self.directory.append_evaluation({"step": step, **figures})
        self._tell(step, {f"evaluation/{name}": value for name, value in figures.items()})

    def checkpoint(
        self,
        step: int,
        state: Mapping[str, Any],
        export: Export | None = None,
        policy_version: int | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Commits a checkpoint. It is kept as the best one too if `best_metric` has its best value at this step.

        Args:
            export: writes the files that belong beside the learner's state.
            policy_version: number of the weights; by default the step.
            figures: of what is exported, where those that were recorded last are of something else.

        Raises:
            CheckpointWriteError: it cannot be written; the last commit is intact.
        """
        if figures is not None:
            self._notice(step, figures)
        value = self._best_at[1] if self._best_at is not None and self._best_at[0] == step else None
        self.directory.save_checkpoint(step, step if policy_version is None else policy_version, state, export, value)
        self._checkpoints += 1
        if self._checkpoints == 1 and self.settings.best_metric not in self._measured:
            self.say_if_there_is_no_best()
        commits.tell(self.path, step)

    def draw(self, names: Sequence[str], axis: str = "step") -> None:
        """Draws metrics over `axis`, which is a metric too, into `training_curves_latest.png`."""
        records = read_records(self.path / METRICS)
        curves = {name: [(record[axis], record[name]) for record in records if name in record] for name in names}
        draw_curves(self.path / CURVES_FILE, curves)

    def say_that_nothing_is_left(self, step: int) -> None:
        """Prints that a resumed run made all steps before that its options ask for, or more."""
        self.telemetry.message(f"step {step} is finished already: the options ask for no further step")

    def say_if_there_is_no_best(self) -> None:
        """Prints which metrics were measured if no checkpoint could be kept as the best one."""
        metric, manifest = self.settings.best_metric, self.directory.manifest
        if metric is not None and manifest is not None and manifest.best is None:
            self.telemetry.message(
                f"no best checkpoint: best_metric {metric} was not measured at the step of a checkpoint; measured: "
                f"{', '.join(sorted(self._measured))}"
            )

    def _tell(self, step: int, metrics: Mapping[str, float]) -> None:
        self.telemetry.log(metrics, step)
        self._notice(step, metrics)

    def _notice(self, step: int, metrics: Mapping[str, float]) -> None:
        self._measured.update(metrics)
        metric = self.settings.best_metric
        if metric is not None and metric in metrics:
            self._best_at = step, float(metrics[metric])


@contextmanager
def open_run(
    settings: RunSettings,
    config: Settings,
    data_fingerprint: str,
    num_steps: int,
    *,
    shown: Sequence[str] = SHOWN,
    trace: bool = False,
) -> Iterator[Run]:
    """Opens a run in its directory: a new one, or one as its last commit left it.

    No other process can open the directory meanwhile.

    Args:
        settings: directory, intervals and tracker.
        config: every option of the job, for `config.yaml` and the tracker.
        data_fingerprint: hash of the data; a run with another one is not resumed.
        num_steps: number of steps of the run, from which the remaining time is estimated; an estimate where the length
            is given in other units.
        shown: metrics that the progress display shows.
        trace: whether to write `trace.json`.

    Raises:
        RunDirectoryError: the directory cannot be used as asked.
        UserError: a tracker cannot start.
        Stopped: the block was stopped; it says which step is saved.
    """
    with ExitStack() as stack:
        gauges = None
        if _connected():
            from cluster.records.gauges import Gauges

            gauges = Gauges(settings.save_dir.name, PHASES)
        directory = RunDirectory.open(settings, config, data_fingerprint)
        stack.callback(directory.close)
        tracker = make_tracker(settings, config.flat(), directory.path, directory.step)
        trace_file = directory.path / "trace.json" if trace else None
        telemetry = Telemetry(
            num_steps, directory.step, settings.log_interval, tracker, gauges, trace_file, shown=shown
        )
        stack.callback(telemetry.close)
        try:
            yield Run(directory, telemetry, settings)
        except Stopped as stopped:
            stopped.saved = f"step {directory.step} is saved" if directory.manifest else "no checkpoint was made yet"
            raise


@contextmanager
def cluster_of(settings: ConnectionSettings, needed_cpus: float = 0.0) -> Iterator[None]:
    """Connects to the cluster that the settings name, for the duration of the block; does nothing if the runtime is
    local. See `cluster.runtime.connect.connect`, which this imports only then: Ray takes half a second."""
    if settings.runtime == "local":
        yield
        return
    from cluster.runtime.connect import connect

    with connect(settings, needed_cpus):
        yield


def joined_cluster() -> AbstractContextManager[None]:
    """Connects to the cluster in a submitted Ray job, so that the metrics of trainings without actors can be scraped;
    does nothing elsewhere."""
    return cluster_of(ConnectionSettings(runtime="ray" if in_ray_job() else "local"))


def _connected() -> bool:
    """Whether this process is connected to a Ray cluster. A run without Ray does not import it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
