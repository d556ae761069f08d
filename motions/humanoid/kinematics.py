"""The 45 kg humanoid of the DeepMimic clips: its bodies, and their positions for given joint rotations.

Lengths in metres in the frame of the clip files: x forward, y up, z to the character's right. The numbers are those of
DeepMimic (Peng et al. 2018), which `pybullet_data` repeats at four times the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from motions.skeleton.rotations import quat_multiply, quat_rotate

JointKind = Literal["free", "ball", "hinge", "fixed"]


@dataclass(frozen=True, slots=True)
class Body:
    """One body and the joint that connects it to its parent; `offset` [3] is the joint's position in the parent."""

    name: str
    parent: int
    joint: JointKind
    offset: tuple[float, float, float]


BODIES: tuple[Body, ...] = (
    Body("root", -1, "free", (0.0, 0.0, 0.0)),
    Body("chest", 0, "ball", (0.0, 0.236151, 0.0)),
    Body("neck", 1, "ball", (0.0, 0.223894, 0.0)),
    Body("right_hip", 0, "ball", (0.0, 0.0, 0.084887)),
    Body("right_knee", 3, "hinge", (0.0, -0.421546, 0.0)),
    Body("right_ankle", 4, "ball", (0.0, -0.40987, 0.0)),
    Body("right_shoulder", 1, "ball", (-0.02405, 0.2435, 0.18311)),
    Body("right_elbow", 6, "hinge", (0.0, -0.274788, 0.0)),
    Body("right_wrist", 7, "fixed", (0.0, -0.258947, 0.0)),
    Body("left_hip", 0, "ball", (0.0, 0.0, -0.084887)),
    Body("left_knee", 9, "hinge", (0.0, -0.421546, 0.0)),
    Body("left_ankle", 10, "ball", (0.0, -0.40987, 0.0)),
    Body("left_shoulder", 1, "ball", (-0.02405, 0.2435, -0.18311)),
    Body("left_elbow", 12, "hinge", (0.0, -0.274788, 0.0)),
    Body("left_wrist", 13, "fixed", (0.0, -0.258947, 0.0)),
)
"""All bodies, in the order of the columns of a clip file (which has none for the wrists)."""

BODY_INDEX: dict[str, int] = {body.name: index for index, body in enumerate(BODIES)}

BALL_BODIES: tuple[str, ...] = tuple(body.name for body in BODIES if body.joint in ("free", "ball"))
"""Bodies with a quaternion of their own, in file order: root, chest, neck, right hip, ... (9)."""

HINGE_BODIES: tuple[str, ...] = tuple(body.name for body in BODIES if body.joint == "hinge")
"""Bodies with one angle about their z axis, in file order: right knee, right elbow, left knee, left elbow (4)."""


def forward_kinematics(root_positions: Tensor, ball_rotations: Tensor, hinge_angles: Tensor) -> tuple[Tensor, Tensor]:
    """World positions and rotations of all bodies.

    Args:
        root_positions: [..., 3] metres.
        ball_rotations: [..., 9, 4] unit quaternions w, x, y, z in the order of `BALL_BODIES`, local to the parent.
        hinge_angles: [..., 4] radians in the order of `HINGE_BODIES`; knees bend below 0, elbows above 0.

    Returns:
        positions [..., 15, 3] and quaternions [..., 15, 4] in the order of `BODIES`.
    """
    positions: list[Tensor] = []
    quaternions: list[Tensor] = []
    for body in BODIES:
        if body.joint == "free":
            positions.append(root_positions)
            quaternions.append(ball_rotations[..., 0, :])
            continue
        turn = quaternions[body.parent]
        positions.append(positions[body.parent] + quat_rotate(turn, root_positions.new_tensor(body.offset)))
        if body.joint == "ball":
            turn = quat_multiply(turn, ball_rotations[..., BALL_BODIES.index(body.name), :])
        elif body.joint == "hinge":
            turn = quat_multiply(turn, hinge_quaternions(hinge_angles[..., HINGE_BODIES.index(body.name)]))
        quaternions.append(turn)
    return torch.stack(positions, dim=-2), torch.stack(quaternions, dim=-2)


def hinge_quaternions(angles: Tensor) -> Tensor:
    """Quaternions [..., 4] of rotations by `angles` [...] radians about the z axis."""
    zeros = torch.zeros_like(angles)
    return torch.stack((torch.cos(angles / 2), zeros, zeros, torch.sin(angles / 2)), dim=-1)
