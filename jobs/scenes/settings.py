"""Configurations of the commands of scenes; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from jobs.configs.data import DataSettings
from motions.base.errors import UserError
from motions.settings import Settings, redeclared
from rewards.declared.tracking import TrackingSettings


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
    """Longer motions are divided into parts, each with a prompt of its own. Each goes on from the last second of the
    one before it, and so adds 20 frames less than these."""


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
    those that come with kinetune. Or a folder of `jobs.build_vg_kb_index`, whose list takes the place of both."""

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


class WorldSettings(Settings):
    """The simulated world, and how the humanoids follow their motions."""

    engine: Literal["mujoco", "bullet"] = "mujoco"
    """Physics engine: MuJoCo, or PyBullet with its stable PD control."""

    controller: Path | None = None
    """Folder of a trained controller (`jobs.trpo`, `jobs.sft`) that drives the humanoids, in the physics that it was
    trained in and without help; by default PD targets from the motion alone. With a controller the following options
    but `max_deviation` only take effect at values other than their defaults."""

    root_force: float = redeclared(TrackingSettings, "tracking_root_force", 800.0)
    """Limit, in newtons, of an external force at the root that helps to follow the motion; what is used is measured
    and written on the film. Targets alone fall within a second in nearly any motion. The body weighs 441 N. 0 allows
    none. The default is twice the tracking reward's: a film shows a motion, the reward judges it."""

    root_torque: float = redeclared(TrackingSettings, "tracking_root_torque", 400.0)
    """Limit, in newton metres, of the external torque at the root."""

    root_stiffness: float = Field(default=2.0, gt=0.0, le=4.0)
    """Stiffness of the help, as a multiple of the tracking reward's: how much of it is used for the same distance."""

    physics_hz: int = redeclared(TrackingSettings, "tracking_physics_hz")
    """Physics steps per second, for 30 control steps."""

    torque_scale: float = redeclared(TrackingSettings, "tracking_torque_scale")
    """Factor on the humanoid's torque limits."""

    max_deviation: float = redeclared(TrackingSettings, "tracking_max_deviation")
    """Mean distance, in metres, of the bodies from their reference positions at which a motion counts as lost. It is
    simulated to its end all the same."""

    meshes: Path | None = None
    """Folder with NAME.glb, .obj, .ply or .stl (z up, watertight) for entities of a shape of their own; by default a
    few boxes, balls and cylinders by category."""

    @property
    def tracking(self) -> TrackingSettings:
        """The same as options of the tracking reward."""
        usual = type(self).model_fields
        helped = {
            name: 0.0 if self.controller is not None and value == usual[name].default else value
            for name, value in (("root_force", self.root_force), ("root_torque", self.root_torque))
        }
        return TrackingSettings(
            tracking_engine=self.engine,
            tracking_controller=None if self.controller is None else str(self.controller),
            tracking_root_force=helped["root_force"],
            tracking_root_torque=helped["root_torque"],
            tracking_physics_hz=self.physics_hz,
            tracking_torque_scale=self.torque_scale,
            tracking_max_deviation=self.max_deviation,
        )


class SimulationFilesSettings(Settings):
    """What is simulated, and where the results go."""

    scene: Path = Path("outputs/scene/scene.json")
    """The scene's file, with `prompts.jsonl` beside it."""

    layout: Path | None = None
    """The layout's file, of `jobs.plan_scene`; by default the `layout.json` beside the scene."""

    motion: Path | None = None
    """Folder of `jobs.generate` with the motions of the scene's prompts; without it the things are simulated alone."""

    sample: int = redeclared(LayoutSettings, "sample")
    """Which of several motions of a prompt is meant."""

    seconds: float | None = Field(default=None, gt=0.0, le=120.0)
    """How long to simulate; by default until the last motion ends, and a second of things alone."""

    save_dir: Path | None = None
    """Folder of the results; by default that of the scene."""

    overwrite: bool = False
    """Replace these files if they are there."""


