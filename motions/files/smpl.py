"""Approximate SMPL pose parameters of motions, in the layout of AMASS, and the joints that they give.

Joint positions do not determine SMPL's rotations and say nothing about the body's shape: the rotations are those of
`motions.files.rigging`, the shape is the mean one (`betas` zero, gender neutral), and the mean body's bones are known
here to a centimetre. The joints of SMPL's body therefore lie some centimetres from those of the motion.

AMASS: z up; `poses` [T, 156] axis-angle vectors of the pelvis, 21 body joints and 30 joints of the hands (zero here);
`trans` [T, 3], `betas` [16], `gender`, `mocap_framerate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.files.rigging import global_turns, rest_place
from motions.skeleton.rotations import (
    quat_from_rotation_vector,
    quat_inverse,
    quat_multiply,
    quat_rotate,
    quat_to_rotation_vector,
)
from motions.skeleton.skeletons import HUMANML3D, Skeleton

_NUM_JOINTS = 52
"""Of SMPL-H: the first 22 are HumanML3D's."""
_PELVIS = (-0.002, -0.223, 0.028)
"""Where SMPL's mean body has its pelvis when `trans` is zero; rotations leave it there."""
_TO_Z_UP = (0.0, 0.0, 0.5**0.5, 0.5**0.5)
"""Rotation (w, x, y, z) from y up, x left, z forward to AMASS's z up: (x, y, z) becomes (-x, z, y)."""
_SOURCES: dict[str, tuple[str, ...]] = {
    "pelvis": ("pelvis", "root"),
    "spine1": ("spine1", "root"),
    "spine2": ("spine2", "chest"),
    "spine3": ("spine3", "chest", "neck"),
    "left_collar": ("left_collar", "chest", "neck"),
    "right_collar": ("right_collar", "chest", "neck"),
}
"""SMPL joint: joints of other skeletons that turn as it does, the first that there is."""


@dataclass(frozen=True, eq=False)
class SmplPoses:
    """Approximate SMPL parameters of one motion."""

    poses: np.ndarray
    """[T, 156] radians."""
    trans: np.ndarray
    """[T, 3] metres, z up."""
    fps: float

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of an AMASS file, and a sentence that says that they are approximate."""
        return {
            "poses": self.poses,
            "trans": self.trans,
            "betas": np.zeros(16),
            "gender": np.array("neutral"),
            "mocap_framerate": np.array(self.fps),
            "approximate": np.array(APPROXIMATE),
        }

    def joints(self) -> np.ndarray:
        """Joints [T, 22, 3] of the mean body (bones to a centimetre): y up, metres."""
        vectors = torch.from_numpy(self.poses.astype(np.float64)).reshape(len(self.poses), -1, 3)
        local = quat_from_rotation_vector(vectors[:, : HUMANML3D.num_joints])
        pelvis = torch.from_numpy(self.trans.astype(np.float64)) + torch.tensor(_PELVIS, dtype=torch.float64)
        return quat_rotate(quat_inverse(_to_z_up()), body_joints(local, pelvis)).numpy()


APPROXIMATE = (
    "Approximate: rotations by inverse kinematics from joint positions, for SMPL's mean shape; twists and shape are "
    "not those of a person."
)


def smpl_poses(motion: Motion) -> SmplPoses:
    """Approximate SMPL parameters of a motion of any of the known skeletons."""
    local = smpl_turns(torch.from_numpy(motion.joints), motion.skeleton)
    first = quat_multiply(_to_z_up().expand_as(local[:, 0]), local[:, 0])
    vectors = quat_to_rotation_vector(torch.cat((first[:, None], local[:, 1:]), dim=1)).flatten(1)
    poses = np.zeros((len(motion.joints), _NUM_JOINTS * 3))
    poses[:, : vectors.shape[1]] = vectors.numpy()
    root = quat_rotate(_to_z_up(), torch.from_numpy(motion.joints[:, 0].astype(np.float64)))
    # Another skeleton's root may lie beside the pelvis.
    aside = torch.tensor(rest_place(_sources(motion.skeleton)[0]), dtype=torch.float64)
    trans = root - quat_rotate(first, aside) - torch.tensor(_PELVIS, dtype=torch.float64)
    return SmplPoses(poses, trans.numpy(), motion.fps)


def body_joints(local: Tensor, pelvis: Tensor) -> Tensor:
    """Joints [T, 22, 3] of SMPL's mean body (bones to a centimetre).

    Args:
        local: rotations [T, 22, 4], each in its parent's frame.
        pelvis: [T, 3] metres, in the world in which the pelvis is turned.
    """
    places = local.new_tensor([rest_place(name) for name in HUMANML3D.joint_names])
    joints, turns = [pelvis], [local[:, 0]]
    for joint, parent in list(enumerate(HUMANML3D.parents))[1:]:
        joints.append(joints[parent] + quat_rotate(turns[parent], places[joint] - places[parent]))
        turns.append(quat_multiply(turns[parent], local[:, joint]))
    return torch.stack(joints, dim=1)


def smpl_turns(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Approximate rotations [T, 22, 4] float64 of SMPL's first 22 joints, each in its parent's frame and the pelvis in
    the world (y up), of joint positions [T, J, 3]; differentiable."""
    turns = global_turns(joints, skeleton)
    world = torch.stack([turns[:, skeleton.index(name)] for name in _sources(skeleton)], dim=1)
    parents = list(HUMANML3D.parents[1:])
    return torch.cat((world[:, :1], quat_multiply(quat_inverse(world[:, parents]), world[:, 1:])), dim=1)


