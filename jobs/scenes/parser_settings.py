"""Configurations of `jobs.build_scene_dataset` and `jobs.train_m1_t5`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.settings import RunSettings
from jobs.configs.data import DataSettings
from jobs.ssm.epochs import EpochRunSettings
from learners.supervised.settings import SceneParsingSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Effect, Settings, redeclared
from rollouts.settings import DeviceSettings

SCRATCH = "scratch"
"""Value of `model` for a T5 that is made here."""


class SceneDatasetSettings(Settings):
    """Files of texts and scenes."""

    output: Path = Path("data/scenes")
    """Folder of `train.jsonl`, `val.jsonl` and `test.jsonl`."""

    num_examples: int = Field(default=20_000, ge=1)
    """Training examples."""

    num_held_out: int = Field(default=500, ge=1)
    """Examples of `val.jsonl`, of captions that training knows, and of `test.jsonl`, of those that it does not."""

    seed: int = Field(default=10, ge=0, lt=2**31)
    """Seed of the texts; the same seed gives the same files."""

    overwrite: bool = False
    """Replace these files if they are there."""


class SceneDatasetConfig(Settings):
    """A training set of texts with actions, composed from captions, and their scenes."""

    scenes: SceneDatasetSettings = SceneDatasetSettings()
    data: DataSettings = DataSettings()

    important: ClassVar[tuple[str, ...]] = ("output", "dataset", "num_examples", "seed", "overwrite")


class ParserRunSettings(RunSettings, DeviceSettings):
    """Run directory, length and device of a parser's training."""

    save_dir: Path = redeclared(
        RunSettings, "save_dir", Path("checkpoints/m1_t5"), spellings=("save_dir", "output_dir")
    )

    epochs: Annotated[int, Effect("length")] = Field(default=15, ge=1)
    """Passes over the training examples."""

    save_every: Annotated[int, Effect("records")] = Field(default=1, ge=1)
    """Epochs between checkpoints; there is always one after the last epoch."""

    best_metric: str | None = redeclared(EpochRunSettings, "best_metric")
    best_mode: Literal["max", "min"] = redeclared(EpochRunSettings, "best_mode")
    keep_checkpoints: int = redeclared(EpochRunSettings, "keep_checkpoints")
    log_interval: int = redeclared(EpochRunSettings, "log_interval")


class ParserDataSettings(Settings):
    """Texts and their scenes."""

    data_dir: str = BUILTIN
    """Folder with `train.jsonl`, `val.jsonl` and perhaps `test.jsonl` of `jobs.build_scene_dataset` or
    `jobs.build_vg_dataset`; `builtin` composes texts from the captions of the built-in motions."""

    num_examples: int = Field(default=20_000, ge=1)
    """Training examples where they are composed here."""

    num_measured: int = Field(default=100, ge=1)
    """Held-out texts of each kind that are parsed at every checkpoint."""

    max_text_tokens: int = Field(default=256, ge=8)
    max_line_tokens: int = Field(default=256, ge=8)
    """Longest texts and lines, in tokens. A training in which more than a fifth of the lines are longer is refused; of
    fewer, those examples are left out."""


class ParserNetworkSettings(Settings):
    """Which T5 is trained, or how a new one is made."""

    model: str = "google/flan-t5-small"
    """A T5's folder or its name on the hub, or `scratch` for a small one with its own tokenizer, which is made here."""

    width: int = Field(default=128, ge=16)
    """Width of a T5 that is made here."""

    layers: int = Field(default=3, ge=1, le=24)
    """Its layers, of the encoder and of the decoder each."""

    heads: int = Field(default=4, ge=1)
    """Its attention heads."""

    vocabulary: int = Field(default=4000, ge=300)
    """Largest number of its tokens."""

    copy_steps: int = Field(default=200, ge=0)
    """Updates at its beginning, before the first epoch, in which it writes down sentences of random words: it has to
    learn that words are copied, and from few captions it would learn them by heart."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.width % self.heads:
            raise UserError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.model != SCRATCH:
            default = type(self).model_fields
            given = [name for name in ("width", "layers", "heads", "vocabulary") if name in self.model_fields_set]
            changed = [name for name in given if getattr(self, name) != default[name].default]
            if changed:
                raise UserError(f"{changed[0]} belongs to model scratch; {self.model} has its own")
        return self


class TrainParserConfig(Settings):
    """Training of a parser of scenes."""

    run: ParserRunSettings = ParserRunSettings()
    data: ParserDataSettings = ParserDataSettings()
    network: ParserNetworkSettings = ParserNetworkSettings()
    parsing: SceneParsingSettings = SceneParsingSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "data_dir", "model", "epochs", "batch_size", "learning_rate", "num_examples", "seed", "resume"),
    )
