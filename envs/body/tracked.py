"""The quantities of a character that are compared with the reference (rotations, velocities, points); their packing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.body.headings import Turner
from envs.settings import BODY_NAMES

Array = NDArray[np.float64]


TRACKED_BODIES: tuple[str, ...] = (
    *("root", "chest", "neck"),
    *("right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow"),
    *("left_hip", "left_knee", "left_ankle", "left_shoulder", "left_elbow"),
)
"""Bodies with a rotation of their own, in the order of a clip's columns: rows of `TrackedState.rotations`."""


END_EFFECTORS: tuple[str, ...] = ("right_ankle", "right_wrist", "left_ankle", "left_wrist")


ROTATIONS, VELOCITIES = slice(0, 52), slice(52, 91)


ROOT_LINEAR, COM, BODIES_PART = slice(91, 94), slice(94, 97), slice(97, 142)


POINTS = slice(142, 154)


PACKED_SIZE = 154
"""Numbers of a state or a reference packed as one row: local rotations [13, 4], angular velocities [13, 3], linear
velocity of the root, position or velocity of the centre of mass, positions [15, 3] of `BODY_NAMES`, and hands and feet
[4, 3] in the frame "root" of `end_effectors_in`; conventions are those of `TrackedState`."""


EFFECTOR_ROWS = [BODY_NAMES.index(name) for name in END_EFFECTORS]


EFFECTOR_COLUMNS = np.array([[BODIES_PART.start + 3 * row + axis for axis in range(3)] for row in EFFECTOR_ROWS])


@dataclass(frozen=True, slots=True)
class TrackedState:
    """The compared quantities of N characters. World z-up, metres, radians, seconds."""

    rotations: Array
    """[N, 13, 4] unit quaternions w, x, y, z of `TRACKED_BODIES`: the root's in the world, the others' local."""
    velocities: Array
    """[N, 13, 3] angular velocities: the root's in the world, the others' relative to the parent in the joint's own
    (child) frame."""
    root_position: Array
    """Position [N, 3] of the root in the world."""
    root_linear: Array
    """Velocity [N, 3] of the root in the world."""
    end_effectors: Array
    """Positions [N, 4, 3] of `END_EFFECTORS` in the frame that the reward recipe uses: see `end_effectors_in`."""
    com: Array | None
    """Position or velocity [N, 3] of the centre of mass, as the reward recipe requires; None while its weight is 0."""


def end_effectors_in(
    frame: Literal["world", "root"], points: Array, root_position: Array, root_rotation: Array
) -> Array:
    """World points [N, K, 3], expressed in `frame`.

    `root`: horizontally relative to the root, in its heading frame; vertically above the ground (height 0).
    """
    if frame == "world":
        return points
    facing = np.stack((*heading(root_rotation), np.ones(len(points))), axis=1)
    turner = Turner(range(3 * points.shape[1]), ["xy"] * points.shape[1])
    return turner.turned(points.reshape(len(points), -1), root_position, facing).reshape(points.shape)


def heading(rotations: Array) -> tuple[Array, Array]:
    """Cosine and sine [N] of the angle about z by which unit quaternions [N, 4] rotate the x axis.

    A root whose x axis is vertical has no heading; its angle is 0.
    """
    w, x, y, z = rotations.T
    along, across = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)
    length = np.hypot(along, across)
    vertical = length < 1e-9
    length = np.where(vertical, 1.0, length)
    return np.where(vertical, 1.0, along / length), across / length
