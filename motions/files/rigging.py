"""From joint positions to a rig: a rest pose, the rotation of every joint, and how bones change their lengths.

Files of rigs hold rotations, and joint positions do not determine all of them; what is open is chosen as in
`motions.humanoid.fit`: where several bones leave a joint, the rotation that fits their directions best; a bent knee or
elbow gives the plane of its limb; everything else turns by the smallest rotation from its parent.

The rest pose is a T-pose. The directions of its bones are those of SMPL's mean body; their lengths, and what is left of
their directions where several bones leave a joint, are means over the motions. Joints of a network's output move
against one another, and so do those of HumanML3D, whose bones at the pelvis and the chest are not rigid: where a bone
differs from its mean in the frame of its parent, the rig has its position in every frame (`moves`), so that nothing of
the motion is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from motions.files.motion import Motion
from motions.humanoid.mocap import same_side
from motions.humanoid.retarget import beside, limb_axis
from motions.skeleton.rotations import (
    matrix_to_quat,
    quat_align,
    quat_inverse,
    quat_multiply,
    quat_rotate,
    quat_swing,
)
from motions.skeleton.skeletons import HUMANML3D, Skeleton

_OFFSETS: dict[str, tuple[float, float, float]] = {
    "pelvis": (0.0, 0.0, 0.0),
    "left_hip": (0.07, -0.09, -0.01),
    "left_knee": (0.04, -0.38, -0.01),
    "left_ankle": (-0.01, -0.40, -0.04),
    "left_foot": (0.03, -0.05, 0.12),
    "spine1": (0.0, 0.11, -0.03),
    "spine2": (0.0, 0.14, 0.0),
    "spine3": (0.0, 0.05, 0.03),
    "neck": (0.0, 0.21, -0.04),
    "head": (0.0, 0.07, 0.05),
    "left_collar": (0.08, 0.12, -0.04),
    "left_shoulder": (0.09, 0.03, -0.01),
    "left_elbow": (0.26, -0.01, -0.02),
    "left_wrist": (0.25, 0.01, 0.0),
}
"""Bones of SMPL's mean body in its T-pose, rounded to a centimetre and made symmetric: x left, y up, z forward."""
_OTHER_JOINTS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "root": ("pelvis", (0.0, -0.09, -0.01)),
    "chest": ("spine1", (0.0, 0.04, 0.01)),
    "left_midfoot": ("left_ankle", (0.02, -0.03, 0.06)),
}
"""Joints of other skeletons: the joint that they are near, and their place from it."""
_HINGES = {"hip": (1.0, 0.0, 0.0), "left_shoulder": (0.0, -1.0, 0.0), "right_shoulder": (0.0, 1.0, 0.0)}
"""Axis of the hinge below a joint (knee, elbow) in the rest pose."""
_RIGID_M = 1e-5
"""A bone that stays this near to its mean in its parent's frame is rigid. A chain of ten such bones is off by .1 mm."""


