"""Options of the policy and of how it is sampled; imports neither torch nor ray.

Step positions count along the (respaced) denoising sequence, 0 = noisiest. The defaults of the SDE window are the ones
that learned on real clips: two stochastic steps among the first five, one shared starting noise per group. With every
step stochastic and trained, the update is mostly noise.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from motions.settings import Settings

SamplerName = Literal["ddpm", "ddim"]
AmpDtype = Literal["fp32", "bf16", "fp16"]


class SamplingSettings(Settings):
    """How motions are drawn from a diffusion policy, in rollouts and in scoring alike."""

    sampler: SamplerName = "ddpm"
    """Gaussian of a stochastic step: the DDPM posterior, or DDIM with `eta`. Deterministic steps are DDIM with eta
    0."""
    sampling_steps: int | None = Field(default=None, ge=1)
    """Denoising steps kept of the model's schedule (evenly respaced); by default all of them."""
    eta: float = Field(default=1.0, gt=0.0, le=1.0)
    """Noise level of stochastic DDIM steps; 1 equals the DDPM posterior."""
    guidance_scale: float = Field(
        default=2.5, ge=0.0, validation_alias=AliasChoices("guidance_scale", "guidance_param")
    )
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional). 1 needs no unconditional
    pass."""
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
    amp_dtype: AmpDtype = "fp32"
    """Precision of the network in sampling and scoring. The arithmetic of the steps is fp32 always."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where the policy runs: auto (a GPU if there is one), cpu, mps, cuda, cuda:1, or the number of a GPU."""

    @field_validator("device", mode="before")
    @classmethod
    def _gpu_number(cls, value: object) -> object:
        """A bare number names a GPU, as in MDM's command line."""
        text = str(value)
        return f"cuda:{text}" if text.isdecimal() and not isinstance(value, bool) else value
