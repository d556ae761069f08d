"""Configuration of `jobs.train_motion_ssm`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from cluster.settings import RunSettings, SteppedRunSettings, TrainingRunSettings
from learners.supervised.settings import MotionSSMSettings
from motions.base.errors import UserError
from motions.settings import BUILTIN, Effect, Settings, redeclared
from rollouts.settings import Decay, DeviceSettings, ScanSettings, TextEncoderSettings


class MotionSSMRunSettings(TrainingRunSettings, DeviceSettings, ScanSettings):
    """Run directory, length and device of the training."""

    save_dir: Path = redeclared(
        RunSettings, "save_dir", Path("checkpoints/motion_ssm"), spellings=("save_dir", "checkpoint_dir")
    )

    epochs: Annotated[float, Effect("length")] = Field(default=250, gt=0)
    """Passes over the training clips; the number of steps follows from the data. A `num_steps` that is given counts
    more."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 100_000)
    """Optimizer steps of the training; by default as `epochs` says."""

    save_every: float | None = Field(default=None, gt=0)
    """Passes over the training clips between checkpoints, in place of `save_interval`."""

    resume_from: Path | None = None
    """Folder of a training that was stopped, or a file in it: continues it there, as `save_dir` with `resume` does."""

    @model_validator(mode="before")
    @classmethod
    def _continued(cls, given: object) -> object:
        if not isinstance(given, dict) or given.get("resume_from") is None:
            return given
        folder = Path(str(given["resume_from"]))
        folder = folder if folder.is_dir() or not folder.suffix else folder.parent
        kept = {key: value for key, value in given.items() if key != "checkpoint_dir"}
        return {**kept, "save_dir": folder, "resume": True}


class MotionSSMDataSettings(Settings):
    """Motions and captions."""

    data_dir: str = Field(default=BUILTIN, min_length=1, validation_alias=AliasChoices("data_dir", "dataset"))
    """Folder in HumanML3D's or KIT-ML's layout, or `builtin` (motion capture that comes with pybullet, retargeted)."""

    skip_bad: bool = False
    """Leave out clips whose files are broken or hold numbers that are not finite, and say how many they are. By default
    they are an error that lists them."""

    max_frames: int = Field(default=196, ge=4)
    """Longer clips are cropped to this many frames, at a random place."""

    captions_per_motion: int | None = Field(default=None, ge=1)
    """Train on only the first captions of every motion, this many. By default all are used."""

    validation_clips: Annotated[int, Effect("evaluation")] = Field(default=256, ge=0)
    """Held-out clips (`val.txt`, else `test.txt`) whose loss is measured at every checkpoint; 0: none."""


class MotionSSMNetworkSettings(Settings):
    """Sizes of the network."""

    d_model: int = Field(default=256, ge=8)
    """Width of the layers."""

    d_state: int = Field(default=32, ge=1, le=1024)
    """Numbers of a channel's state."""

    n_layers: int = Field(default=4, ge=1, le=1000)
    """Layers of the decoder; the posterior, which is for training only, has half as many."""

    ssm_decay: Decay = "head"
    """Where the rates of decay differ. `head`: one for each head of up to 64 channels, as in Mamba-2; many times as
    fast as the others. `channel`: one for each channel and state, as in Mamba-1. `shared`: one for each state, the same
    for all channels."""

    latent_dim: int = Field(default=8, ge=0, le=1024)
    """Numbers of the latent at each knot, of which a motion has one for every `knot_frames`. 0: no latent; the network
    is then a regressor, which gives every text one and the same motion, and which GRPO cannot train."""

    knot_frames: int = Field(default=10, ge=1)
    """Frames from one knot to the next: 10 are half a second of HumanML3D's, 6 of KIT-ML's."""

    patch_frames: int = Field(default=4, ge=1)
    """Frames that the layers take as one; 1 or an even number. A larger one is faster, and blurs."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout probability of the layers in training."""

    @model_validator(mode="after")
    def _patches_have_a_middle(self) -> Self:
        if self.patch_frames > 1 and self.patch_frames % 2:
            raise UserError(f"patch_frames is {self.patch_frames}; legal: 1 and even numbers")
        return self


class MotionSSMTextSettings(TextEncoderSettings):
    """What reads the captions."""

    text_encoder: str = redeclared(TextEncoderSettings, "text_encoder")
    """Text encoder: `minilm` (offline), `clip`, `words` (a vocabulary of the training captions' words, whose embeddings
    are trained with the network), or `package.module:Class`."""


class MotionSSMConfig(Settings):
    """Training of MotionSSM, a text-to-motion policy of one action."""

    run: MotionSSMRunSettings = MotionSSMRunSettings()
    data: MotionSSMDataSettings = MotionSSMDataSettings()
    network: MotionSSMNetworkSettings = MotionSSMNetworkSettings()
    text: MotionSSMTextSettings = MotionSSMTextSettings()
    training: MotionSSMSettings = MotionSSMSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "data_dir", "epochs", "batch_size", "learning_rate", "d_model", "n_layers", "latent_dim"),
        *("text_encoder", "seed", "resume"),
    )

    @model_validator(mode="after")
    def _heard(self) -> Self:
        if self.training.text_noise and self.text.text_encoder == "words":
            raise UserError("text_noise is above 0 and text_encoder words, whose numbers are no embeddings to disturb")
        if self.training.lambda_prior_physics and not self.network.latent_dim:
            raise UserError("lambda_prior_physics is above 0 and latent_dim 0: there is no prior to sample")
        return self
