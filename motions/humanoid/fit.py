"""Fits the DeepMimic humanoid to HumanML3D's 22 joints: the inverse of `retarget.py`, from positions to rotations.

Joint positions do not determine all rotations, so the rest is chosen:
* root and chest: the rotation that best aligns the rigid parts of the skeleton (hips and lower spine; neck, collars and
  shoulders) with the joints (Kabsch 1976), with the bones of `retarget.py` as the rest pose;
* neck: without twist, from the direction of the head;
* limbs: a bent knee or elbow defines the plane of its limb, and so the twist of hip or shoulder; a straight one does
  not and gets the twist-free rotation. A knee that bends backwards in the input bends forwards in the result;
* legs: the ankles keep their scaled positions by two-bone inverse kinematics, because thigh and shin have other
  proportions here;
* ankles: pitch and yaw follow the foot; roll follows the ground near the ground and the shin above it.

Input frame: x to the character's left, y up, z forward (HumanML3D), metres. Output: the frame of the clip files.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from motions.base.errors import UserError
from motions.humanoid.kinematics import BALL_BODIES, BODIES, BODY_INDEX, HINGE_BODIES, hinge_quaternions
from motions.humanoid.mocap import MocapClip, Pose, same_side
from motions.humanoid.retarget import BONE_LENGTHS, BONES, FILE_TO_WORLD, MAX_REACH, beside, leg_scale, limb_axis
from motions.skeleton.rotations import (
    matrix_to_quat,
    quat_align,
    quat_inverse,
    quat_multiply,
    quat_rotate,
    quat_slerp,
    quat_swing,
)
from motions.skeleton.skeletons import HUMANML3D

_FLAT_FOOT_HEIGHT, _FREE_FOOT_HEIGHT = 0.05, 0.20
"""Heights (m) of the ball of the foot below which the sole is level sideways and above which it follows the shin."""
_Y, _Z = torch.eye(3, dtype=torch.float64)[1:]


def fit_humanoid(joints: Tensor) -> Pose:
    """Humanoid poses of joint positions.

    Args:
        joints: [..., 22, 3] metres, floor near 0.

    Returns:
        Root positions [..., 3], ball rotations [..., 9, 4] and hinge angles [..., 4], float64. Not finite where the
        joints are not, or where bones have no length.
    """
    points = joints.to(torch.float64) @ FILE_TO_WORLD / leg_scale()
    middle = (_joint(points, "left_hip") + _joint(points, "right_hip")) / 2
    chest = _chest(points)
    root = _root(points, chest)
    turns = {"root": root, "chest": chest, "neck": quat_swing(chest, rest_bone("head"), _bone(points, "neck", "head"))}
    angles: dict[str, Tensor] = {}
    for side in ("left", "right"):
        hip = middle + quat_rotate(root, root.new_tensor(BODIES[BODY_INDEX[f"{side}_hip"]].offset))
        turns[f"{side}_hip"], angles[f"{side}_knee"] = _leg(points, side, hip, root)
        turns[f"{side}_knee"] = quat_multiply(turns[f"{side}_hip"], hinge_quaternions(angles[f"{side}_knee"]))
        turns[f"{side}_ankle"] = _foot(points, side, turns[f"{side}_knee"])
        turns[f"{side}_shoulder"], angles[f"{side}_elbow"] = _arm(points, side, chest)
    local = [root]
    for name in BALL_BODIES[1:]:
        parent = turns[BODIES[BODIES[BODY_INDEX[name]].parent].name]
        local.append(quat_multiply(quat_inverse(parent), turns[name]))
    return Pose(middle, torch.stack(local, dim=-2), torch.stack([angles[name] for name in HINGE_BODIES], dim=-1))


def fit_clip(joints: np.ndarray, fps: float, name: str = "motion") -> MocapClip:
    """Converts a motion [F, 22, 3] (metres, F at least 2) to a clip that does not repeat.

    Raises:
        UserError: another shape, fewer than 2 frames, or a frame that is not finite or has bones of no length.
    """
    if joints.ndim != 3 or joints.shape[1:] != (HUMANML3D.num_joints, 3) or len(joints) < 2:
        raise UserError(f"{name}: joints are {joints.shape}; expected [2 or more, {HUMANML3D.num_joints}, 3]")
    pose = fit_humanoid(torch.from_numpy(joints.astype(np.float64)))
    finite = torch.isfinite(pose.ball_rotations).all(-1).all(-1) & torch.isfinite(pose.root_positions).all(-1)
    finite &= torch.isfinite(pose.hinge_angles).all(-1)
    if not finite.all():
        raise UserError(f"{name}: frame {int((~finite).nonzero()[0])} is not finite or has bones of no length")
    return MocapClip(
        name=name,
        cyclic=False,
        times=torch.arange(len(joints), dtype=torch.float64) / fps,
        root_positions=pose.root_positions,
        ball_rotations=same_side(pose.ball_rotations),
        hinge_angles=pose.hinge_angles,
    )


def rest_bone(joint: str) -> Tensor:
    """Bone [3] from its parent to `joint`, in the frame of the body that carries it and at the humanoid's size."""
    left = joint.startswith("left_")
    direction = torch.tensor(BONES[joint.replace("left_", "right_")][3], dtype=torch.float64)
    if left:
        direction = direction * direction.new_tensor([1.0, 1.0, -1.0])
    return direction * (BONE_LENGTHS[HUMANML3D.index(joint)] / direction.norm() / leg_scale())


