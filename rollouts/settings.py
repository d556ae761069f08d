"""Options of the policy and of its sampling; imports neither torch nor ray.

Positions of steps count along the (respaced) denoising sequence, 0 = noisiest. The defaults of the SDE window worked
best on motion capture: two stochastic steps among the first five, and shared initial noise per group. If every step is
stochastic and trained, the update is mostly noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from motions.base.errors import UserError
from motions.base.named import require_named
from motions.settings import BUILTIN, Affects, Effect, Retired, Settings, redeclared
from rollouts.registry import DENOISERS, DETERMINISTIC_SAMPLERS, NOISE_SCALES, SAMPLERS

AmpDtype = Literal["fp32", "bf16", "fp16"]
Blend = Literal["linear", "smooth", "cut"]
ScanBackend = Literal["auto", "ssd", "loop", "mamba_ssm"]
Decay = Literal["head", "channel", "shared"]
"""Where the rates of a state-space layer differ: `head`, one for each head of up to 64 channels (Mamba-2); `channel`,
one for each channel and state (Mamba-1); `shared`, one for each state, the same for all channels."""
RefinerGate = Literal["sigmoid", "concat", "none"]
"""How a refiner mixes what its scan says with constraints: by a gate, by a matrix, or without constraints."""
RefinerConstraints = Literal["state", "projected"]
"""Constraints of a refiner: an embedding of the physics state, or of what planting the feet changes."""


TrainedPart = Literal["prior", "decoder", "both"]
"""What of a policy of one action learns: the mean of its actions, what makes a motion of an action, or both."""


class DeviceSettings(Settings):
    """Device of the networks."""

    affects: ClassVar[Affects] = "speed"

    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Device of the network: auto (a GPU if there is one), cpu, mps, cuda, cuda:1, or the number of a GPU."""

    @field_validator("device", mode="before")
    @classmethod
    def _gpu_number(cls, value: object) -> object:
        """A number alone means a GPU, as on MDM's command line."""
        text = str(value)
        return f"cuda:{text}" if text.isdecimal() and not isinstance(value, bool) else value


class ScanSettings(Settings):
    """How scans of state-space networks are computed."""

    scan_backend: ScanBackend = "auto"
    """How a state-space network (arch mamba) computes its scans over time: `ssd` (products of matrices over chunks of
    frames; for `ssm_decay` head), `loop` (frame by frame), `mamba_ssm` (that package's kernels, on an NVIDIA GPU where
    it is installed; gradients are then not reproducible to the last bit), or `auto`: mamba_ssm where it can be, else
    ssd where it can be. Results differ by rounding."""


@dataclass(frozen=True, slots=True)
class Denoising:
    """How a policy denoises; the fields are those of `DenoisingSettings`."""

    sampler: str
    sampling_steps: int | None
    eta: float
    guidance_scale: float
    composite_overlap: int = 3
    composite_blend: Blend = "linear"
    noise_scale: float | None = None

    @property
    def scale(self) -> float:
        """`noise_scale`, by default that of the sampler's paper, and 1 for a class of one's own."""
        return NOISE_SCALES.get(self.sampler, 1.0) if self.noise_scale is None else self.noise_scale


