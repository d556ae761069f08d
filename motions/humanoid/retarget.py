"""Retargets the DeepMimic humanoid's motion to HumanML3D's 22 joints, with that skeleton's bone lengths.

Bones take their directions from the humanoid's bodies; joints that it lacks (three in the spine, collars, toes, head)
have directions fixed to a body, the spine bending gradually. Ankles keep their scaled source positions by two-bone
inverse kinematics: the target's thigh and shin have other proportions, and the feet would slide otherwise.

Output frame: x to the character's left, y up, z forward, as in HumanML3D; metres; floor at y = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from motions.humanoid.kinematics import BODIES, BODY_INDEX, forward_kinematics
from motions.humanoid.mocap import Pose
from motions.skeleton.rotations import quat_between, quat_rotate, quat_slerp
from motions.skeleton.skeletons import HUMANML3D

# Joint -> bodies whose rotations it is blended from (weight of the second), and the bone's direction in their frame
# (x forward, y up, z right; shown for the right side).
BONES: dict[str, tuple[str, str, float, tuple[float, float, float]]] = {
    "right_hip": ("root", "root", 0.0, (0.0, -0.83, 0.56)),
    "spine1": ("root", "chest", 0.2, (-0.18, 0.98, 0.0)),
    "spine2": ("root", "chest", 0.6, (-0.02, 1.0, 0.0)),
    "spine3": ("root", "chest", 0.9, (0.10, 1.0, 0.0)),
    "neck": ("root", "chest", 1.0, (-0.04, 1.0, 0.0)),
    "head": ("root", "neck", 1.0, (0.28, 0.96, 0.0)),
    "right_collar": ("root", "chest", 1.0, (-0.05, 0.80, 0.58)),
    "right_shoulder": ("root", "chest", 1.0, (-0.12, -0.06, 0.99)),
    "right_elbow": ("root", "right_shoulder", 1.0, (0.0, -1.0, 0.0)),
    "right_wrist": ("root", "right_elbow", 1.0, (0.0, -1.0, 0.0)),
    "right_knee": ("root", "right_hip", 1.0, (0.0, -1.0, 0.0)),
    "right_ankle": ("root", "right_knee", 1.0, (0.0, -1.0, 0.0)),
    "right_foot": ("root", "right_ankle", 1.0, (0.92, -0.38, 0.06)),
}

BONE_LENGTHS = torch.from_numpy(HUMANML3D.target_offsets.copy()).norm(dim=-1)
_PARENTS = HUMANML3D.parents
MAX_REACH = 0.998
"""Longest distance from hip to ankle as a fraction of the leg: a fully straight knee defines no plane to bend in."""
_PLANE_WEIGHT = 0.05
"""Sine of the bend of a knee or elbow at which its limb's plane and the default without twist have equal weight."""
_TWIST_COSINE = 0.2
"""A knee's plane loses weight where its cosine to the default is below this, and has none beyond 90 degrees."""
FILE_TO_WORLD = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def retarget(pose: Pose) -> Tensor:
    """Joint positions [..., 22, 3] float64 of humanoid poses with leading dimensions [...].

    Heights are those of the source, scaled by the ratio of leg lengths; see `ground.floor_height` for the floor.
    """
    positions, turns = forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)
    scale = leg_scale()
    joints = torch.zeros((*positions.shape[:-2], HUMANML3D.num_joints, 3), dtype=torch.float64)
    # The midpoint of the hips is put at the humanoid's root.
    drop = sum(_bone(turns, joint) for joint in ("left_hip", "right_hip")) / 2
    joints[..., 0, :] = scale * positions[..., BODY_INDEX["root"], :] - drop
    for joint in range(1, HUMANML3D.num_joints):
        joints[..., joint, :] = joints[..., _PARENTS[joint], :] + _bone(turns, HUMANML3D.joint_names[joint])
    for side in ("left", "right"):
        target = scale * positions[..., BODY_INDEX[f"{side}_ankle"], :]
        # A knee bends forward in the thigh's frame, also where the leg is too straight to show it.
        forward = quat_rotate(turns[..., BODY_INDEX[f"{side}_hip"], :], target.new_tensor([1.0, 0.0, 0.0]))
        place_ankle(joints, side, target, forward)
    return joints @ FILE_TO_WORLD.T


