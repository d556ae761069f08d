"""Where a prompt asks for somebody who does not move: there, a motion that stands still is no cheat."""

from __future__ import annotations

import re

import numpy as np

from motions.data.prompts import Prompt

_POSTURE = (
    "stand|stands|standing|stay|stays|staying|remain|remains|remaining|sit|sits|sitting|lie|lies|lying|kneel|kneels"
)
_STILL = re.compile(
    rf"\b(?:(?:{_POSTURE}|hold|holds|holding|keep|keeps|keeping)\s+(?:\w+ly\s+)?still\b"
    rf"|(?:{_POSTURE})\s+(?:(?:up|down|upright|there|here|in place)\s+)?(?:\w+ly\s+)?still\b"
    r"|motionless\b|immobile\b|freeze\b|freezes\b|frozen\b"
    r"|(?:does not|doesn't|do not|don't|not|without|stop|stops)\s+(?:move|moving)\b)",
    re.IGNORECASE,
)


def asks_for_stillness(text: str) -> bool:
    """Whether a text asks for a body that does not move.

    Example:
        asks_for_stillness("a person stands still")          # True
        asks_for_stillness("a person is still walking")      # False
    """
    return _STILL.search(text) is not None


def moving_frames(prompt: Prompt) -> np.ndarray:
    """Frames [T] of the prompt in which it asks for motion: all but those of segments that ask for stillness."""
    return np.concatenate(
        [np.full(segment.num_frames, not asks_for_stillness(segment.text)) for segment in prompt.segments]
    )