def _chest(points: Tensor) -> Tensor:
    """World rotation [..., 4] of the chest, from all rigid points above the last joint of the spine."""
    rest = [rest_bone("neck")]
    for side in ("left", "right"):
        rest += [rest_bone(f"{side}_collar"), rest_bone(f"{side}_collar") + rest_bone(f"{side}_shoulder")]
    names = ("neck", "left_collar", "left_shoulder", "right_collar", "right_shoulder")
    return quat_align(torch.stack(rest), torch.stack([_bone(points, "spine3", name) for name in names], dim=-2))


def _root(points: Tensor, chest: Tensor) -> Tensor:
    """World rotation [..., 4] of the root, from the hips and the lowest spine joint, which leans with the chest."""
    names = ("left_hip", "right_hip", "spine1")
    seen = torch.stack([_bone(points, "pelvis", name) for name in names], dim=-2)
    rest = torch.stack([rest_bone(name) for name in names])
    first = quat_align(rest, seen)
    share = torch.full(first.shape[:-1], BONES["spine1"][2], dtype=first.dtype)
    lean = quat_multiply(quat_inverse(first), quat_slerp(first, chest, share))
    leaning = torch.stack([*rest[:2].expand(*lean.shape[:-1], 2, 3).unbind(-2), quat_rotate(lean, rest[2])], dim=-2)
    return quat_align(leaning, seen)


def _leg(points: Tensor, side: str, hip: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """World rotation [..., 4] of a thigh whose joint is at `hip`, and the angle [...] of its knee."""
    thigh, shin = (-BODIES[BODY_INDEX[f"{side}_{name}"]].offset[1] for name in ("knee", "ankle"))
    seen_hip, knee, ankle = (_joint(points, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
    line = normalize(ankle - hip, dim=-1)
    # The hinge axis points to the character's right; a bent knee gives it as the cross product of upper and lower leg.
    seen = torch.linalg.cross(normalize(ankle - knee, dim=-1), normalize(knee - seen_hip, dim=-1))
    default = quat_rotate(quat_swing(root, -_Y, line), _Z)
    axis = normalize(beside(limb_axis(seen, default, is_leg=True), line), dim=-1)
    reach = (ankle - hip).norm(dim=-1, keepdim=True).clamp(0.05, (thigh + shin) * MAX_REACH)
    along = (thigh**2 - shin**2 + reach**2) / (2 * reach)
    across = torch.sqrt((thigh**2 - along**2).clamp(min=0.0))
    up = -normalize(along * line + across * torch.linalg.cross(axis, line), dim=-1)
    cosine = (reach[..., 0] ** 2 - thigh**2 - shin**2) / (2 * thigh * shin)
    return _frame(up, axis), -torch.acos(cosine.clamp(-1.0, 1.0))


def _arm(points: Tensor, side: str, chest: Tensor) -> tuple[Tensor, Tensor]:
    """World rotation [..., 4] of an upper arm and the angle [...] of its elbow."""
    upper = normalize(_bone(points, f"{side}_shoulder", f"{side}_elbow"), dim=-1)
    lower = normalize(_bone(points, f"{side}_elbow", f"{side}_wrist"), dim=-1)
    seen = torch.linalg.cross(upper, lower)
    default = quat_rotate(quat_swing(chest, -_Y, upper), _Z)
    axis = normalize(beside(limb_axis(seen, default, is_leg=False), upper), dim=-1)
    return _frame(-upper, axis), torch.atan2(seen.norm(dim=-1), (upper * lower).sum(-1))


def _foot(points: Tensor, side: str, shin: Tensor) -> Tensor:
    """World rotation [..., 4] of a foot below a shin of world rotation `shin`."""
    foot = normalize(_bone(points, f"{side}_ankle", f"{side}_foot"), dim=-1)
    height = _joint(points, f"{side}_foot")[..., 1:2]
    free = ((height - _FLAT_FOOT_HEIGHT) / (_FREE_FOOT_HEIGHT - _FLAT_FOOT_HEIGHT)).clamp(0.05, 1.0)
    along_shin = quat_rotate(shin, _Z)
    level = normalize(torch.linalg.cross(foot, _Y.expand_as(foot)), dim=-1)
    # The level direction counts only as far as the shin agrees with it: the toes of a crawling body may point
    # backwards.
    level = (level * along_shin).sum(-1, keepdim=True) * level
    axis = normalize(beside(free * along_shin + (1.0 - free) * level, foot), dim=-1)
    rest = normalize(rest_bone(f"{side}_foot"), dim=-1)
    rest_axis = normalize(beside(_Z, rest), dim=-1)
    rest_triad = torch.stack((rest, torch.linalg.cross(rest_axis, rest), rest_axis), dim=-1)
    triad = torch.stack((foot, torch.linalg.cross(axis, foot), axis), dim=-1)
    return matrix_to_quat(triad @ rest_triad.T)


def _frame(up: Tensor, right: Tensor) -> Tensor:
    """Rotation [..., 4] whose y axis is `up` [..., 3] and whose z axis is `right` [..., 3], at right angles to it."""
    return matrix_to_quat(torch.stack((torch.linalg.cross(up, right), up, right), dim=-1))


def _joint(points: Tensor, name: str) -> Tensor:
    return points[..., HUMANML3D.index(name), :]


def _bone(points: Tensor, start: str, end: str) -> Tensor:
    return _joint(points, end) - _joint(points, start)
