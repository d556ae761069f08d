"""What a policy is asked to do: the conditions of prompts, and the rollout requests of an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from motions.base.errors import MistakesError, UserError
from motions.data.prompts import Prompt, Segment
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.policy import Policy
from rollouts.settings import Denoising
from rollouts.text.conditions import composed_conditions, pooled_conditions
from rollouts.text.encoders import TextEncoder, UnknownWordsError

logger = logging.getLogger(__name__)


def prompt_conditions(policy: Policy, encoder: TextEncoder, prompts: Sequence[Prompt]) -> list[TextCondition]:
    """What the policy reads of each prompt: the whole text, or with `composite_denoising composed` the texts of its
    segments. Warns of prompts with words that the encoder does not know, and of motions that are longer than any the
    policy has seen.

    Raises:
        PromptTooLongError: a text is over the text encoder's limit and cannot be cut.
        MistakesError: prompts that have no word that the encoder knows, a line for each.
        UserError: a motion is too long, or the overlap leaves no room for a segment.
    """
    sampling, form = policy.sampling, policy.network.text_form
    _check_words(encoder, prompts)
    if sampling.composite_denoising == "composed":
        _tell_of_long_motions(policy, prompts)
        return composed_conditions(encoder, prompts, form, policy.trained_frames, sampling.composite_overlap)
    for prompt in prompts:
        if policy.max_frames is not None and prompt.num_frames > policy.max_frames:
            raise UserError(
                f"prompt {prompt.text!r:.100} lasts {prompt.num_frames} frames; at most {policy.max_frames} are "
                "possible, unless --composite_denoising composed cuts it into segments"
            )
    _tell_of_long_motions(policy, prompts)
    return pooled_conditions(encoder, prompts, form)


def _check_words(encoder: TextEncoder, prompts: Sequence[Prompt]) -> None:
    unreadable = []
    for number, prompt in enumerate(prompts, start=1):
        for text in dict.fromkeys((prompt.text, *(segment.text for segment in prompt.segments))):
            try:
                unknown = encoder.unknown_words(text)
                encoder.require_known(text)
            except UnknownWordsError as error:
                unreadable.append(f"prompt {number}: {error}")
                continue
            if unknown:
                logger.warning(
                    "prompt %d %r: text_encoder %s does not know %s, and takes all such words for one and the same",
                    *(number, text, encoder.name, ", ".join(map(repr, unknown))),
                )
    if unreadable:
        raise MistakesError(unreadable)


def _tell_of_long_motions(policy: Policy, prompts: Sequence[Prompt]) -> None:
    composed = policy.sampling.composite_denoising == "composed"
    parts = [
        (number, segment.num_frames)
        for number, prompt in enumerate(prompts, start=1)
        for segment in (prompt.segments if composed else (Segment(prompt.text, prompt.num_frames),))
    ]
    longer = [(number, frames) for number, frames in parts if frames > policy.trained_frames]
    if not longer:
        return
    number, frames = max(longer, key=lambda part: part[1])
    how = "it is made of several motions of the same text, one after the other" if composed else "expect it to degrade"
    logger.warning(
        "prompt %d lasts %d frames (%.1f s), and the longest motion the policy was trained on %d (%.1f s): %s; %d of "
        "%d prompts are longer",
        *(number, frames, frames / policy.skeleton.fps, policy.trained_frames),
        *(policy.trained_frames / policy.skeleton.fps, how, len({each for each, _ in longer}), len(prompts)),
    )


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
