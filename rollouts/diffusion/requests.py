"""What a policy is asked to do: the conditions of prompts, and the rollout requests of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from motions.base.errors import UserError
from motions.data.prompts import MAX_FRAMES, Prompt
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.settings import Denoising
from rollouts.text.conditions import composed_conditions
from rollouts.text.encoders import TextEncoder


def prompt_conditions(policy: DiffusionPolicy, encoder: TextEncoder, prompts: Sequence[Prompt]) -> list[TextCondition]:
    """What the policy reads of each prompt: the whole text, or with `composite_denoising composed` the texts of its
    segments.

    Raises:
        PromptTooLongError: a text is over the text encoder's limit and cannot be cut.
        UserError: a motion is too long, or the overlap leaves no room for a segment.
    """
    sampling, form = policy.sampling, policy.network.text_form
    if sampling.composite_denoising == "composed":
        return composed_conditions(encoder, prompts, form, policy.trained_frames, sampling.composite_overlap)
    for prompt in prompts:
        if prompt.num_frames > MAX_FRAMES:
            raise UserError(
                f"prompt {prompt.text!r:.100} lasts {prompt.num_frames} frames; at most {MAX_FRAMES} are possible, "
                "unless --composite_denoising composed cuts it into segments"
            )
    return encoder.conditions([prompt.text for prompt in prompts], form)


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
