"""Sends metrics to TensorBoard or Weights & Biases, which are imported only when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cluster.settings import TrackerSettings
from motions.base.errors import UserError


class Tracker(Protocol):
    """Receives the metrics of every step."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics of a step; steps never decrease, and a step may be logged in parts."""
        ...

    def close(self) -> None:
        """Writes what is buffered, and closes the tracker."""
        ...


def make_tracker(settings: TrackerSettings, config: Mapping[str, Any], folder: Path, step: int) -> Tracker | None:
    """The tracker that `train_platform_type` selects, or None.

    Args:
        config: all options of the run.
        folder: the run directory.
        step: number of finished updates; records beyond them are replaced.

    Raises:
        UserError: Weights & Biases cannot start (not logged in, no network).
    """
    if settings.train_platform_type == "TensorboardPlatform":
        return TensorBoardTracker(folder / "tensorboard", step)
    if settings.train_platform_type == "WandBPlatform":
        return WandBTracker(settings, config, folder)
    return None


class TensorBoardTracker:
    """Writes event files into `tensorboard/`."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hide the events of steps that will be repeated.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics: see `Tracker.log`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends the recording: see `Tracker.close`."""
        self._writer.close()


class WandBTracker:
    """A Weights & Biases run. Its id is stored in `wandb_id.txt`, so that a resumed run continues the same page."""

    def __init__(self, settings: TrackerSettings, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        path = folder / "wandb_id.txt"
        known = path.read_text(encoding="utf-8").strip() if path.is_file() else None
        try:
            self._run = wandb.init(
                project=settings.wandb_project,
                name=folder.name,
                id=known,
                resume="allow",
                dir=str(folder),
                config=dict(config),
                mode=settings.wandb_mode,
            )
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases cannot start: {error}. Log in with `wandb login`, or use --wandb_mode offline"
            ) from error
        path.write_text(self._run.id, encoding="utf-8")
        self._run.define_metric("*", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records metrics: see `Tracker.log`."""
        # Its built-in step axis cannot go back when a run is resumed at an earlier step, so another axis is used.
        self._run.log({**metrics, "step": step})

    def close(self) -> None:
        """Ends the recording: see `Tracker.close`."""
        self._run.finish()
