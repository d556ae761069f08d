"""MDM's training loss on real clips, as a part of another training of the same policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from learners.supervised.diffusion import diffusion_loss, supervised_batch
from motions.data.text_motion import TextMotion, sample_batch
from rollouts.diffusion.policy import require_denoising
from rollouts.policy import Policy
from rollouts.text.encoders import TextEncoder

_DROPPED_TEXTS = 0.1
"""Share of clips without their text, where the policy is guided and needs to denoise without one; as MDM trains."""


class ClipLoss:
    """Plain diffusion loss of drawn clips, at all noise levels of the policy's sampler, in eval mode.

    Clips, levels and noise are a function of (seed, update, optimizer step).
    """

    def __init__(
        self,
        clips: Sequence[TextMotion],
        encoder: TextEncoder,
        *,
        batch_size: int,
        max_frames: int,
        seed: int,
    ) -> None:
        self._clips = clips
        self._encoder = encoder
        self._batch_size = batch_size
        self._max_frames = max_frames
        self._seed = seed

    def __call__(self, policy: Policy, update: int, optimizer_step: int) -> Tensor:
        """Mean loss of a batch; carries the gradient."""
        policy = require_denoising(policy, "mdm_loss_weight")
        rng = np.random.default_rng([self._seed, update, optimizer_step])
        drawn = sample_batch(self._clips, rng, self._batch_size, self._max_frames)
        batch = supervised_batch(drawn, policy.normalizer, self._encoder, policy.network.text_form).to(policy.device)
        size, num_frames = batch.features.shape[:2]
        levels = torch.from_numpy(rng.integers(policy.schedule.num_steps, size=size))
        noise = torch.from_numpy(rng.standard_normal(tuple(batch.features.shape), np.float32)).to(policy.device)
        share = _DROPPED_TEXTS if policy.sampling.guidance_scale not in (0.0, 1.0) else 0.0
        drop = torch.from_numpy(rng.random(size) < share).to(policy.device)
        mask = torch.arange(num_frames, device=policy.device) < batch.lengths.to(policy.device)[:, None]
        return diffusion_loss(
            policy.network,
            policy.schedule,
            batch.features,
            levels,
            noise,
            batch.text,
            mask,
            text_mask=batch.text_mask,
            drop_text=drop,
        ).loss.mean()
