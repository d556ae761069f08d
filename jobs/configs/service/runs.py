"""The configurations of `jobs.runs` and `jobs.resume`; they import neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from motions.settings import Settings


class RunsConfig(Settings):
    """A list of the runs in a folder."""

    positional: ClassVar[str] = "folder"

    folder: Path = Path("runs")
    """Folder with runs, at any depth; the word that stands before all options."""

    metrics: tuple[str, ...] = ()
    """Metrics that are shown of each run, by their names in `metrics.jsonl` or as `evaluation/NAME` and `final/NAME`.
    By default first the one by which its best checkpoint is kept, then its held-out ones, then the rest."""

    most_metrics: int = Field(default=3, ge=1)
    """Largest number of metrics that are shown of a run where none are asked for."""

    json_lines: bool = False
    """Print one JSON object a line, with every metric, for other programs."""


class ResumeConfig(Settings):
    """A run that goes on."""

    positional: ClassVar[str] = "run"

    run: Path
    """Run directory; the word that stands before all options."""

    set: tuple[str, ...] = ()
    """Options that are others from now on, as `num_steps=200`. Those that affect results are allowed to change by being
    named here. A class of your own (`package.module:Class`) that the run's `config.yaml` names has to be named here
    again, as in `arch=mine.networks:Small`, because importing it runs code."""