def smpl_distance(motion: Motion, poses: SmplPoses) -> float:
    """Mean distance in metres between the motion's joints and those of SMPL's mean body, for joints that both have."""
    shared = [name for name in HUMANML3D.joint_names if name in motion.skeleton.joint_names]
    mine = motion.joints[:, [motion.skeleton.index(name) for name in shared]]
    return float(np.linalg.norm(poses.joints()[:, [HUMANML3D.index(name) for name in shared]] - mine, axis=-1).mean())


def read_smpl(arrays: Mapping[str, np.ndarray], name: str) -> Motion:
    """The motion of an AMASS file; the shape of the body and the hands are passed over.

    Raises:
        UserError: poses, trans and frame rate do not fit together; `name` is the file's.
    """
    poses, trans = arrays["poses"], arrays["trans"]
    rate = np.asarray(arrays.get("mocap_framerate", arrays.get("mocap_frame_rate", np.array(np.nan))), np.float64)
    least = 3 * HUMANML3D.num_joints
    if poses.ndim != 2 or poses.shape[1] < least or trans.shape != (len(poses), 3) or rate.size != 1 or not rate > 0:
        raise UserError(
            f"{name}: poses {list(poses.shape)}, trans {list(trans.shape)} and mocap_framerate {rate} are no SMPL "
            f"motion; expected [T, {least} or more], [T, 3] and a number above 0"
        )
    motion = SmplPoses(poses, trans, float(rate))
    turns = quat_from_rotation_vector(torch.from_numpy(poses[:, :least].astype(np.float64)).unflatten(1, (-1, 3)))
    root = quat_multiply(quat_inverse(_to_z_up()).expand_as(turns[:, :1]), turns[:, :1])
    turns = torch.cat((root, turns[:, 1:]), dim=1).numpy()
    return Motion(name, motion.joints().astype(np.float32), HUMANML3D, motion.fps, turns=turns)


def _sources(skeleton: Skeleton) -> list[str]:
    """The joint of a skeleton that turns as each of SMPL's first 22 does."""
    return [
        next(source for source in _SOURCES.get(name, (name,)) if source in skeleton.joint_names)
        for name in HUMANML3D.joint_names
    ]


def _to_z_up() -> Tensor:
    return torch.tensor(_TO_Z_UP, dtype=torch.float64)
