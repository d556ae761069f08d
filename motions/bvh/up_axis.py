"""Finds which axis of a BVH file points up, from several cues, file by file.

A file does not state its axes, and one cue alone misleads: somebody who lies has the neck beside the ankles. So three
are compared: the body over all frames (from ankles to neck), the rest pose (the same without any rotation, where it
stands), and the support (below a body that travels, what is lowest rests on the ground). Where they disagree, other
files of the same rig decide, and where there are none, the user has to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motions.bvh.joints import JointMap
from motions.bvh.reader import Bvh
from motions.skeleton.skeletons import HUMANML3D

AXES = ("x", "y", "z", "-x", "-y", "-z")

_CLEAR_BODY = 0.6
"""Least mean cosine between the body and an axis; below it the body lies, turns over or bends."""
_CLEAR_REST = 0.9
_STANDING = -0.8
"""Largest cosine between legs (hips to ankles) and spine (hips to neck) of a rest pose that stands."""
_TRAVEL = 0.5
"""The support shows where the pelvis travels by this many leg lengths."""
_RESTING = 0.5
"""What is lowest rests if it moves less than this fraction of what the pelvis moves."""
_TIMES_OTHERS = 1.4
"""The lowest joints along the other axes must move this many times farther."""


@dataclass(frozen=True, slots=True)
class UpCues:
    """What each cue says of one file; an axis of `AXES`, or None where the cue shows nothing."""

    body: str | None
    rest: str | None
    support: str | None
    rig: tuple[object, ...]
    """Equal for files of one rig, whose axes are the same."""

    @property
    def agreed(self) -> str | None:
        """The axis that two cues say, or all that say any; None where they disagree or say nothing."""
        votes = Counter(axis for axis in (self.body, self.rest, self.support) if axis is not None)
        if not votes:
            return None
        axis, number = votes.most_common(1)[0]
        return axis if number > 1 or len(votes) == 1 else None

    def __str__(self) -> str:
        cues = {"the body stands": self.body, "the rest pose stands": self.rest, "the ground lies": self.support}
        said = ", ".join(f"{cue} along {axis}" for cue, axis in cues.items() if axis is not None)
        return said.replace("the ground lies along", "the ground is below") or "no cue shows it"


def up_cues(bvh: Bvh, joint_map: JointMap, joints: np.ndarray) -> UpCues:
    """The cues of a file whose motion is joints [F, 22, 3] in the file's axes and units."""
    # Names and rest pose: files of one exporter with the same rig agree in both, whatever the bones' lengths.
    rest = _rest_axis(joint_map.apply(bvh.rest_positions()[None])[0])
    return UpCues(_body_axis(joints), rest, _support_axis(joints), (tuple(joint_map.mapped.values()), rest))


def settle(cues: Sequence[UpCues]) -> list[tuple[str | None, bool]]:
    """The up axis of each file, None where its cues disagree and no other file of its rig tells; and whether others
    decided."""
    decided: dict[tuple[object, ...], set[str]] = {}
    for each in cues:
        if each.agreed is not None:
            decided.setdefault(each.rig, set()).add(each.agreed)
    settled: list[tuple[str | None, bool]] = []
    for each in cues:
        others = decided.get(each.rig, set())
        if each.agreed is not None:
            settled.append((each.agreed, False))
        else:
            settled.append((next(iter(others)) if len(others) == 1 else None, len(others) == 1))
    return settled


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


def _body_axis(joints: np.ndarray) -> str | None:
    neck, ankles = HUMANML3D.index("neck"), [HUMANML3D.index("left_ankle"), HUMANML3D.index("right_ankle")]
    upward = joints[:, neck] - joints[:, ankles].mean(axis=1)
    rise = (upward / np.maximum(np.linalg.norm(upward, axis=-1, keepdims=True), 1e-12)).mean(axis=0)
    return _axis_of(rise, _CLEAR_BODY)


def _rest_axis(joints: np.ndarray) -> str | None:
    """Axis along which a rest pose [22, 3] stands; None where its legs do not point away from its spine."""
    hips = joints[[HUMANML3D.index("left_hip"), HUMANML3D.index("right_hip")]].mean(axis=0)
    ankles = joints[[HUMANML3D.index("left_ankle"), HUMANML3D.index("right_ankle")]].mean(axis=0)
    spine, legs = joints[HUMANML3D.index("neck")] - hips, ankles - hips
    lengths = float(np.linalg.norm(spine) * np.linalg.norm(legs))
    if lengths == 0.0 or float(spine @ legs) / lengths > _STANDING:
        return None
    return _axis_of((spine - legs) / np.linalg.norm(spine - legs), _CLEAR_REST)


def _support_axis(joints: np.ndarray) -> str | None:
    """Axis along which the lowest joint rests while the pelvis travels."""
    leg = float(np.linalg.norm(np.diff(joints[0, [1, 4, 7]], axis=0), axis=-1).sum())
    if np.linalg.norm(np.ptp(joints[:, 0], axis=0)) < _TRAVEL * leg:
        return None
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    moved = []
    for axis in AXES:
        heights = joints[..., "xyz".index(axis[-1])] * (-1.0 if axis.startswith("-") else 1.0)
        lowest = heights.argmin(axis=1)[:-1]
        moved.append(float(np.take_along_axis(steps, lowest[:, None], axis=1).sum()))
    best, second = np.sort(moved)[:2]
    if best > _RESTING * steps[:, 0].sum() or second < _TIMES_OTHERS * best:
        return None
    return AXES[int(np.argmin(moved))]


def _axis_of(direction: np.ndarray, least: float) -> str | None:
    """The axis that a direction [3] of length 1 or less follows, None below a cosine of `least`."""
    axis = int(np.argmax(np.abs(direction)))
    if abs(direction[axis]) < least:
        return None
    return ("-" if direction[axis] < 0 else "") + "xyz"[axis]
