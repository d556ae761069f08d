"""What a critic's network sees of a motion: the poses as published, or with the movement of the body that they give.

Rotations and the root's translation say only together, and only by the body's bones, whether a foot slips. A critic
with `movement` gets that worked out: each row of a frame holds, beside its own 3 numbers,

    places      of the joint in metres: across and along from the pelvis, and above the lowest point of the motion
    speeds      asinh(v / 0.1 m/s) / 2 of its velocity v since the frame before, in the world: the sign stays,
                millimetres a second are told from standing still, and a kick is not a hundred times as much as a step;
                0 in the first frame

all seen from the heading of the first frame, so that a motion's score does not depend on where it faces. Bones are
those of SMPL's mean body. Everything is a differentiable function of the poses.

Legend: B motions, T frames, 25 rows (see `rewards.critic.poses`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from motions.files.smpl import body_joints
from motions.skeleton.rotations import quat_from_rotation_vector, quat_multiply, quat_rotate, quat_to_rotation_vector
from motions.skeleton.skeletons import HUMANML3D

InputKind = Literal["poses", "movement"]

INPUT_WIDTH: dict[InputKind, int] = {"poses": 3, "movement": 9}
"""Numbers in a row of a frame."""

CRITIC_FPS = 20.0
"""Frames per second of the motions that critics are trained on."""
_SPEED_MPS = 0.1
_SPEED_SCALE = 0.5


def movement(poses: Tensor, lengths: Tensor | None = None) -> Tensor:
    """[B, T, 25, 9] of poses [B, T, 25, 3]; frames from `lengths` [B] on have no meaning and change no others."""
    local = quat_from_rotation_vector(poses[:, :, :-1])
    turn = _to_heading(local[:, :1, 0])
    root = quat_multiply(turn.expand_as(local[:, :, 0]), local[:, :, 0])
    translation = quat_rotate(turn, poses[:, :, -1])
    joints = body_joints(
        torch.cat((root[:, :, None], local[:, :, 1 : HUMANML3D.num_joints]), dim=2).flatten(0, 1),
        translation.flatten(0, 1),
    ).unflatten(0, poses.shape[:2])
    # The hands, which do not turn, are taken where the wrists are, and the last row stands for the pelvis.
    joints = torch.cat((joints, joints[:, :, -2:], joints[:, :, :1]), dim=2)
    speeds = torch.cat((torch.zeros_like(joints[:, :1]), joints.diff(dim=1) * CRITIC_FPS), dim=1)
    heights = joints[..., 1]
    inside = heights if lengths is None else heights.masked_fill(_beyond(heights, lengths), torch.inf)
    lowest = inside.amin(dim=(1, 2), keepdim=True)
    places = torch.stack(
        (
            joints[..., 0] - translation[..., None, 0],
            heights - lowest,
            joints[..., 2] - translation[..., None, 2],
        ),
        dim=-1,
    )
    own = torch.cat((quat_to_rotation_vector(root)[:, :, None], poses[:, :, 1:-1], translation[:, :, None]), dim=2)
    return torch.cat((own, places, _SPEED_SCALE * torch.asinh(speeds / _SPEED_MPS)), dim=-1)


def _beyond(heights: Tensor, lengths: Tensor) -> Tensor:
    """Whether a frame [B, T, 1] lies beyond its motion's end."""
    return (torch.arange(heights.shape[1], device=heights.device) >= lengths[:, None])[:, :, None]


def _to_heading(root: Tensor) -> Tensor:
    """Rotation [B, 1, 4] about the vertical after which the root's rotation [B, 1, 4] faces along z."""
    forward = quat_rotate(root, root.new_tensor([0.0, 0.0, 1.0]))
    half = -0.5 * torch.atan2(forward[..., 0], forward[..., 2])
    zero = torch.zeros_like(half)
    return torch.stack((torch.cos(half), zero, torch.sin(half), zero), dim=-1)
