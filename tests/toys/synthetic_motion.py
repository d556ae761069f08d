"""Small made-up motions for tests: a skeleton that walks a curve, swings its limbs and lifts its feet."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from motions.skeleton import rotations
from motions.skeleton.skeletons import Skeleton


def walking_joints(
    skeleton: Skeleton, num_frames: int, *, turn: float = 0.6, swing: float = 0.3, seed: int = 0
) -> np.ndarray:
    """Global joints [F, J, 3] float64 of one clip, in data units, with the skeleton's own bones.

    `turn` is the whole change of heading and `swing` the largest angle of a bone, in radians; the clip starts off the
    origin and not facing +z.
    """
    rng = np.random.default_rng(seed)
    time = np.linspace(0.0, 2.0 * np.pi, num_frames)
    heading = 0.4 + turn * np.linspace(0.0, 1.0, num_frames)
    facing = _about(heading, axis=2)
    height = np.abs(skeleton.target_offsets[list(skeleton.leg_joints)]).sum() * 1.05
    step = 0.03 * height * np.stack((np.sin(heading), np.zeros(num_frames), np.cos(heading)), axis=-1)
    joints = np.zeros((num_frames, skeleton.num_joints, 3))
    joints[:, 0] = np.cumsum(step, axis=0) + np.array([0.3 * height, height, -0.2 * height])
    for chain in skeleton.chains:
        for parent, child in pairwise(chain):
            angle = swing * rng.uniform(0.2, 1.0) * np.sin(time + rng.uniform(0.0, 6.0))
            bone = torch.from_numpy(skeleton.target_offsets[child].copy())
            local = rotations.quat_rotate(_about(angle, axis=1), bone)
            joints[:, child] = joints[:, parent] + rotations.quat_rotate(facing, local).numpy()
    return joints


def _about(angles: np.ndarray, axis: int) -> torch.Tensor:
    quats = np.zeros((len(angles), 4))
    quats[:, 0], quats[:, axis] = np.cos(angles / 2), np.sin(angles / 2)
    return torch.from_numpy(quats)


def foot_skate(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Foot skating: mean horizontal speed (m/s) of the feet's joints while they are on the floor; 0 if they never are.

    A joint of `joints` [F, J, 3] (data units, floor at 0) is on the floor where the contact features say so (its
    displacement per frame is below the skeleton's threshold) and it is below 5 cm (ball of the foot) or 10 cm (ankle).
    """
    feet = joints[:, list(skeleton.foot_joints)]
    step = np.diff(feet, axis=0)
    low = (feet * skeleton.metres_per_unit)[..., 1] < np.array([0.10, 0.05, 0.10, 0.05])
    touching = low[1:] & low[:-1] & ((step**2).sum(-1) < skeleton.contact_threshold)
    speed = np.linalg.norm(step[..., [0, 2]], axis=-1) * skeleton.metres_per_unit * skeleton.fps
    return float(speed[touching].mean()) if touching.any() else 0.0
