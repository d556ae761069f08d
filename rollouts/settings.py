"""Options of the policy and of how it is sampled; imports neither torch nor ray.

Step positions count along the (respaced) denoising sequence, 0 = noisiest. The defaults of the SDE window are the ones
that learned on real clips: two stochastic steps among the first five, one shared starting noise per group. With every
step stochastic and trained, the update is mostly noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.base.named import require_named
from motions.settings import BUILTIN, Affects, Effect, Retired, Settings, redeclared
from rollouts.registry import SAMPLERS

AmpDtype = Literal["fp32", "bf16", "fp16"]


class DeviceSettings(Settings):
    """Device."""

    affects: ClassVar[Affects] = "speed"

    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where the network runs: auto (a GPU if there is one), cpu, mps, cuda, cuda:1, or the number of a GPU."""

    @field_validator("device", mode="before")
    @classmethod
    def _gpu_number(cls, value: object) -> object:
        """A bare number names a GPU, as in MDM's command line."""
        text = str(value)
        return f"cuda:{text}" if text.isdecimal() and not isinstance(value, bool) else value


@dataclass(frozen=True, slots=True)
class Denoising:
    """How a policy denoises; the fields are those of `DenoisingSettings`."""

    sampler: str
    sampling_steps: int | None
    eta: float
    guidance_scale: float


class DenoisingSettings(DeviceSettings):
    """How a diffusion policy denoises, in rollouts, scoring and generation alike."""

    device: str = redeclared(DeviceSettings, "device", affects="results")

    sampler: str = "ddpm"
    """Gaussian of a stochastic step: `ddpm` (the DDPM posterior), `ddim` (with `eta`), or `package.module:Class`.
    Deterministic steps of the first two are DDIM with eta 0."""
    sampling_steps: int | None = Field(default=None, ge=1)
    """Denoising steps kept of the model's schedule (evenly respaced); by default all of them."""
    eta: float = Field(default=1.0, gt=0.0, le=1.0)
    """Noise level of stochastic DDIM steps; 1 equals the DDPM posterior."""
    guidance_scale: float = Field(
        default=2.5, ge=0.0, validation_alias=AliasChoices("guidance_scale", "guidance_param")
    )
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional). 1 needs no unconditional
    pass."""
    amp_dtype: AmpDtype = "fp32"
    """Precision of the network in sampling and scoring. The arithmetic of the steps is fp32 always."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        return require_named("sampler", value, SAMPLERS)

    @property
    def denoising(self) -> Denoising:
        """What of it a single rollout may do differently."""
        return Denoising(self.sampler, self.sampling_steps, self.eta, self.guidance_scale)


class SamplingSettings(DenoisingSettings):
    """Which steps of a rollout are random, and which of those are trained."""

    sde_window: int = Field(default=2, ge=0)
    """Consecutive stochastic steps of a rollout; 0 makes every step stochastic except the noiseless last one."""
    sde_window_start: int = Field(default=4, ge=1)
    """The window starts at a random place among the first so many positions."""
    timestep_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the stochastic steps that is trained: a random subset for every group, at least one step."""
    share_initial_noise: bool = Field(
        default=True, validation_alias=AliasChoices("share_initial_noise", "init_same_noise")
    )
    """Start all samples of a group from one noise; they differ through their stochastic steps only."""
    eval_sampler: Annotated[str | None, Effect("evaluation")] = None
    """Sampler of evaluations, and of the trained policy in `jobs.generate`; by default the training's. It matters where
    `eval_eta` is above 0: without noise, ddpm and ddim are the same."""
    eval_sampling_steps: Annotated[int | None, Effect("evaluation")] = Field(default=None, ge=1)
    """Denoising steps of evaluations and of the trained policy; by default the training's."""
    eval_eta: Annotated[float, Effect("evaluation")] = Field(default=0.0, ge=0.0, le=1.0)
    """Noise of every step but the last of an evaluation. 0 draws none, so that motions before and after the training
    differ by the policy alone; above 0 it is the noise level of ddim, and 1 switches that of ddpm on."""
    eval_guidance_scale: Annotated[float | None, Effect("evaluation")] = Field(default=None, ge=0.0)
    """Classifier-free guidance of evaluations and of the trained policy; by default the training's."""

    @field_validator("eval_sampler")
    @classmethod
    def _known_eval_sampler(cls, value: str | None) -> str | None:
        return value if value is None else require_named("eval_sampler", value, SAMPLERS)

    @model_validator(mode="after")
    def _evaluation_noise(self) -> Self:
        if self.evaluation.sampler == "ddpm" and self.eval_eta not in (0.0, 1.0):
            raise UserError(f"eval_eta is {self.eval_eta}: ddpm has noise (1) or none (0); give eval_sampler ddim")
        return self

    @property
    def evaluation(self) -> Denoising:
        """How evaluations denoise."""
        steps, scale = self.eval_sampling_steps, self.eval_guidance_scale
        return Denoising(
            sampler=self.eval_sampler or self.sampler,
            sampling_steps=self.sampling_steps if steps is None else steps,
            eta=self.eval_eta,
            guidance_scale=self.guidance_scale if scale is None else scale,
        )