class SimulateConfig(Settings):
    """A planned scene in a simulated world."""

    files: SimulationFilesSettings = SimulationFilesSettings()
    world: WorldSettings = WorldSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("scene", "layout", "motion", "save_dir", "engine", "controller", "root_force", "root_torque", "overwrite"),
    )


class LookSettings(Settings):
    """How a film looks."""

    saturation: float = Field(default=1.25, ge=0.0, le=4.0)
    """Strength of colours; 1 leaves them as they are."""

    contrast: float = Field(default=1.15, ge=0.1, le=4.0)
    """Contrast about the middle grey; 1 leaves it."""

    gamma: float = Field(default=0.95, gt=0.1, le=4.0)
    """Below 1 the dark parts become lighter."""

    warmth: float = Field(default=1.0, ge=0.0, le=5.0)
    """Strength of a warm tint; 0 for none."""

    vignette: float = Field(default=0.45, ge=0.0, le=1.0)
    """How much darker the corners are; 0 for none."""

    grain: float = Field(default=0.0, ge=0.0, le=0.5)
    """Standard deviation of the film's grain, where white is 1."""

    focus_blur_px: float = Field(default=3.0, ge=0.0, le=20.0)
    """Largest radius, in pixels of a picture 360 high, of what is out of focus; 0 for depth of field without end."""


class FilmSettings(Settings):
    """How a simulated scene is filmed."""

    renderer: Literal["auto", "mujoco", "tiny"] = "auto"
    """MuJoCo (needs a GL library, no screen) or PyBullet's software renderer; `auto` takes MuJoCo if it works."""

    camera: Literal["front", "follow", "orbit"] = "front"
    """In front, with all of the scene in the picture, as its relations mean left and right; beside the first actor,
    following; or going around."""

    width: int = Field(default=640, ge=64, le=3840)
    """Width of the film in pixels."""

    height: int = Field(default=360, ge=64, le=2160)
    """Height of the film in pixels."""

    fps: float = Field(default=24.0, ge=1.0, le=120.0)
    """Frames per second of the film; between recorded states, 30 a second, poses are interpolated."""

    sub_frames: int = Field(default=3, ge=1, le=32)
    """Pictures whose mean is a frame; 1 for no motion blur."""

    shutter: float = Field(default=0.5, gt=0.0, le=1.0)
    """Share of a frame's time during which the shutter is open."""

    grain_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the grain."""

    look: LookSettings = LookSettings()


class RenderFilesSettings(Settings):
    """What is filmed, and where the film goes."""

    simulation: Path = Path("outputs/simulated")
    """Folder that `jobs.simulate` wrote."""

    scene: Path | None = None
    """The scene's file; by default `scene.json` in that folder."""

    layout: Path | None = None
    """The layout's file; by default `layout.json` beside the scene."""

    meshes: Path | None = None
    """Folder of meshes, as `jobs.simulate` had it."""

    save_dir: Path | None = None
    """Folder of `film.mp4` and `film.png`; by default that of the simulation."""

    overwrite: bool = False
    """Replace these files if they are there."""


class RenderConfig(Settings):
    """A film of a simulated scene."""

    files: RenderFilesSettings = RenderFilesSettings()
    film: FilmSettings = FilmSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("simulation", "scene", "save_dir", "renderer", "camera", "width", "height", "sub_frames", "overwrite"),
    )


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


class ObjectIndexConfig(Settings):
    """A longer list of known objects, with the nouns of Visual Genome, and its index."""

    vg_dir: Path = Path("data/visual_genome")
    """Folder with `objects.json` and perhaps `object_alias.txt`."""

    output: Path = Path("data/knowledge_base")
    """Folder of `objects.json`, `index.safetensors` and `index.json`."""

    max_objects: int = Field(default=10_000, ge=1)
    """Largest number of Visual Genome's nouns, the most frequent ones."""

    objects: Path | None = None
    """Further known objects, as `jobs.plan_scene` takes them in a file: new nouns may get their sizes."""

    overwrite: bool = False
    """Replace these files if they are there."""
