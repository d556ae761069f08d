"""Options for the files that motions are written to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from motions.settings import Settings

Format = Literal["html", "gif", "mp4", "bvh", "glb", "npz"]


class ExportSettings(Settings):
    """Files that motions are written to."""

    formats: tuple[Format, ...] = Field(default=("html",), min_length=1)
    """Kinds of files, as in `bvh,glb,mp4`. `html`: one page that plays all motions. `gif`, `mp4` (H.264): a drawn
    animation of each. `bvh`: joints and rotations of each. `glb`: one file of a body with every motion as an animation.
    `npz`: approximate SMPL pose parameters of each, in the layout of AMASS."""

    @field_validator("formats", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: Any) -> Any:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, (list, tuple)):
            return value
        parts = [part.strip() for word in words for part in str(word).split(",")]
        return tuple(dict.fromkeys(part for part in parts if part))
