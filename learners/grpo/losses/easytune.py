"""Step-aware tuning, as EasyTune does: each denoising step is trained by itself, one at a time.

The gradient of a reward through a chain of steps needs all of them in memory and becomes noisy. Here the state before a
step is a constant, the reward is that of the motion predicted in it, and every step has an optimizer step of its own.
The states are those of the update's rollout: those of late steps were made before the update's first optimizer steps.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from learners.grpo.gradients.loss import GradientInputs, gradient_loss
from learners.grpo.settings import GRPOSettings


def drawn_steps(settings: GRPOSettings, num_steps: int, rng: np.random.Generator) -> tuple[int, ...]:
    """All positions, or `tuned_steps` drawn ones."""
    if not settings.tuned_steps:
        return tuple(range(num_steps))
    return tuple(sorted(rng.choice(num_steps, size=min(settings.tuned_steps, num_steps), replace=False).tolist()))


@gradient_loss(drawn_steps, one_step_at_a_time=True)
def easytune_loss(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
    """Loss of the predicted motion."""
    return inputs.loss_of(inputs.policy.x0)