def leg_scale() -> float:
    """Leg length of the target skeleton divided by the humanoid's."""
    target = sum(
        float(BONE_LENGTHS[HUMANML3D.index(name)]) for name in ("left_knee", "right_knee", "left_ankle", "right_ankle")
    )
    source = sum(
        -BODIES[BODY_INDEX[name]].offset[1] for name in ("left_knee", "right_knee", "left_ankle", "right_ankle")
    )
    return target / source


def place_ankle(joints: Tensor, side: str, target: Tensor, forward: Tensor | None = None) -> None:
    """Moves one ankle of `joints` [..., 22, 3] to `target` [..., 3] in place: two-bone inverse kinematics.

    The hip stays, the foot keeps its direction, the knee points towards `forward` [..., 3]; without it the plane of the
    leg turns with the line from hip to ankle. A target out of reach is approached up to `MAX_REACH` of the leg, which
    leaves the knee 3 cm in front of that line, so that the leg still defines its plane.
    """
    hip_index, knee_index, ankle_index, foot_index = (
        HUMANML3D.index(f"{side}_{name}") for name in ("hip", "knee", "ankle", "foot")
    )
    hip, knee, ankle = (joints[..., index, :] for index in (hip_index, knee_index, ankle_index))
    foot = joints[..., foot_index, :] - ankle
    thigh, shin = float(BONE_LENGTHS[knee_index]), float(BONE_LENGTHS[ankle_index])
    line = normalize(target - hip, dim=-1)
    if forward is None:
        old_line = normalize(ankle - hip, dim=-1)
        forward = quat_rotate(quat_between(old_line, line), beside(knee - hip, old_line))
    pole = normalize(beside(forward, line), dim=-1)
    longest = (thigh + shin) * MAX_REACH
    reach = (target - hip).norm(dim=-1, keepdim=True).clamp(abs(thigh - shin) * 1.001, longest)
    along = (thigh**2 - shin**2 + reach**2) / (2 * reach)
    across = torch.sqrt((thigh**2 - along**2).clamp(min=0.0))
    joints[..., knee_index, :] = hip + along * line + across * pole
    joints[..., ankle_index, :] = hip + reach * line
    joints[..., foot_index, :] = hip + reach * line + foot


def limb_axis(seen: Tensor, default: Tensor, *, is_leg: bool) -> Tensor:
    """Axis [..., 3] of a knee or an elbow, of any length: the one that its bend shows, as far as it shows one.

    Args:
        seen: cross product [..., 3] of the directions of the limb's two bones, in the order that suits the default.
        default: unit axis [..., 3] of the limb that is turned without twist.
        is_leg: a knee does not bend backwards, so an axis against the default is none.
    """
    if is_leg:
        cosine = (normalize(seen, dim=-1) * default).sum(-1, keepdim=True)
        seen = seen * (cosine / _TWIST_COSINE).clamp(0.0, 1.0)
    return seen + _PLANE_WEIGHT * default


def beside(vector: Tensor, line: Tensor) -> Tensor:
    """The part of `vector` [..., 3] at right angles to the unit vector `line` [..., 3]."""
    return vector - (vector * line).sum(-1, keepdim=True) * line


def _bone(turns: Tensor, joint: str) -> Tensor:
    """Vector [..., 3] from a joint's parent to it, for rotations [..., 15, 4] of the humanoid's bodies."""
    left = joint.startswith("left_")
    first, second, share, direction = BONES[joint.replace("left_", "right_")]
    if left:
        second = second.replace("right_", "left_")
    turn = turns[..., BODY_INDEX[second], :]
    if share < 1.0:
        start = turns[..., BODY_INDEX[first], :]
        turn = quat_slerp(start, turn, torch.full(turn.shape[:-1], share, dtype=torch.float64))
    bone = torch.tensor(direction, dtype=torch.float64)
    if left:
        bone = bone * bone.new_tensor([1.0, 1.0, -1.0])
    return quat_rotate(turn, bone * (BONE_LENGTHS[HUMANML3D.index(joint)] / bone.norm()))
