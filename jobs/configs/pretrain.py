"""Configuration of `jobs.pretrain`; imports neither torch nor ray."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from cluster.settings import SteppedRunSettings, TrainingRunSettings
from jobs.configs.data import TrainingDataSettings
from learners.supervised.settings import SupervisedSettings
from motions.base.errors import UserError
from motions.base.named import require_named
from motions.settings import Affects, Effect, Settings, redeclared
from rollouts.registry import DENOISERS
from rollouts.settings import Decay, DeviceSettings, ScanSettings, TextEncoderSettings


class NetworkSettings(Settings):
    """Size of a new policy; the defaults are those of MDM's published HumanML3D model."""

    arch: str = "trans_enc"
    """Architecture of the denoiser: MDM's `trans_enc` (the condition is a token before the frames), `trans_dec` (the
    frames attend to the condition) or `gru`; `mamba`, bidirectional state-space layers; or `package.module:Class`."""

    text_by_token: bool | None = None
    """trans_dec: attend to each token of the text instead of one vector; by default with text encoder distilbert
    only."""

    emb_trans_dec: bool = False
    """trans_dec: put a token of the diffusion step before the frames."""

    d_state: int = Field(default=32, ge=1, le=1024)
    """mamba: numbers of a channel's state."""

    ssm_decay: Decay = "head"
    """mamba: where the rates of decay differ. `head`: one for each head of up to 64 channels, as in Mamba-2; many times
    as fast as the others. `channel`: one for each channel and state, as in Mamba-1. `shared`: one for each state, the
    same for all channels."""

    layers: int = Field(default=8, ge=1, le=1000)
    """Number of layers of the network."""

    latent_dim: int = Field(default=512, ge=8)
    """Width of the network."""

    ff_size: int = Field(default=1024, ge=8)
    """Width of a transformer's feed-forward layers."""

    num_heads: int = Field(default=4, ge=1)
    """Number of a transformer's attention heads."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout probability in training."""

    mask_frames: bool = True
    """Exclude padding frames from attention. Models published by MDM before 2024 do not."""

    pos_embed_max_len: int = Field(default=5000, ge=2, le=1_000_000)
    """Rows of the positional table, which is saved with the model: must exceed the number of frames of any motion and
    the number of diffusion steps."""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """Noise schedule of the diffusion: Nichol and Dhariwal's cosine, or linear."""

    diffusion_steps: int = Field(default=50, ge=2, le=100_000)
    """Number of diffusion steps."""

    @field_validator("arch")
    @classmethod
    def _known_arch(cls, value: str) -> str:
        return require_named("arch", value, DENOISERS)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.arch in DENOISERS and self.latent_dim % (2 * self.num_heads):
            raise UserError(
                f"latent_dim is {self.latent_dim}; it has to be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )
        return self

    @model_validator(mode="after")
    def _of_one_architecture(self) -> Self:
        for arch, names in {"trans_dec": ("text_by_token", "emb_trans_dec"), "mamba": ("d_state", "ssm_decay")}.items():
            for name in names:
                if getattr(self, name) not in (type(self).model_fields[name].default, False) and self.arch != arch:
                    raise UserError(f"{name} is set and arch is {self.arch}; it belongs to {arch}")
        return self


class PretrainRunSettings(TrainingRunSettings, DeviceSettings, ScanSettings):
    """Run directory, length and device of a policy's training."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 600_000)
    """Optimizer steps of the training."""

    passes: Annotated[float | None, Effect("length")] = Field(default=None, gt=0)
    """Passes over the training clips, instead of `num_steps`: the number of steps follows from the data. A `num_steps`
    that is given counts more."""

    max_hours: Annotated[float | None, Effect("length")] = Field(default=None, gt=0)
    """With `passes`, the training is made shorter where this machine would take longer than this. What a step takes is
    measured before the training starts."""


class StartSettings(Settings):
    """Where a training starts from."""

    model_path: str | None = Field(default=None, min_length=1)
    """Policy whose weights the training starts from: `builtin`, a checkpoint, or a folder with one. It brings its
    network, noise schedule, statistics and text encoder. By default a new network starts from random weights."""


class PretrainDataSettings(TrainingDataSettings):
    """Motions, captions, and composites made of them."""

    composite_fraction: float = Field(default=0.0, ge=0, le=1)
    """Fraction of a batch that is composite: two to five clips joined to one motion, with a joined text."""

    num_composites: int = Field(default=500, ge=1)
    """Number of composite motions that are made for this before the training (20 ms each)."""

    captions_per_motion: int | None = Field(default=None, ge=1)
    """Train on only the first captions of every motion, this many. The others remain prompts that are new to the
    policy, for reinforcement learning, which needs no motions. By default all are used."""


class ValidationSettings(Settings):
    """Loss on clips that are held out from the training."""

    affects: ClassVar[Affects] = "evaluation"

    validation_clips: int = Field(default=256, ge=0)
    """Clips of the validation split (`val.txt`) whose loss is measured at every checkpoint; 0: none. Data without that
    split has no validation loss."""


class SampleSettings(Settings):
    """Motions that are generated after the training."""

    affects: ClassVar[Affects] = "evaluation"

    num_samples: int = Field(default=3, ge=0, le=1000)
    """Number of held-out captions for which a motion is generated and drawn after the training."""

    guidance_scale: float = Field(
        default=2.5, ge=0, validation_alias=AliasChoices("guidance_scale", "gen_guidance_param")
    )
    """Classifier-free guidance scale of those motions."""


class PretrainConfig(Settings):
    """Supervised training of a text-to-motion policy."""

    run: PretrainRunSettings
    data: PretrainDataSettings = PretrainDataSettings()
    start: StartSettings = StartSettings()
    network: NetworkSettings = NetworkSettings()
    text: TextEncoderSettings = TextEncoderSettings()
    supervised: SupervisedSettings = SupervisedSettings()
    validation: ValidationSettings = ValidationSettings()
    samples: SampleSettings = SampleSettings()

    @model_validator(mode="after")
    def _has_positions(self) -> Self:
        positions = self.network.pos_embed_max_len
        for name, needed in (
            ("max_frames", self.data.max_frames + 1),
            ("diffusion_steps", self.network.diffusion_steps),
        ):
            if positions < needed:
                raise UserError(f"pos_embed_max_len is {positions}; legal with this {name}: at least {needed}")
        return self

    important: ClassVar[tuple[str, ...]] = (
        *("save_dir", "dataset", "num_steps", "batch_size", "learning_rate", "layers"),
        *("text_encoder", "model_path", "passes", "resume"),
    )

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        default = NetworkSettings()
        # Every `config.yaml` lists the options of a network, used or not.
        given = [name for name, value in self.network if value != getattr(default, name)]
        if self.start.model_path is not None and given:
            raise UserError(f"{given[0]} is of a new network, and model_path {self.start.model_path} has its own")
        return self

    @model_validator(mode="after")
    def _guided(self) -> Self:
        guided = self.samples.num_samples and self.samples.guidance_scale not in (0.0, 1.0)
        if self.supervised.cond_mask_prob == 0.0 and guided:
            raise UserError(
                "cond_mask_prob is 0: without training on clips without text there is nothing to guide away from; give "
                "--guidance_scale 1, or --cond_mask_prob 0.1"
            )
        return self

    @model_validator(mode="after")
    def _limited_passes(self) -> Self:
        if self.run.max_hours is not None and self.run.passes is None:
            raise UserError("max_hours shortens a training whose length is given by passes; give --passes, too")
        return self
