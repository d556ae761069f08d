"""Options of `jobs.enhance`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from jobs.scenes.settings import FilmSettings, RenderFilesSettings
from motions.base.errors import UserError
from motions.settings import Settings, redeclared
from rollouts.settings import DeviceSettings


class PaintedFilesSettings(RenderFilesSettings):
    """What is painted, and where the film goes."""

    simulation: Path = redeclared(RenderFilesSettings, "simulation", Path("outputs/animation"))

    save_dir: Path | None = None
    """Folder of `enhanced.mp4`, `poses.mp4` and `enhanced.png`; by default that of the simulation."""


class PaintingSettings(DeviceSettings):
    """The diffusion model, and how it paints."""

    prompt: str | None = None
    """What the pictures show, in quotes; by default the text of the scene."""

    negative_prompt: str = "blurry, deformed, extra limbs, text, watermark"
    """What they are not to show."""

    base_model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Stable Diffusion 1.5, a folder of diffusers' form or a name on the hub."""

    controlnet: str = "lllyasviel/control_v11p_sd15_openpose"
    """A ControlNet for pictures of poses, a folder or a name on the hub."""

    motion_adapter: str | None = None
    """A motion adapter of AnimateDiff, a folder or a name on the hub; without one every frame is painted alone."""

    steps: int = Field(default=15, ge=1, le=1000)
    """Denoising steps, of UniPC."""

    guidance_scale: float = Field(default=7.5, ge=1.0, le=50.0)
    """Weight of the prompt; 1 needs one pass only."""

    conditioning_scale: float = Field(default=1.0, ge=0.0, le=4.0)
    """Weight of the poses; 0 for none."""

    window: int = Field(default=8, ge=2, le=32)
    """`motion_adapter`: frames that are painted together."""

    overlap: int = Field(default=4, ge=0)
    """`motion_adapter`: frames of a window in which it fades into the next one."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the noise."""

    @model_validator(mode="after")
    def _windows(self) -> Self:
        if self.overlap >= self.window:
            raise UserError(f"overlap is {self.overlap} and window {self.window}; a window needs frames of its own")
        if self.motion_adapter is None:
            for name in ("window", "overlap"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise UserError(f"{name} is given without motion_adapter: every frame is painted alone")
        return self


class PictureSettings(Settings):
    """The pictures, taken as `jobs.render` takes them."""

    camera: Literal["front", "follow", "orbit"] = redeclared(FilmSettings, "camera")
    width: int = redeclared(FilmSettings, "width", 384)
    height: int = redeclared(FilmSettings, "height", 384)
    fps: float = redeclared(FilmSettings, "fps", 8.0)

    @property
    def film(self) -> FilmSettings:
        """The same as options of `jobs.render`."""
        return FilmSettings.model_validate(self.model_dump())


class EnhanceConfig(Settings):
    """A simulated scene, painted by a diffusion model."""

    files: PaintedFilesSettings = PaintedFilesSettings()
    painting: PaintingSettings = PaintingSettings()
    pictures: PictureSettings = PictureSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("simulation", "save_dir", "prompt", "base_model", "controlnet", "motion_adapter", "steps", "device", "seed"),
        "overwrite",
    )