class DenoisingSettings(DeviceSettings, ScanSettings):
    """How a diffusion policy denoises, in rollouts, scoring and generation alike."""

    device: str = redeclared(DeviceSettings, "device", affects="results")

    sampler: str = "ddpm"
    """What a denoising step does: `ddpm` (the posterior; all steps make ancestral sampling), `ddim` (with `eta`),
    `flow_sde` (Flow-GRPO's), `dance_sde` (DanceGRPO's) and `cps` (coefficient-preserving), all three with
    `noise_scale`, `dpmpp_2m` (DPM-Solver++: draws no noise, and needs few steps), or `package.module:Class`. Steps
    without noise are DDIM with eta 0, but for the last two."""
    sampling_steps: int | None = Field(default=None, ge=1)
    """Number of denoising steps, evenly selected from the model's noise schedule; by default all."""
    eta: float = Field(default=1.0, gt=0.0, le=1.0)
    """Noise level of stochastic DDIM steps; 1 equals the DDPM posterior."""
    noise_scale: float | None = Field(default=None, gt=0.0, le=10.0)
    """Noise of the steps of `flow_sde` (by default 0.7), `dance_sde` (0.3) and `cps` (0.7, at most 1)."""
    guidance_scale: float = Field(
        default=2.5, ge=0.0, validation_alias=AliasChoices("guidance_scale", "guidance_param")
    )
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional); 1 needs one pass only."""
    composite_denoising: Literal["pooled", "composed"] = "pooled"
    """How composite prompts are denoised. `pooled`: the whole motion under the whole text. `composed`: at every step
    the frames of each segment under the segment's own text, blended at the borders; then texts over the text encoder's
    limit and motions longer than those that the model was trained on are cut into segments too. Other prompts are
    denoised in the same way by both."""
    composite_overlap: int = Field(default=3, ge=0)
    """Composed denoising: frames that a segment's prediction reaches beyond its borders, where it is blended with its
    neighbour's."""
    composite_blend: Blend = "linear"
    """Weights of the two predictions across a border: `linear`, `smooth` (flat at both ends), or `cut` (each frame is
    its own segment's; the overlap is context only)."""
    amp_dtype: AmpDtype = "fp32"
    """Precision of the network in sampling and scoring. The arithmetic of the steps is always fp32."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        return require_named("sampler", value, SAMPLERS)

    @property
    def denoising(self) -> Denoising:
        """What of it a single rollout may do differently."""
        return Denoising(
            sampler=self.sampler,
            sampling_steps=self.sampling_steps,
            eta=self.eta,
            guidance_scale=self.guidance_scale,
            composite_overlap=self.composite_overlap,
            composite_blend=self.composite_blend,
            noise_scale=self.noise_scale,
        )

    @model_validator(mode="after")
    def _noise_scale_is_heard(self) -> Self:
        if self.noise_scale is not None and self.sampler in SAMPLERS and self.sampler not in NOISE_SCALES:
            raise UserError(
                f"noise_scale is {self.noise_scale:g}, which sampler {self.sampler} does not have; it belongs to "
                f"{', '.join(NOISE_SCALES)} (grpo_type flow_grpo chooses flow_sde)"
            )
        return self


FLOW_GRPO: Mapping[str, object] = {
    "sampler": "flow_sde",
    "sampling_steps": 10,
    "eval_sampling_steps": 40,
    "sde_window": 0,
    "share_initial_noise": False,
}
"""What `grpo_type flow_grpo` means for options that are not given."""


class SamplingSettings(DenoisingSettings):
    """Which steps of a rollout are stochastic, and which of those are trained."""

    grpo_type: Literal["normal_grpo", "flow_grpo"] = "normal_grpo"
    """`flow_grpo` gives other options the values of Flow-GRPO where they are not given: sampler flow_sde, 10
    sampling_steps (`--train_timesteps`), 40 eval_sampling_steps (`--inference_timesteps`), every step but the last
    stochastic and trained (sde_window 0), initial noise of each sample's own (share_initial_noise off). The policy is
    the diffusion model that it was, whose steps are taken on the path of the rectified flow. `normal_grpo`: the
    defaults as they stand."""
    sampling_steps: int | None = redeclared(
        DenoisingSettings, "sampling_steps", spellings=("sampling_steps", "train_timesteps")
    )
    sde_window: int = Field(default=2, ge=0)
    """Number of consecutive stochastic steps of a rollout; 0 makes all steps stochastic but the noiseless last one."""
    sde_window_start: int = Field(default=4, ge=1)
    """The window of stochastic steps begins at a position among this many first ones."""
    sde_window_strategy: Literal["random", "progressive", "decay", "exp_decay", "roll_back"] = "random"
    """Where the window begins in an update. `random`: drawn anew for each. The others are MixGRPO's, and move it from
    the noisiest position to the last one in steps of one: `progressive` after every `sde_window_updates` updates;
    `decay` stays the shorter the further it is, linearly; `exp_decay` from the 14th position on, exponentially;
    `roll_back` is progressive, and begins again after the last position, where the others stay."""
    sde_window_updates: int = Field(default=25, ge=1)
    """Updates for which a moving window stays at its first position."""
    timestep_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    """Fraction of the stochastic steps that is trained: a random subset for every group, with at least one step."""
    share_initial_noise: bool = Field(
        default=True, validation_alias=AliasChoices("share_initial_noise", "init_same_noise")
    )
    """Use the same initial noise for all samples of a group; they then differ only through their stochastic steps."""
    rollout_sampler: str | None = None
    """Sampler of the training's rollouts where the policy loss reads final motions only; by default `sampler`, whose
    KL to the reference is then punished nonetheless."""
    rollout_sampling_steps: int | None = Field(default=None, ge=1)
    """Denoising steps of the training's rollouts where the policy loss reads final motions only, whose levels of noise
    remain those of `sampling_steps`; by default the same. More make better motions and take longer."""
    eval_sampler: Annotated[str | None, Effect("evaluation")] = None
    """Sampler of evaluations, and of the trained policy in `jobs.generate`; by default the training's. Without noise
    (`eval_eta` 0) ddpm and ddim are the same, and `dpmpp_2m` is nearer to the result of many steps."""
    eval_sampling_steps: Annotated[int | None, Effect("evaluation")] = Field(
        default=None, ge=1, validation_alias=AliasChoices("eval_sampling_steps", "inference_timesteps")
    )
    """Denoising steps of evaluations and of the trained policy; by default the training's."""
    eval_eta: Annotated[float, Effect("evaluation")] = Field(default=0.0, ge=0.0, le=1.0)
    """Noise of every step but the last of an evaluation. 0 draws none, so that motions before and after the training
    differ by the policy alone; above 0 it is the noise level of ddim, and 1 switches that of the other samplers on."""
    eval_guidance_scale: Annotated[float | None, Effect("evaluation")] = Field(default=None, ge=0.0)
    """Classifier-free guidance of evaluations and of the trained policy; by default the training's."""

    @field_validator("eval_sampler", "rollout_sampler")
    @classmethod
    def _known_other_sampler(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value if value is None else require_named(str(info.field_name), value, SAMPLERS)

    @model_validator(mode="before")
    @classmethod
    def _values_of_the_type(cls, given: object) -> object:
        if not isinstance(given, Mapping) or given.get("grpo_type") != "flow_grpo":
            return given
        meant = {name: value for name, value in FLOW_GRPO.items() if not _spellings(cls, name) & given.keys()}
        return {**given, **meant}

    @model_validator(mode="after")
    def _window_can_move(self) -> Self:
        if self.sde_window == 0 and self.sde_window_strategy != "random":
            raise UserError(
                f"sde_window_strategy is {self.sde_window_strategy} and sde_window 0, where all steps are stochastic; "
                "give the window a length"
            )
        return self

    @model_validator(mode="after")
    def _type_has_its_samplers(self) -> Self:
        if self.grpo_type == "flow_grpo" and self.sampler in SAMPLERS and self.sampler not in NOISE_SCALES:
            raise UserError(
                f"grpo_type is flow_grpo and sampler {self.sampler}, which knows no flow; give --sampler flow_sde"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_noise(self) -> Self:
        name = self.evaluation.sampler
        if name in ("ddpm", *NOISE_SCALES) and self.eval_eta not in (0.0, 1.0):
            raise UserError(f"eval_eta is {self.eval_eta}: {name} has noise (1) or none (0); give eval_sampler ddim")
        if name in DETERMINISTIC_SAMPLERS and self.eval_eta:
            raise UserError(f"eval_eta is {self.eval_eta}: {name} never draws noise; give eval_eta 0")
        return self

    @property
    def rollout(self) -> Denoising | None:
        """How rollouts denoise, where that is not the policy's own way."""
        steps = self.rollout_sampling_steps
        if steps is None and self.rollout_sampler is None:
            return None
        return dataclasses.replace(
            self.denoising,
            sampler=self.rollout_sampler or self.sampler,
            sampling_steps=self.sampling_steps if steps is None else steps,
        )

    @property
    def evaluation(self) -> Denoising:
        """How evaluations denoise."""
        steps, scale = self.eval_sampling_steps, self.eval_guidance_scale
        return dataclasses.replace(
            self.denoising,
            sampler=self.eval_sampler or self.sampler,
            sampling_steps=self.sampling_steps if steps is None else steps,
            eta=self.eval_eta,
            guidance_scale=self.guidance_scale if scale is None else scale,
        )


def _spellings(model: type[Settings], name: str) -> set[str]:
    """All names of a field."""
    alias = model.model_fields[name].validation_alias
    return {name, *(map(str, alias.choices) if isinstance(alias, AliasChoices) else ())}


class TextEncoderSettings(Settings):
    """Text encoder and limits of its texts."""

    text_encoder: str = Field(
        default="minilm", min_length=1, validation_alias=AliasChoices("text_encoder", "text_encoder_type")
    )
    """Text encoder: `minilm` (offline), `clip`, or `package.module:Class`."""

    text_encoder_path: str | None = Field(default=None, min_length=1)
    """Local folder or hub id of the text encoder's weights; by default the installed package (minilm) or the hub."""

    max_text_tokens: int | None = Field(default=None, ge=2)
    """Longest text in tokens, special tokens included; by default the encoder's limit (clip 22, minilm 256)."""

    truncate_text: bool = False
    """Truncate longer texts at the limit, as MDM does; otherwise they are an error. It also applies to the text
    encoders of rewards and evaluation, at their own limits."""


class CheckpointSettings(TextEncoderSettings):
    """The policy's checkpoint, text encoder and adapters."""

    model_path: str = Field(default=BUILTIN, min_length=1)
    """Checkpoint of the base policy: `builtin` (weights that come with kinetune), an MDM file such as
    `save/humanml_enc_512_50steps/model000750000.pt` with `args.json` beside it, or its folder (the latest step)."""

    policy_type: Literal["auto", "diffusion", "motion_ssm", "physics_ssm", "retrieval"] = "auto"
    """Kind of the policy: `diffusion` (an MDM), `motion_ssm` (a folder of `jobs.train_motion_ssm`, a policy of one
    action), or `auto`, what the checkpoint is. `physics_ssm`, of jobs.grpo only: the refiner of `refiner_path` learns,
    on motions of the frozen checkpoint. `retrieval`, of jobs.generate only: training motions are looked up."""

    arch: str = "auto"
    """Architecture of the network: `auto` (what args.json says), a name that args.json may hold, or a class of your own
    as `package.module:Class`, which only this option imports, not args.json."""

    use_ema: bool | None = None
    """Use the averaged (`model_avg`) or the last weights of a checkpoint with both; by default as args.json says."""

    stats_path: str | None = Field(default=None, min_length=1)
    """Folder with the `Mean.npy` and `Std.npy` that the policy was trained with (HumanML3D's own folder for MDM's
    published models); by default the folder of the checkpoint."""

    skeleton: str | None = Field(default=None, min_length=1)
    """Skeleton of the policy's features, `humanml3d` or `kit`; by default what args.json says."""

    adapter_path: str | None = Field(default=None, min_length=1)
    """Folder of a LoRA adapter in peft's format to start from. Its own r, alpha and targets are used; the reference
    policy is the base without it, unless `merge_adapter` is set."""

    allow_other_base: bool = False
    """Load an adapter even if it was trained on other base weights."""

    text_encoder: str = Field(
        default="auto", min_length=1, validation_alias=AliasChoices("text_encoder", "text_encoder_type")
    )
    """`auto` (the one that the checkpoint was trained with), `minilm` (offline), `clip`, `distilbert` (one embedding
    per token, for networks that attend to them), or `package.module:Class`."""

    text_cache_dir: str | None = Field(default=None, min_length=1)
    """Folder for text embeddings, shared between runs and processes; by default they are kept in memory only."""

    @field_validator("arch")
    @classmethod
    def _known_arch(cls, value: str) -> str:
        return value if value == "auto" else require_named("arch", value, DENOISERS)


class PolicySettings(CheckpointSettings):
    """Low-rank adapters (LoRA) that are trained on a frozen base."""

    retired: ClassVar[Mapping[str, Retired]] = {
        "lora_dropout": Retired(
            ("0", "0.0"),
            "the policy acts in eval mode, where dropout does nothing, and in train mode it would make rollout and "
            "scoring disagree, so that the ratio does not start at 1",
        )
    }

    ref_model_path: str | None = Field(default=None, min_length=1)
    """Checkpoint of another policy that the KL penalty refers to, with the denoising steps, statistics and text encoder
    of `model_path`; by default the policy as it is before the training."""

    merge_adapter: bool = False
    """Merge `adapter_path` into the base first: the merged policy is the reference, and new adapters start at 0."""

    refiner_path: str | None = Field(default=None, min_length=1)
    """policy_type physics_ssm: folder of the refiner (`jobs.train_physics_ssm`) that learns a residual."""

    train: TrainedPart = "prior"
    """policy_type motion_ssm: what learns. `prior`: the mean of the actions, by text and time; with losses of steps
    (`policy_loss clipped`, `spo`, `dppo`) nothing else can, since the probability of an action does not depend on what
    is made of it. `decoder`: what makes a motion of an action, and `both`: with losses that follow the gradient of the
    reward."""

    use_lora: bool = False
    """Train low-rank adapters on a frozen base, which is then also the reference. Otherwise train all weights. Adapters
    need a larger learning rate."""

    lora_r: int = Field(default=8, ge=1, le=4096)
    """Rank of the adapters."""

    lora_alpha: int = Field(default=16, ge=1)
    """Adapters are scaled by lora_alpha / lora_r."""

    lora_target_spec: str = Field(default="all", min_length=1)
    """Layers with adapters: `attn` (q, k, v, out; of arch mamba in_proj, x_proj, out_proj), `ffn`, `text`, `all`
    (those, and the input and output projections), or module names, separated by commas."""

    lora_seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the adapters' random factor; the other factor is 0, so that the policy starts as the base."""

    @model_validator(mode="after")
    def _is_a_model(self) -> Self:
        if self.policy_type == "retrieval":
            raise UserError("policy_type is retrieval, which is no model to train; jobs.generate looks motions up")
        if (self.policy_type == "physics_ssm") != (self.refiner_path is not None):
            raise UserError(
                f"policy_type is {self.policy_type} and refiner_path {self.refiner_path}: jobs.grpo trains a refiner "
                "with both; to generate or measure with one, give its folder as refiner"
            )
        return self

    @model_validator(mode="after")
    def _adapters_have_a_place(self) -> Self:
        if self.merge_adapter and self.adapter_path is None:
            raise UserError("merge_adapter is set without adapter_path: there is no adapter to merge")
        if self.adapter_path is not None and not (self.use_lora or self.merge_adapter):
            raise UserError(
                "use_lora is off and adapter_path is given: set use_lora to train the adapters on, or merge_adapter to "
                "train all weights of the merged policy"
            )
        return self
