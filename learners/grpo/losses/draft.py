"""DRaFT-K (Clark et al. 2023, 2309.17400): the reward's gradient through the last K denoising steps.

With all steps it is DRaFT, the exact gradient of the reward of what the deterministic sampler makes; memory grows with
K, unless the steps are computed again for the gradient (`gradient_checkpointing`).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from learners.grpo.gradients.loss import GradientInputs, gradient_loss
from learners.grpo.settings import GRPOSettings


def last_steps(settings: GRPOSettings, num_steps: int, rng: np.random.Generator) -> tuple[int, ...]:
    """The first of the last `draft_steps` positions."""
    return (max(num_steps - settings.draft_steps, 0),)


@gradient_loss(last_steps)
def draft_loss(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
    """Loss of the final motion."""
    return inputs.loss_of(inputs.finish(settings.gradient_checkpointing))
