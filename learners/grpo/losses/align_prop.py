"""AlignProp (Prabhudesai et al. 2023, 2310.03739): the reward's gradient through a random number of last steps.

Each update draws the number of steps, from one to all, so that no step is never trained and the gradient through many
steps, which is noisy, does not dominate. States between the steps are kept and the steps computed again for their
gradient.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from learners.grpo.gradients.loss import GradientInputs, gradient_loss
from learners.grpo.settings import GRPOSettings


def random_start(settings: GRPOSettings, num_steps: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Any of the positions."""
    return (int(rng.integers(num_steps)),)


@gradient_loss(random_start)
def align_prop_loss(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
    """Loss of the final motion."""
    return inputs.loss_of(inputs.finish(True))
