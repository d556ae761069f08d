"""Real motions of the prompts of an evaluation: what a figure is for people, beside what it is for a policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motions.data.composites import join_motions
from motions.data.prompts import Prompt
from motions.data.text_motion import TextMotion
from motions.skeleton.skeletons import Skeleton
from rollouts.messages import GroupMotions


class RealMotions:
    """Held-out motions, found by their captions.

    Args:
        items: of the split that the prompts' captions come from.
    """

    def __init__(self, items: Sequence[TextMotion], skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._by_caption: dict[str, list[TextMotion]] = {}
        for item in items:
            for caption in item.captions:
                self._by_caption.setdefault(caption, []).append(item)

    def clip_of(self, prompt: Prompt) -> str | None:
        """The recording that a prompt describes, or those of its segments, joined; None where a text is no caption."""
        owners = [self._by_caption.get(segment.text) for segment in prompt.segments]
        found = [motions[0].source for motions in owners if motions]
        return " + ".join(sorted(found)) if len(found) == len(owners) else None

    def motion_of(self, prompt: Prompt) -> GroupMotions | None:
        """One real motion of a prompt's texts and lengths, those of segments joined; None where there is none."""
        parts = []
        for segment in prompt.segments:
            fitting = [m for m in self._by_caption.get(segment.text, ()) if m.num_frames >= segment.num_frames]
            if not fitting:
                return None
            parts.append(min(fitting, key=lambda motion: motion.num_frames).features[: segment.num_frames])
        features = parts[0] if len(parts) == 1 else join_motions(parts, self._skeleton)
        return GroupMotions(features[None], np.array([prompt.num_frames]), prompt, 0, 0.0)