@dataclass(frozen=True, eq=False)
class Rig:
    """Motions of one skeleton as a rest pose and local transforms."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest: np.ndarray
    """[J, 3] metres, each joint from its parent; zero for the root."""
    moves: np.ndarray
    """[J] bool: whether the joint's position in its parent's frame changes; true for the root."""
    takes: tuple[Take, ...]
    """One for each motion."""

    @property
    def places(self) -> np.ndarray:
        """[J, 3] metres, each joint in the rest pose with the root at the origin."""
        places = np.zeros_like(self.rest)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                places[joint] = places[parent] + self.rest[joint]
        return places


@dataclass(frozen=True, eq=False)
class Take:
    """A motion's local transforms: a joint is at `positions` in its parent's frame, turned by `turns`."""

    positions: np.ndarray
    """[T, J, 3] metres; `Rig.rest` where the joint does not move."""
    turns: np.ndarray
    """[T, J, 4] unit quaternions w, x, y, z, of which neighbouring frames lie on the same side."""


def make_rig(motions: Sequence[Motion]) -> Rig:
    """The rig of motions of one skeleton."""
    skeleton, locals_ = motions[0].skeleton, []
    for motion in motions:
        turns = global_turns(torch.from_numpy(motion.joints), skeleton)
        joints = torch.from_numpy(motion.joints.astype(np.float64))
        positions, own = joints.clone(), turns.clone()
        for joint, parent in enumerate(skeleton.parents):
            if parent >= 0:
                back = quat_inverse(turns[:, parent])
                positions[:, joint] = quat_rotate(back, joints[:, joint] - joints[:, parent])
                own[:, joint] = quat_multiply(back, turns[:, joint])
        locals_.append((positions.numpy(), same_side(own).numpy()))
    everything = np.concatenate([positions for positions, _ in locals_])
    rest = everything.mean(axis=0)
    moves = np.linalg.norm(everything - rest, axis=-1).max(axis=0) > _RIGID_M
    rest[0], moves[0] = 0.0, True
    takes = tuple(Take(np.where(moves[:, None], positions, rest), turns) for positions, turns in locals_)
    return Rig(skeleton.joint_names, skeleton.parents, rest, moves, takes)


def global_turns(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Rotations [T, J, 4] float64 of all joints [T, J, 3] from the T-pose to the motion, in the world's frame.

    Differentiable almost everywhere. A joint without bones below it, or whose bones have no length, has the rotation of
    its parent.
    """
    points = joints.to(torch.float64)
    places = points.new_tensor([rest_place(name) for name in skeleton.joint_names])
    below: list[list[int]] = [[] for _ in skeleton.joint_names]
    turns: list[Tensor] = []
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            below[parent].append(joint)
    for joint, parent in enumerate(skeleton.parents):
        identity = points.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(points), 4)
        before = turns[parent] if parent >= 0 else identity
        bones = points[:, below[joint]] - points[:, joint : joint + 1]
        rest = places[below[joint]] - places[joint]
        if len(below[joint]) > 1:
            turn = quat_align(normalize(rest, dim=-1), normalize(bones, dim=-1))
        elif below[joint]:
            turn = _one_bone(joint, below, points, skeleton, before, rest[0])
        else:
            turn = before
        there = (bones.norm(dim=-1) > 1e-9).all(dim=-1) & torch.isfinite(turn).all(dim=-1)
        turns.append(torch.where(there[:, None], turn, before))
    return torch.stack(turns, dim=1)


def rest_place(name: str) -> tuple[float, float, float]:
    """Place of a joint in the T-pose, from the pelvis, metres."""
    right = name.startswith("right_")
    name = name.replace("right_", "left_")
    near, aside = _OTHER_JOINTS.get(name, (name, (0.0, 0.0, 0.0)))
    x, y, z = aside
    joint = HUMANML3D.index(near)
    while joint >= 0:
        dx, dy, dz = _OFFSETS[HUMANML3D.joint_names[joint]]
        x, y, z = x + dx, y + dy, z + dz
        joint = HUMANML3D.parents[joint]
    return (-x if right else x, y, z)


def _one_bone(
    joint: int, below: Sequence[Sequence[int]], points: Tensor, skeleton: Skeleton, before: Tensor, rest: Tensor
) -> Tensor:
    """Rotation [T, 4] of a joint with one bone: hip and shoulder turn with the plane of their limb."""
    middle = below[joint][0]
    bone = normalize(points[:, middle] - points[:, joint], dim=-1)
    swing = quat_swing(before, rest, bone)
    name = skeleton.joint_names[joint]
    hinge = _HINGES.get(name, _HINGES.get(name.rpartition("_")[2]))
    if hinge is None or len(below[middle]) != 1:
        return swing
    rest = normalize(rest, dim=-1)
    rest_axis = normalize(beside(rest.new_tensor(hinge), rest), dim=-1)
    default = quat_rotate(swing, rest_axis)
    seen = torch.linalg.cross(bone, normalize(points[:, below[middle][0]] - points[:, middle], dim=-1))
    axis = normalize(beside(limb_axis(seen, default, is_leg=name.endswith("_hip")), bone), dim=-1)
    rest_frame = torch.stack((rest, rest_axis, torch.linalg.cross(rest, rest_axis)), dim=-1)
    frame = torch.stack((bone, axis, torch.linalg.cross(bone, axis)), dim=-1)
    return matrix_to_quat(frame @ rest_frame.T)
