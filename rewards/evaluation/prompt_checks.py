"""Checks the prompts of a GRPO run against all limits before anything starts.

A prompt that is too long for the network, a reward or the judge would otherwise end the run at the step that uses it,
possibly hours later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from rewards.scorers import LimitsPrompts
from rewards.tmr.scorer import Embedder
from rewards.validation import shortened


def check_prompts(
    source: str,
    prompts: Sequence[Prompt],
    max_frames: int | None,
    scorers: Iterable[LimitsPrompts],
    judge: Embedder | None,
) -> None:
    """Raises an error for the first prompt that exceeds a limit.

    Args:
        source: where the prompts come from, for the message.
        max_frames: most frames that the policy denoises as a whole; None where it cuts longer motions into segments.
        scorers: those that say which prompts they cannot score.
        judge: the evaluating TMR, which reads the texts of all segments.

    Raises:
        UserError: names source, prompt, value and limit.
    """
    for number, prompt in enumerate(prompts, start=1):
        misfits = [_too_long(prompt, max_frames), *(scorer.misfit(prompt) for scorer in scorers)]
        if judge is not None:
            misfits.append(judge.text_misfit("judge", [segment.text for segment in prompt.segments]))
        if misfit := next((found for found in misfits if found), None):
            raise UserError(f"{source}, prompt {number} {shortened(prompt.text)!r}: {misfit}")


def _too_long(prompt: Prompt, max_frames: int | None) -> str | None:
    if max_frames is None or prompt.num_frames <= max_frames:
        return None
    return (
        f"it lasts {prompt.num_frames} frames; the policy makes at most {max_frames}, unless --composite_denoising "
        "composed cuts longer motions into segments"
    )
