"""Checks the prompts of a GRPO run against all length limits before anything starts.

A prompt that is too long for the network, the dense reward or a text encoder would otherwise end the run at the step
that uses it, possibly hours later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motions.base.errors import UserError
from motions.data.prompts import MIN_SEGMENT_FRAMES, Prompt
from rewards.settings import RewardSettings
from rewards.tmr.scorer import TokenEncoder, judged_texts


@dataclass(frozen=True)
class PromptLimits:
    """Limits that every prompt must satisfy."""

    max_frames: int | None
    """Most frames that the policy denoises as a whole; None where it cuts longer motions into segments."""
    rewards: RewardSettings
    """Determine whether segments are scored one by one, and how many frames of a motion are used."""
    reward_encoder: TokenEncoder | None
    """Encodes the texts of the semantic reward; None where it is off."""
    judge_encoder: TokenEncoder | None
    """Encodes the texts of all segments for the evaluating TMR; None if there is none."""


def check_prompts(source: str, prompts: Sequence[Prompt], limits: PromptLimits) -> None:
    """Raises an error for the first prompt that exceeds a limit.

    Args:
        source: where the prompts come from, for the message.

    Raises:
        UserError: names source, prompt, value and limit.
    """

    for number, prompt in enumerate(prompts, start=1):
        readers: dict[str, tuple[TokenEncoder, list[str]]] = {}
        if limits.reward_encoder is not None:
            readers["reward"] = (limits.reward_encoder, judged_texts(prompt, limits.rewards))
        if limits.judge_encoder is not None:
            readers["judge"] = (limits.judge_encoder, [segment.text for segment in prompt.segments])
        if misfit := _frames_misfit(prompt, limits) or _text_misfit(readers):
            raise UserError(f"{source}, prompt {number} {_shortened(prompt.text)!r}: {misfit}")


def _frames_misfit(prompt: Prompt, limits: PromptLimits) -> str | None:

    if limits.max_frames is not None and prompt.num_frames > limits.max_frames:
        return (
            f"it lasts {prompt.num_frames} frames; the policy makes at most {limits.max_frames}, unless "
            "--composite_denoising composed cuts longer motions into segments"
        )
    judged = limits.rewards.max_motion_length
    if limits.rewards.use_dense_reward:
        for place, (start, end) in enumerate(prompt.boundaries, start=1):
            if min(end, judged) - start < MIN_SEGMENT_FRAMES:
                return (
                    f"its segment {place} is frames {start} to {end}; rewards look at the first {judged} "
                    f"(max_motion_length), and the dense reward needs {MIN_SEGMENT_FRAMES} of every segment"
                )
    return None


def _text_misfit(readers: Mapping[str, tuple[TokenEncoder, list[str]]]) -> str | None:
    for name, (encoder, texts) in readers.items():
        if encoder.truncate:
            continue
        for text in texts:
            if (num_tokens := encoder.num_tokens(text)) > encoder.max_tokens:
                return (
                    f"the {name} reads {_shortened(text)!r}, {num_tokens} tokens; its text encoder "
                    f"{encoder.name} reads at most {encoder.max_tokens}. Shorten it, split it into segments, or set "
                    "--truncate_text"
                )
    return None


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
