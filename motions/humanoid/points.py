"""The 18 points by which the simulated humanoid is shown: the joints of its bodies, head and toes.

They are a skeleton for drawing and for files; it has no features.
"""

from __future__ import annotations

import numpy as np
import torch

from motions.humanoid.kinematics import BODY_INDEX, forward_kinematics
from motions.humanoid.mocap import Pose
from motions.humanoid.retarget import FILE_TO_WORLD
from motions.skeleton.rotations import quat_rotate
from motions.skeleton.skeletons import Skeleton

POINT_NAMES: tuple[str, ...] = (
    *("root", "chest", "neck", "head"),
    *("right_hip", "right_knee", "right_ankle", "right_foot", "right_shoulder", "right_elbow", "right_wrist"),
    *("left_hip", "left_knee", "left_ankle", "left_foot", "left_shoulder", "left_elbow", "left_wrist"),
)
EXTRA_POINTS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "head": ("neck", (0.0, 0.175, 0.0)),
    "right_foot": ("right_ankle", (0.1335, -0.0225, 0.0)),
    "left_foot": ("left_ankle", (0.1335, -0.0225, 0.0)),
}
"""End points of bodies without a joint there: body, and position in its frame (x forward, y up, z right), metres."""


def _index(name: str) -> int:
    return POINT_NAMES.index(name)


def _chain(*names: str) -> tuple[int, ...]:
    return tuple(_index(name) for name in names)


def humanoid_skeleton(fps: float) -> Skeleton:
    """The simulated humanoid as a skeleton of 18 points, for drawing and files only (it has no features)."""
    sides = ("right", "left")
    legs = [_chain("root", *(f"{side}_{part}" for part in ("hip", "knee", "ankle", "foot"))) for side in sides]
    arms = [_chain("chest", *(f"{side}_{part}" for part in ("shoulder", "elbow", "wrist"))) for side in sides]
    nowhere = np.zeros((len(POINT_NAMES), 3))
    return Skeleton(
        name="deepmimic_humanoid",
        joint_names=POINT_NAMES,
        chains=(_chain("root", "chest", "neck", "head"), *legs, *arms),
        raw_directions=nowhere,
        target_offsets=nowhere,
        face_joints=(_index("right_hip"), _index("left_hip"), _index("right_shoulder"), _index("left_shoulder")),
        foot_joints=(_index("left_ankle"), _index("left_foot"), _index("right_ankle"), _index("right_foot")),
        leg_joints=(_index("left_knee"), _index("left_ankle")),
        mirror_pairs=(),
        fps=fps,
        contact_threshold=0.0,
        metres_per_unit=1.0,
    )


def pose_points(pose: Pose) -> np.ndarray:
    """Points [..., 18, 3] of poses of a clip: metres, y up, facing +z at heading 0."""
    positions, turns = forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)
    points = []
    for name in POINT_NAMES:
        body, place = EXTRA_POINTS.get(name, (name, (0.0, 0.0, 0.0)))
        index = BODY_INDEX[body]
        points.append(positions[..., index, :] + quat_rotate(turns[..., index, :], positions.new_tensor(place)))
    return (torch.stack(points, dim=-2) @ FILE_TO_WORLD.T).numpy()
