"""A run that is open: its directory, and everybody who is told. Every training opens and records through this module.

    with open_run(settings, config, fingerprint, num_steps) as run:
        run.record(step, {"loss": 0.5})
        run.checkpoint(step, learner.state())

`metrics.jsonl`, trackers, progress and the cluster's metrics endpoint get the same numbers under the same names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cluster.records.curves import draw_curves
from cluster.records.run_directory import METRICS, Export, RunDirectory
from cluster.records.telemetry import PHASES, SHOWN, Telemetry
from cluster.records.trackers import make_tracker
from cluster.runtime.ray_job import in_ray_job
from cluster.settings import ConnectionSettings, RunSettings
from motions.settings import Settings

CURVES_FILE = "training_curves_latest.png"


class Run:
    """An open run; `open_run` makes it.

    Args:
        directory: the opened run directory.
        telemetry: progress, trackers, gauges.
        settings: intervals, and which metric tells the best checkpoint.
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
        """A line of `metrics.jsonl` about a step, and the same for trackers and gauges; `others` go to the file
        only."""
        self.directory.append_metrics({"step": step, **others, **metrics})
        self._tell(step, metrics)

    def record_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """A line of `evaluations.jsonl`; trackers and gauges get the figures as `evaluation/NAME`."""
        self.directory.append_evaluation({"step": step, **figures})
        self._tell(step, {f"evaluation/{name}": value for name, value in figures.items()})

    def checkpoint(
        self, step: int, state: Mapping[str, Any], export: Export | None = None, policy_version: int | None = None
    ) -> None:
        """Commit a checkpoint; it is the best one too if `best_metric` has its best value at this step.

        Args:
            export: writes what belongs beside the learner's state.
            policy_version: of the weights; the step where they have no number of their own.

        Raises:
            CheckpointWriteError: it cannot be written; the last commit stands.
        """
        value = self._best_at[1] if self._best_at is not None and self._best_at[0] == step else None
        self.directory.save_checkpoint(step, step if policy_version is None else policy_version, state, export, value)
        self._checkpoints += 1
        if self._checkpoints == 1 and self.settings.best_metric not in self._measured:
            self.say_if_there_is_no_best()

    def draw(self, names: Sequence[str], axis: str = "step") -> None:
        """Draw metrics over `axis`, another metric, into `training_curves_latest.png`."""
        lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        curves = {name: [(record[axis], record[name]) for record in records if name in record] for name in names}
        draw_curves(self.path / CURVES_FILE, curves)

    def say_that_nothing_is_left(self, step: int) -> None:
        """A line where a run that is resumed has made all steps before, or more than its options ask for now."""
        self.telemetry.message(f"step {step} is finished already: the options ask for no further step")

    def say_if_there_is_no_best(self) -> None:
        """A line where no checkpoint could be kept as the best, with what could have been asked for."""
        metric, manifest = self.settings.best_metric, self.directory.manifest
        if metric is not None and manifest is not None and manifest.best is None:
            self.telemetry.message(
                f"no best checkpoint: best_metric {metric} was not measured at the step of a checkpoint; measured: "
                f"{', '.join(sorted(self._measured))}"
            )

    def _tell(self, step: int, metrics: Mapping[str, float]) -> None:
        self.telemetry.log(metrics, step)
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
    """The run of a directory, new or as its last commit left it; nobody else can write there meanwhile.

    Args:
        settings: where, intervals, trackers.
        config: every option of the job, for `config.yaml` and the trackers.
        data_fingerprint: names the data; a run on other data is not resumed.
        num_steps: steps of the run, for the time that is left; an estimate where it counts something else.
        shown: metrics on the progress bar.
        trace: write `trace.json`.

    Raises:
        RunDirectoryError: the directory cannot be used as asked.
        UserError: a tracker cannot start.
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
        yield Run(directory, telemetry, settings)


@contextmanager
def joined_cluster() -> Iterator[None]:
    """For trainings that use no actors: a submitted Ray job joins its cluster, so that its metrics can be scraped."""
    if not in_ray_job():
        yield
        return
    from cluster.runtime.connect import connect

    with connect(ConnectionSettings()):
        yield


def _connected() -> bool:
    """Whether this process is connected to a Ray cluster; a run without Ray does not import it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
