"""The configuration of `jobs.pretrain`; imports neither torch nor ray."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator

from cluster.settings import TrainingRunSettings
from jobs.configs.data import DataSettings
from learners.supervised.settings import SupervisedSettings
from motions.base.named import require_named
from motions.settings import Effect, Settings
from rollouts.registry import DENOISERS
from rollouts.settings import (
    DeviceSettings,
    TextEncoderSettings,
)


class NetworkSettings(Settings):
    """Size of a new policy; the defaults are the official HumanML3D model's."""

    arch: str = "trans_enc"
    """Architecture of the denoiser: `trans_enc`, or `package.module:Class`."""

    layers: int = Field(default=8, ge=1)
    """Transformer layers."""

    latent_dim: int = Field(default=512, ge=8)
    """Width of the transformer."""

    ff_size: int = Field(default=1024, ge=8)
    """Width of the feed-forward layers."""

    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in training."""

    mask_frames: bool = True
    """Hide padding frames from attention. Official models of before 2024 do not."""

    pos_embed_max_len: int = Field(default=5000, ge=2)
    """Rows of the positional table, which is saved with the model: more than the frames of any motion and the diffusion
    steps."""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """Noise schedule of the diffusion."""

    diffusion_steps: int = Field(default=50, ge=2)
    """Diffusion steps."""

    @field_validator("arch")
    @classmethod
    def _known_arch(cls, value: str) -> str:
        return require_named("arch", value, DENOISERS)


class PretrainConfig(
    DataSettings, NetworkSettings, TextEncoderSettings, SupervisedSettings, TrainingRunSettings, DeviceSettings
):
    """Supervised training of a policy."""

    composite_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of a batch that is composite: two to five clips joined to one motion, with a joined text."""

    num_composites: int = Field(default=500, ge=1)
    """Composite motions that are made for it before the training (20 ms each)."""

    captions_per_motion: int | None = Field(default=None, ge=1)
    """Learn only the first so many captions of every motion. The others stay prompts that the policy has never heard,
    for which reinforcement learning needs no motions. By default all are learnt."""

    num_samples: Annotated[int, Effect("evaluation")] = Field(default=3, ge=0)
    """Held-out captions for which a motion is generated and drawn at the end."""

    guidance_scale: float = Field(
        default=2.5, ge=0, validation_alias=AliasChoices("guidance_scale", "gen_guidance_param")
    )
    """Guidance of those motions."""