class TextEncoderSettings(Settings):
    """Text encoder and the texts it reads."""

    text_encoder: str = Field(
        default="minilm", min_length=1, validation_alias=AliasChoices("text_encoder", "text_encoder_type")
    )
    """Text encoder: `minilm` (offline), `clip`, or `package.module:Class`."""

    text_encoder_path: str | None = Field(default=None, min_length=1)
    """Local folder or hub id of the text encoder's weights; by default the installed package (minilm) or the hub."""

    max_text_tokens: int | None = Field(default=None, ge=2)
    """Longest text in tokens, special tokens included; by default the encoder's own limit (clip 22, as MDM was trained;
    minilm 256)."""

    truncate_text: bool = False
    """Cut longer texts at the limit, as MDM does, instead of refusing them. Rewards and judges then cut at the limits
    of their own text encoders."""


class CheckpointSettings(TextEncoderSettings):
    """Which policy acts: its checkpoint, its text encoder, its adapters."""

    model_path: str = Field(default=BUILTIN, min_length=1)
    """Checkpoint of the base policy: `builtin` (weights that ship with kinetune), an MDM file such as
    `save/humanml_enc_512_50steps/model000750000.pt` with `args.json` beside it, or its folder (the latest step)."""

    use_ema: bool | None = None
    """Averaged (`model_avg`) or last weights of a checkpoint that holds both; by default what its args.json says."""

    stats_path: str | None = Field(default=None, min_length=1)
    """Folder with the `Mean.npy` and `Std.npy` the policy was trained with (HumanML3D's own folder for the official
    models); by default the folder of the checkpoint."""

    skeleton: str | None = Field(default=None, min_length=1)
    """Skeleton of the policy's features, `humanml3d` or `kit`; by default what args.json says."""

    adapter_path: str | None = Field(default=None, min_length=1)
    """Folder of a LoRA adapter in peft's format to start from. Its own r, alpha and targets hold; the reference policy
    is the base without it, unless `merge_adapter` is set."""

    allow_other_base: bool = False
    """Load an adapter although it was trained on other base weights than these."""

    text_encoder: str = Field(
        default="auto", min_length=1, validation_alias=AliasChoices("text_encoder", "text_encoder_type")
    )
    """`auto` (what the checkpoint was trained with), `minilm` (offline), `clip`, `distilbert` (one vector for each
    token, for networks that attend to them), or `package.module:Class`."""

    text_cache_dir: str | None = Field(default=None, min_length=1)
    """Folder of text embeddings, shared between runs and processes; by default they are kept in memory only."""


class PolicySettings(CheckpointSettings):
    """Low-rank adapters that are trained on a frozen base."""

    retired: ClassVar[Mapping[str, Retired]] = {
        "lora_dropout": Retired(
            ("0", "0.0"),
            "the policy acts in eval mode, where dropout does nothing, and in train mode it would make rollout and "
            "scoring disagree, so that the ratio does not start at 1",
        )
    }

    merge_adapter: bool = False
    """Merge `adapter_path` into the base first: the merged policy is the reference, and new adapters start at 0."""

    use_lora: bool = True
    """Train low-rank adapters on a frozen base, which then is the reference at no cost. Off trains all weights."""

    lora_r: int = Field(default=8, ge=1)
    """Rank of the adapters."""

    lora_alpha: int = Field(default=16, ge=1)
    """Adapters are scaled by lora_alpha / lora_r."""

    lora_target_spec: str = Field(default="all", min_length=1)
    """Where adapters go: `attn` (q, k, v, out), `ffn`, `text`, `all` (those, and the input and output projections), or
    module names, separated by commas."""

    lora_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the adapters' random half; the other half is zero, so that the policy starts as the base bit for bit."""

    @model_validator(mode="after")
    def _adapters_have_a_place(self) -> Self:
        if self.merge_adapter and self.adapter_path is None:
            raise UserError("merge_adapter is set without adapter_path: there is no adapter to merge")
        if self.adapter_path is not None and not (self.use_lora or self.merge_adapter):
            raise UserError(
                "use_lora is off and adapter_path is given: set merge_adapter to train all weights of the merged policy"
            )
        return self
