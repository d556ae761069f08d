"""Poses as MotionCritic takes them, made from MDM's rotations and from joint positions.

A frame has 25 rows of 3 numbers: rotations of SMPL's 24 joints as vectors (axis times angle, radians; row 0 is the
root's orientation in the world), then the root's translation from its first frame, in metres. The world is y up with
the body upright; HumanAct12 and UESTC in MDM's form lie upside down (`upright`). There are 20 frames a second.

MDM keeps a rotation as 6 numbers, the first two rows of its matrix, in `[B, 25, 6, T]`; HumanML3D's features keep the
first two columns. All functions are pure and differentiable. The vector of a rotation by exactly pi has two signs, of
which one is taken: there alone it jumps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from motions.files.smpl import smpl_turns
from motions.skeleton.rotations import (
    matrix_to_quat,
    matrix_to_six,
    quat_from_rotation_vector,
    quat_to_matrix,
    quat_to_rotation_vector,
    six_to_matrix,
)
from motions.skeleton.skeletons import Skeleton
from rewards.critic.network import NUM_ROWS


def upright(motion: Tensor) -> Tensor:
    """`[B, 25, 6, T]` of MDM's HumanAct12 or UESTC, turned by half a turn about x: y is up, the body upright.

    The rotations come out orthonormal; channels 3..5 of the translation are kept as they are.
    """
    matrices = _matrices(motion)
    flip = motion.new_tensor([1.0, -1.0, -1.0])
    root = flip[:, None] * matrices[:, :1]
    turned = _six_rows(torch.cat((root, matrices[:, 1:]), dim=1))
    translation = torch.cat((motion[:, -1:, :3] * flip[:, None], motion[:, -1:, 3:]), dim=2)
    return torch.cat((turned, translation), dim=1)


def poses_of_rotations(motion: Tensor) -> Tensor:
    """Poses [B, T, 25, 3] of MDM's `[B, 25, 6, T]` in an upright world."""
    vectors = quat_to_rotation_vector(matrix_to_quat(_matrices(motion)))
    translation = motion[:, -1:, :3].permute(0, 3, 1, 2)
    return torch.cat((vectors.transpose(1, 2), translation), dim=2)


def rotations_of_poses(poses: Tensor) -> Tensor:
    """MDM's `[B, 25, 6, T]` of poses [B, T, 25, 3]; channels 3..5 of the translation are zero."""
    rotations = _six_rows(quat_to_matrix(quat_from_rotation_vector(poses[:, :, :-1])).transpose(1, 2))
    translation = poses[:, :, -1:].permute(0, 2, 3, 1)
    return torch.cat((rotations, torch.cat((translation, torch.zeros_like(translation)), dim=2)), dim=1)


def poses_of_joints(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Approximate poses [B, T, 25, 3] float32 of joint positions [B, T, J, 3] in metres, y up.

    Positions do not determine rotations: a limb's twist is a guess (`motions.files.rigging`), and the two joints of the
    hands, which HumanML3D lacks, do not turn. Scores of the same motion by its own rotations differ from these.
    """
    turns = smpl_turns(joints.flatten(0, 1), skeleton).unflatten(0, joints.shape[:2])
    return poses_of_turns(turns, joints[:, :, 0])


def poses_of_turns(turns: Tensor, root: Tensor) -> Tensor:
    """Poses [..., T, 25, 3] float32 of quaternions [..., T, 22, 4] of SMPL's joints but the hands, each in its parent's
    frame, and places of the root [..., T, 3]; the hands do not turn."""
    vectors = quat_to_rotation_vector(turns).to(torch.float32)
    hands = vectors.new_zeros(*vectors.shape[:-2], NUM_ROWS - 1 - vectors.shape[-2], 3)
    translation = (root - root[..., :1, :]).to(torch.float32)
    return torch.cat((vectors, hands, translation[..., None, :]), dim=-2)


def _matrices(motion: Tensor) -> Tensor:
    """Rotation matrices [B, 24, T, 3, 3] of `[B, 25, 6, T]`."""
    if motion.ndim != 4 or motion.shape[1:3] != (NUM_ROWS, 6):
        raise ValueError(f"critic: motion {tuple(motion.shape)}, expected [B, {NUM_ROWS}, 6, T]")
    # The rows of a matrix are the columns of its transpose.
    return six_to_matrix(motion[:, :-1].transpose(2, 3)).mT


def _six_rows(matrices: Tensor) -> Tensor:
    """The first two rows of matrices [B, 24, T, 3, 3], as [B, 24, 6, T]."""
    return matrix_to_six(matrices.mT).transpose(2, 3)
