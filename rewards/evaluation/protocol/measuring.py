"""What is measured of a group of motions for the published metrics: embeddings and figures, small enough to be sent.

Motions stay where they were made; a `MotionMeter` is built in a reward actor, and only what it returns reaches whoever
computes the metrics. Legend: N motions of a group, K segments of its prompt, d width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.evidence import PairEmbedder
from rewards.evaluation.kinematics import kinematic_figures
from rewards.evaluation.protocol.ground import ground_figures
from rewards.evaluation.text import border_jerk, metre_joints
from rewards.tmr import segments
from rewards.tmr.similarity import cosine
from rollouts.messages import GroupMotions


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """What is known of the motions of one prompt."""

    texts: np.ndarray
    """Embeddings [K, d] of the prompt's text, or of the texts of its segments."""
    parts: np.ndarray
    """Embeddings [N, K, d] of the motions, or of their segments; each belongs to a row of `texts`."""
    motions: np.ndarray
    """Embeddings [N, d] of the whole motions."""
    figures: dict[str, np.ndarray]
    """name -> [N]: those of `kinematics.KINEMATICS` and `ground_figures`; with several segments also `segment_cosine`
    and one for each place of a segment, `r_neg`, `margin_active`, `logic_accuracy` and `border_jerk_mps3`."""


class MotionMeter:
    """Measures groups of motions.

    Args:
        embedder: puts texts and motions into one space.
        max_frames: longer motions are cut, as in rewards.

    Example:
        MotionMeter(judge, HUMANML3D).measure([motions])[0].figures["skating_ratio"]   # [N]
    """

    def __init__(self, embedder: PairEmbedder, skeleton: Skeleton, max_frames: int = 196) -> None:
        self._embedder = embedder
        self._skeleton = skeleton
        self._max_frames = max_frames

    def measure(self, groups: Sequence[GroupMotions]) -> list[MeasuredGroup]:
        """What is known of each group, in their order; whole motions go through the encoder in one batch.

        Raises:
            UserError: a segment has fewer than 4 frames, or a text is over the encoder's limit.
        """
        clips = [
            motion[: min(int(length), self._max_frames)]
            for group in groups
            for motion, length in zip(group.features, group.lengths, strict=True)
        ]
        ends = np.cumsum([len(group.lengths) for group in groups])[:-1]
        whole = np.split(self._embedder.embed_motions(clips), ends)
        return [self._measured(group, motions) for group, motions in zip(groups, whole, strict=True)]

    def _measured(self, group: GroupMotions, motions: np.ndarray) -> MeasuredGroup:
        joints = metre_joints(group, self._skeleton)
        figures = kinematic_figures(joints, group.lengths, self._skeleton)
        figures |= ground_figures(joints, group.lengths, self._skeleton)
        if len(group.prompt.segments) < 2:
            texts = self._embedder.embed_texts([group.prompt.text])
            return MeasuredGroup(texts, motions[:, None], motions, figures)
        texts = self._embedder.embed_texts([segment.text for segment in group.prompt.segments])
        ranges = segments.segment_ranges(group.prompt, group.lengths, self._max_frames)
        clips = segments.cut(group.features, ranges)
        parts = self._embedder.embed_motions(clips).reshape(*ranges.shape[:2], -1)
        similarity = cosine(parts, texts)
        dense = segments.dense_reward(similarity, cosine(texts, texts), alpha=0.0)
        figures |= {
            "segment_cosine": dense.r_pos,
            **{f"segment_cosine_{k + 1}": similarity[:, k, k] for k in range(len(texts))},
            "r_neg": dense.r_neg,
            "margin_active": dense.margin_active,
            "logic_accuracy": dense.logic_accuracy,
            "border_jerk_mps3": border_jerk(joints, group.prompt.boundaries, self._skeleton.fps),
        }
        return MeasuredGroup(texts, parts, motions, figures)
