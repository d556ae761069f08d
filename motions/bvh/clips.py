"""Converts BVH recordings to clips of HumanML3D's 22 joints: resampled, y up, in metres.

A BVH file states neither its up axis nor its unit. The up axis is taken as the one from ankles to neck, over all frames
of all clips; the unit as the common one that gives legs of human length. Both are reported and can be given instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motions.bvh.joints import JointMap
from motions.bvh.reader import Bvh, BvhError
from motions.skeleton.skeletons import HUMANML3D

AXES = ("x", "y", "z", "-x", "-y", "-z")

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254, "CMU units": 0.056444}
"""Metres per unit of the units that BVH files commonly use; the CMU database's unit is 1 / 0.45 inches."""

_LEG_METRES = (0.55, 1.15)
"""Shortest and longest leg (hip to ankle, metres) accepted as human; within it no two of the units can be confused."""
_HUMAN_LEG = float(np.abs(HUMANML3D.target_offsets[[4, 5, 7, 8]]).sum() / 2)
_BACKWARDS = -0.3
"""If the mean cosine between feet and heading is below this, left and right are taken to be exchanged."""


@dataclass(frozen=True)
class Take:
    """A stretch of a file: seconds from its first frame; None is the file's beginning or end."""

    start: float | None = None
    end: float | None = None


def first_time(bvh: Bvh) -> float:
    """Seconds at which the motion begins: after the first frame if that one is a rest pose."""
    return bvh.frame_time if bvh.starts_in_rest_pose else 0.0


def sample_joints(bvh: Bvh, joint_map: JointMap, fps: float) -> np.ndarray:
    """Joints [F, 22, 3] of a whole file from `first_time` on, resampled to `fps`, in the file's units and axes."""
    start = first_time(bvh)
    # Frame times in files are rounded: 360 frames of .0083333 s are 3 s.
    count = int(np.floor((bvh.duration - start) * fps + 1e-2)) + 1
    return joint_map.apply(bvh.positions(start + np.arange(count) / fps))


def take_frames(bvh: Bvh, take: Take, fps: float) -> slice:
    """Frames of `sample_joints` that a stretch covers. Raises BvhError where it lies outside the file."""
    start = first_time(bvh) if take.start is None else take.start
    end = bvh.duration if take.end is None else take.end
    # Times in a table are rounded to what a person types.
    if not 0.0 <= start < end <= bvh.duration + max(bvh.frame_time, 0.05):
        raise BvhError(
            f"{bvh.name}: {start:g} to {end:g} s is no stretch of this file, which is {bvh.duration:.2f} s long"
        )
    first, last = (round((time - first_time(bvh)) * fps) for time in (start, end))
    return slice(max(first, 0), last + 1)


def find_up_axis(clips: Sequence[np.ndarray]) -> str:
    """The axis of `AXES` along which necks are above ankles, averaged over all frames of clips [F, 22, 3]."""
    neck, ankles = HUMANML3D.index("neck"), [HUMANML3D.index("left_ankle"), HUMANML3D.index("right_ankle")]
    rise = np.zeros(3)
    for joints in clips:
        upward = joints[:, neck] - joints[:, ankles].mean(axis=1)
        rise += (upward / np.linalg.norm(upward, axis=-1, keepdims=True)).sum(axis=0)
    axis = int(np.argmax(np.abs(rise)))
    return ("-" if rise[axis] < 0 else "") + "xyz"[axis]


def turn_upright(joints: np.ndarray, up_axis: str) -> np.ndarray:
    """Turns positions [..., 3] so that `up_axis` becomes y; a rotation, so left stays left."""
    if up_axis not in AXES:
        raise ValueError(f"up_axis={up_axis!r}: expected one of {', '.join(AXES)}")
    sign = -1.0 if up_axis.startswith("-") else 1.0
    up = "xyz".index(up_axis[-1])
    matrix = np.zeros((3, 3))
    matrix[1, up] = sign
    matrix[2, (up + 1) % 3] = sign
    matrix[0, (up + 2) % 3] = 1.0
    return joints @ matrix.T


def find_unit(joints: np.ndarray) -> tuple[str, float]:
    """Unit and metres per unit of a clip [F, 22, 3], by the length of its legs.

    Where no common unit gives legs of human length, the clip is scaled to HumanML3D's leg length.
    """
    leg = leg_length(joints)
    for unit, metres in UNITS.items():
        if _LEG_METRES[0] <= leg * metres <= _LEG_METRES[1]:
            return unit, metres
    return "unknown, scaled to HumanML3D's legs", _HUMAN_LEG / leg


def check_scale(name: str, joints: np.ndarray, metres_per_unit: float) -> None:
    """Raises BvhError where a scale given by the user gives legs of no human length; `name` is the file's."""
    leg = leg_length(joints) * metres_per_unit
    if not 0.5 * _LEG_METRES[0] <= leg <= 2.0 * _LEG_METRES[1]:
        unit, metres = find_unit(joints)
        raise BvhError(
            f"{name}: scale={metres_per_unit:g} makes legs {leg:.3g} m long; by their length the unit is {unit} "
            f"(scale={metres:.4g})"
        )


def check_sides(name: str, joints: np.ndarray) -> None:
    """Raises BvhError where the feet of an upright clip [F, 22, 3] point backwards: left and right are exchanged."""
    right_hip, left_hip, right_shoulder, left_shoulder = np.moveaxis(joints[:, list(HUMANML3D.face_joints)], 1, 0)
    forward = np.cross([0.0, 1.0, 0.0], (right_hip - left_hip) + (right_shoulder - left_shoulder))
    left_ankle, left_toe, right_ankle, right_toe = np.moveaxis(joints[:, list(HUMANML3D.foot_joints)], 1, 0)
    feet = (left_toe - left_ankle) + (right_toe - right_ankle)
    lengths = np.linalg.norm(feet, axis=-1) * np.linalg.norm(forward, axis=-1)
    if float(((feet * forward).sum(-1) / np.maximum(lengths, 1e-12)).mean()) < _BACKWARDS:
        raise BvhError(
            f"{name}: the feet point backwards, so left and right are exchanged: the file's axes are left-handed "
            "(--negate_x true) or the joint names are (--mapping)"
        )


def leg_length(joints: np.ndarray) -> float:
    """Mean length of the two legs, hip to knee to ankle, in the first frame of a clip [F, 22, 3]."""
    parents = HUMANML3D.parents
    bones = [HUMANML3D.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    return float(sum(np.linalg.norm(joints[0, bone] - joints[0, parents[bone]]) for bone in bones) / 2)
