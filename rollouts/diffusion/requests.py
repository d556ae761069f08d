"""The rollout requests of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motions.data.prompts import Prompt
    from rollouts.messages import RolloutRequest
    from rollouts.text.encoders import TextEncoder


def evaluation_requests(
    prompts: Sequence[Prompt],
    encoder: TextEncoder,
    num_samples: int,
    seed: int,
    policy_version: int,
    stochastic_steps: tuple[int, ...] = (),
) -> list[RolloutRequest]:
    """One request per prompt, each sample with its own starting noise; a function of the arguments.

    Args:
        stochastic_steps: none for the deterministic sampler.
    """
    from rollouts.messages import RolloutRequest, TextCondition

    pooled = encoder.encode_pooled([prompt.text for prompt in prompts])
    return [
        RolloutRequest(
            step=0,
            prompt_index=index,
            prompt=prompt,
            condition=TextCondition(values=pooled[index][None]),
            num_samples=num_samples,
            seed=seed,
            stochastic_steps=stochastic_steps,
            trained_steps=(),
            share_initial_noise=False,
            policy_version=policy_version,
        )
        for index, prompt in enumerate(prompts)
    ]
