"""Prompts: what a motion is asked to be, with its segments and their lengths in frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """One action of a prompt.

    Example:
        Segment(text="a person walks forward", num_frames=60)
    """

    text: str
    num_frames: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with one segment (a single prompt) or several (a composite prompt).

    Example:
        Prompt(text="walks forward, then kicks", segments=(Segment("walks forward", 60), Segment("kicks", 30)))
    """

    text: str
    segments: tuple[Segment, ...]

    @property
    def num_frames(self) -> int:
        """Length of the whole motion in frames."""
        return sum(segment.num_frames for segment in self.segments)

    @property
    def boundaries(self) -> tuple[tuple[int, int], ...]:
        """Half-open frame ranges of the segments."""
        ends = []
        start = 0
        for segment in self.segments:
            ends.append((start, start + segment.num_frames))
            start += segment.num_frames
        return tuple(ends)
