"""The configuration of `jobs.view`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from motions.bvh.settings import BvhFileSettings
from motions.files.settings import ExportSettings
from motions.settings import redeclared


class ViewFileSettings(BvhFileSettings):
    """What files mean that do not say it clearly; all but the frame rate is about BVH."""

    fps: float | None = redeclared(BvhFileSettings, "fps")
    """Frames per second of the files, instead of what they say or what is usual for their kind."""


class ViewConfig(ExportSettings):
    """Motions that are shown and written to files."""

    positional: ClassVar[str] = "inputs"

    inputs: tuple[Path, ...] = Field(min_length=1)
    """Files and folders of motions; the words that stand before all options."""

    save_dir: Path | None = None
    """Folder of the files, in which none of them may exist. By default a new one, `outputs/view/NAME`, `NAME-2`, ..."""

    max_motions: int = Field(default=100, ge=1)
    """Largest number of motions that one folder gives, the first ones by name."""

    open: bool = True
    """Open the page in a browser, where there is a display."""

    files: ViewFileSettings = ViewFileSettings()
