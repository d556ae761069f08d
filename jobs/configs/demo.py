"""The configuration of `jobs.demo`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from motions.settings import Settings


class DemoConfig(Settings):
    """The demonstration of GRPO."""

    save_dir: Path = Path("runs/demo")
    """Folder of the run."""

    weights_dir: Path = Path("runs/weights")
    """Where weights that do not ship with this copy of kinetune are trained."""

    fresh: bool = False
    """Run again into a new folder (`demo-2`, `demo-3`, ...), even if there is a finished run."""

    runtime: Literal["ray", "local"] = "ray"
    """`ray`: a Ray cluster of its own on this machine. `local`: the same in this process."""

    grpo_preset: str = "demo"
    """Preset of `jobs.grpo`, by name or path."""

    num_steps: int | None = Field(default=None, ge=1)
    """Training steps; by default the preset's."""
