"""Builds the rollout requests of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from motions.data.prompts import Prompt
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.settings import Denoising


def evaluation_requests(
    prompts: Sequence[Prompt],
    conditions: Sequence[TextCondition],
    num_samples: int,
    seed: int,
    policy_version: int,
    stochastic_steps: tuple[int, ...] = (),
    denoising: Denoising | None = None,
) -> list[RolloutRequest]:
    """One request per prompt, in which each sample has its own initial noise; a function of the arguments.

    Args:
        conditions: the prompts' encoded texts.
        stochastic_steps: positions that draw noise; none for the deterministic sampler.
        denoising: as in `RolloutRequest`.
    """

    return [
        RolloutRequest(
            step=0,
            prompt_index=index,
            prompt=prompt,
            condition=conditions[index],
            num_samples=num_samples,
            seed=seed,
            stochastic_steps=stochastic_steps,
            trained_steps=(),
            share_initial_noise=False,
            policy_version=policy_version,
            denoising=denoising,
        )
        for index, prompt in enumerate(prompts)
    ]
