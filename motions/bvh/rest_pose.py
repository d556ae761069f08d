"""Finds rest poses at the ends of a recording: frames that show the rig and no motion.

Exporters write the rest pose as the first frame (the CMU database), applications hold it for a while, in any direction,
and some end with it. Frames without any rotation below the pelvis are such a pose, and so is a pose that is held until
the body jumps out of it within one frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motions.bvh.joints import JointMap
from motions.bvh.reader import Bvh
from motions.skeleton.skeletons import HUMANML3D

_NO_ROTATION = 1e-3
"""Degrees; files round to six decimals or fewer."""
_STILL = 2e-3
"""A pose is held while no joint moves by more than this fraction of the leg a frame, relative to the pelvis."""
_JUMP = 0.25
"""Fraction of the leg's length by which some joint moves in one frame where the body jumps out of a held pose."""
_TIMES_MOTION = 5.0
"""A jump is this many times farther than the same joint moves in the frame behind it."""
_ARM_RAISED = 0.5
"""Cosine between arm and spine above which an arm does not hang: a rest pose is shown, nobody stands so."""


@dataclass(frozen=True, slots=True)
class MotionRange:
    """Frames of the file between which the motion is, both included; what lies outside are rest poses."""

    first: int
    last: int


def motion_range(bvh: Bvh, joint_map: JointMap) -> MotionRange:
    """The frames of a file without the rest poses at its ends.

    All frames where every one shows the rest pose or there are fewer than three: such a file has no motion.
    """
    count = bvh.num_frames
    if count < 3:
        return MotionRange(0, count - 1)
    joints = joint_map.apply(bvh.positions(np.arange(count) * bvh.frame_time))
    joints = joints - joints[:, :1]
    zero = _without_rotation(bvh, joint_map)
    first = _rest_frames(joints, zero)
    last = count - 1 - _rest_frames(joints[::-1], zero[::-1])
    return MotionRange(first, last) if first < last else MotionRange(0, count - 1)


def has_motion(bvh: Bvh, joint_map: JointMap) -> bool:
    """Whether there is any rotation below the pelvis."""
    return not _without_rotation(bvh, joint_map).all()


def _rest_frames(joints: np.ndarray, zero: np.ndarray) -> int:
    """How many frames at the beginning of joints relative to the pelvis [F, 22, 3] are a rest pose."""
    leg = float(np.linalg.norm(np.diff(joints[0, [1, 4, 7]], axis=0), axis=-1).sum())
    moves = np.linalg.norm(np.diff(joints, axis=0), axis=-1) / max(leg, 1e-9)
    moved = np.flatnonzero(moves.max(axis=1) > _STILL)
    held = int(moved[0]) + 1 if len(moved) else len(joints)
    unrotated = int(np.argmin(zero)) if not zero.all() else len(joints)
    for frames in {held, unrotated} - {0, len(joints)}:
        step = moves[frames - 1]
        joint = int(step.argmax())
        behind = float(moves[frames, joint]) if frames < len(moves) else 0.0
        if step[joint] > _JUMP and step[joint] > _TIMES_MOTION * behind:
            return frames
    return unrotated if unrotated == 1 or (0 < unrotated < len(joints) and _arms_raised(joints[0])) else 0


def _arms_raised(joints: np.ndarray) -> bool:
    """Whether no arm of a pose [22, 3] hangs down along the body."""
    down = joints[HUMANML3D.index("pelvis")] - joints[HUMANML3D.index("neck")]
    cosines = []
    for side in ("left", "right"):
        arm = joints[HUMANML3D.index(f"{side}_wrist")] - joints[HUMANML3D.index(f"{side}_shoulder")]
        cosines.append(float(arm @ down / max(np.linalg.norm(arm) * np.linalg.norm(down), 1e-12)))
    return max(cosines) < _ARM_RAISED


def _without_rotation(bvh: Bvh, joint_map: JointMap) -> np.ndarray:
    """Frames [F] in which no joint of the body is rotated; the pelvis and what is above it only give the heading."""
    body = {node for used in np.flatnonzero(joint_map.weights.any(axis=0)) for node in bvh.path(int(used))}
    body -= set(bvh.path(bvh.index(joint_map.mapped["pelvis"])))
    rotated = np.zeros(bvh.num_frames, dtype=bool)
    for node in body:
        turns = [channel.endswith("rotation") for channel in bvh.nodes[node].channels]
        rotated |= (np.abs(bvh.values[:, bvh.columns[node]][:, turns]) > _NO_ROTATION).any(axis=1)
    return ~rotated
