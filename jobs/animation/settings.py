"""Options of `jobs.animate`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import SupervisionSettings
from jobs.configs.data import DataSettings
from jobs.configs.generate import GenerateDenoisingSettings
from jobs.scenes.settings import FilmSettings, LayoutSettings, SceneTextSettings, TimingSettings, WorldSettings
from motions.base.errors import UserError
from motions.settings import Affects, Settings, redeclared
from rewards.settings import RewardSettings
from rollouts.settings import CheckpointSettings

Stage = Literal["parse", "generate", "plan", "simulate", "render"]


class AnimationSettings(Settings):
    """A sentence that becomes a film."""

    text: str | None = None
    """What happens in the scene, in English and in quotes."""

    text_file: Path | None = None
    """File of several scenes instead, one a line. Each becomes a folder of its own in `save_dir`, `scene000` and so on,
    and `index.html` there lists them."""

    parser: str = redeclared(SceneTextSettings, "parser", "rules")
    num_beams: int = redeclared(SceneTextSettings, "num_beams", 4)

    refiner: Path | None = Field(default=None, validation_alias=AliasChoices("refiner", "refiner_path"))
    """Folder of `jobs.train_physics_ssm`, whose network refines the candidates before one is chosen."""

    save_dir: Path = Path("outputs/animation")
    """Folder of all files: those of each stage, and `index.html`."""

    start_at: Stage = "parse"
    """The first stage that is done; those before it are taken from `save_dir`, perhaps edited there. What later stages
    wrote is replaced."""

    num_candidates: int = Field(default=8, ge=1, le=1000)
    """Motions that are generated for each actor; the one with the highest reward is taken."""

    objects: Path | None = redeclared(LayoutSettings, "objects")

    seed: int = Field(default=10, ge=0, lt=2**31)
    """Seed of the motions and of the planner's starts."""

    overwrite: bool = False
    """Replace an animation that is in `save_dir`, from its first stage on."""

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.text is not None and self.text_file is not None:
            raise UserError("text and text_file are both given; scenes come from one of them")
        if self.start_at == "parse" and self.text is None and self.text_file is None:
            raise UserError(
                "there is no text: give --text 'a man kicks a ball', --text_file scenes.txt, or --start_at generate "
                "with a scene"
            )
        if self.start_at != "parse" and self.text is not None:
            raise UserError(f"start_at is {self.start_at!r}, and the scene's file says what happens; leave out --text")
        return self


class SceneActorSettings(SupervisionSettings):
    """Actors that make animations, each a stage of one scene at a time. They are used with `text_file`."""

    affects: ClassVar[Affects] = "speed"

    num_scene_actors: int = Field(default=2, ge=1)
    """Number of these actors. More are faster and do not change results."""

    cpus_per_scene_actor: float = Field(default=1.0, ge=0)
    """CPUs reserved by each."""

    gpus_per_scene_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved by each; a fraction below 1 shares one GPU."""


class AnimateConfig(Settings):
    """A sentence as a scene, motions, a layout, a simulation and a film."""

    animation: AnimationSettings
    policy: CheckpointSettings = CheckpointSettings()
    sampling: GenerateDenoisingSettings = GenerateDenoisingSettings()
    data: DataSettings = DataSettings()
    timing: TimingSettings = TimingSettings()
    rewards: RewardSettings = RewardSettings()
    world: WorldSettings = WorldSettings()
    film: FilmSettings = FilmSettings()
    cluster: SceneActorSettings = SceneActorSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("text", "text_file", "save_dir", "start_at", "num_candidates", "model_path", "engine", "camera", "seed"),
        *("num_scene_actors", "overwrite"),
    )
