"""Configurations of `jobs.parse_scene` and `jobs.plan_scene`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from jobs.configs.data import DataSettings
from motions.base.errors import UserError
from motions.settings import Settings


class SceneTextSettings(Settings):
    """The text of a scene, and what becomes of it."""

    text: str | None = None
    """What happens in the scene, in English and in quotes."""

    scene: Path | None = None
    """A scene's file instead, such as an edited `scene.json`: its prompts are made anew."""

    parser: str = "rules"
    """Who reads the text: `rules`, or a parser that was trained by `jobs.train_m1_t5`, by its folder. Where a trained
    one writes no scene, or one without actions, the rules read it, and `scene.json` says so."""

    num_beams: int = Field(default=4, ge=1, le=64)
    """Beams of the search by which a trained parser writes."""

    save_dir: Path = Path("outputs/scene")
    """Folder of `scene.json` and `prompts.jsonl`."""

    overwrite: bool = False
    """Replace these files if they are there."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.scene is None):
            said = "there is neither text nor scene" if self.text is None else "text and scene are both given"
            raise UserError(f"{said}: give --text 'a person walks to the table' or --scene scene.json")
        return self


class TimingSettings(Settings):
    """How long actions take that the text gives no duration."""

    nearest_captions: int = Field(default=10, ge=1)
    """Their duration is the median length of the clips of so many captions of `dataset` that are most like them."""

    max_frames: int = Field(default=196, ge=4)
    """Longer motions are divided into parts, each with a prompt of its own."""


class ParseSceneConfig(Settings):
    """A text as a scene, and as prompts for a policy."""

    scene: SceneTextSettings
    timing: TimingSettings = TimingSettings()
    data: DataSettings = DataSettings()

    important: ClassVar[tuple[str, ...]] = ("text", "scene.scene", "save_dir", "dataset", "max_frames", "overwrite")


class LayoutSettings(Settings):
    """A scene and where its things are put."""

    scene: Path = Path("outputs/scene/scene.json")
    """The scene's file, as `jobs.parse_scene` writes it."""

    motion: Path | None = None
    """Folder of `jobs.generate` with the motions of the scene's prompts: what is kicked then stands where the foot is,
    and nothing stands in the way."""

    sample: int = Field(default=0, ge=0)
    """Which of several motions of a prompt is meant."""

    objects: Path | None = None
    """Further known objects, with sizes and masses, in the format of `motions/scenes/objects.json`; they go before
    those that come with kinetune."""

    save_dir: Path | None = None
    """Folder of `layout.json` and `layout.png`; by default that of the scene."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the starts; the same seed gives the same layout."""

    starts: int = Field(default=12, ge=1, le=1000)
    """Largest number of starts of the search; the first that meets every relation is taken."""

    room_m: float = Field(default=10.0, gt=0.5, le=1000)
    """Width and depth of the room."""

    overwrite: bool = False
    """Replace these files if they are there."""


class PlanSceneConfig(LayoutSettings):
    """Places for everything in a scene."""

    important: ClassVar[tuple[str, ...]] = ("scene", "motion", "save_dir", "seed", "room_m", "overwrite")


class VisualGenomeConfig(Settings):
    """A training set of texts and scenes from Visual Genome."""

    vg_dir: Path = Path("data/visual_genome")
    """Folder with `scene_graphs.json` and perhaps `attributes.json`."""

    output: Path = Path("data/vg_scenes")
    """Folder of `train.jsonl`, `val.jsonl` and `test.jsonl`."""

    max_samples: int = Field(default=50_000, ge=1)
    """Largest number of examples, those of the first graphs that name any object."""

    overwrite: bool = False
    """Replace these files if they are there."""

    important: ClassVar[tuple[str, ...]] = ("vg_dir", "output", "max_samples", "overwrite")
