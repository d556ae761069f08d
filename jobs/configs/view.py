"""The configuration of `jobs.view`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from motions.files.settings import ExportSettings


class ViewConfig(ExportSettings):
    """Motions that are shown and written to files."""

    positional: ClassVar[str] = "inputs"

    inputs: tuple[Path, ...] = Field(min_length=1)
    """Files and folders of motions; the words that stand before all options."""

    save_dir: Path | None = None
    """Folder of the files, in which none of them may exist. By default a new one, `outputs/view/NAME`, `NAME-2`, ..."""

    fps: float | None = Field(default=None, ge=1, le=1000)
    """Frames per second of the motions, instead of what their files say or what is usual for their kind."""

    up_axis: Literal["auto", "x", "y", "z", "-x", "-y", "-z"] = "auto"
    """Axis that points up in BVH files; `auto` decides file by file."""

    rotation_unit: Literal["auto", "degrees", "radians"] = "auto"
    """Unit of the rotations in BVH files; `auto`: degrees, with a note where they look like radians."""

    scale: float | None = Field(default=None, gt=0)
    """Metres per unit of BVH files; by default it follows from the length of the legs."""

    max_motions: int = Field(default=100, ge=1)
    """Largest number of motions that one folder gives, the first ones by name."""

    open: bool = True
    """Open the page in a browser, where there is a display."""
