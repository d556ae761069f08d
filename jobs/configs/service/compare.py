"""Configuration of `jobs.compare`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from motions.settings import Settings


class CompareConfig(Settings):
    """Runs that are shown side by side."""

    positional: ClassVar[str] = "runs"

    runs: tuple[Path, ...] = Field(min_length=1)
    """Run directories, and results of `jobs.evaluate` (their .json files, or folders that hold one); the words that
    stand before all options. `NAME=PATH` gives one a name of its own."""

    save_dir: Path = Path("outputs/compare")
    """Folder of `compare.html`, `compare.md` and `compare.json`. Nothing is overwritten."""

    metrics: tuple[str, ...] = ()
    """Metrics of `metrics.jsonl` that are drawn, such as `evaluation/total`; by default rewards, held-out figures, KL
    and the gradient's norm."""
