"""Converts a generated motion to a reference for simulation: on the humanoid, on the floor, with velocities.

Legend: S control steps of a motion, 15 bodies of `envs.settings.BODY_NAMES`; world z-up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from envs.body.frames import rotations_to_z_up, to_z_up
from envs.body.lowest_points import lowest_points
from envs.task.clips import FLOOR_QUANTILE
from motions.base.errors import UserError
from motions.humanoid.fit import fit_clip
from motions.humanoid.kinematics import forward_kinematics
from motions.humanoid.mocap import MocapClip

Array = NDArray[np.float64]

MAX_SPEED_MPS = 15.0
"""Root speed above which a motion is implausible and is not simulated."""
CONTROL_HZ = 30


class UntrackableError(UserError):
    """A motion cannot be converted to the humanoid."""


@dataclass(frozen=True, slots=True)
class TrackingReference:
    """One motion; arrays hold the times 0, 1/30, ... up to the end of the last whole control step."""

    clip: MocapClip
    bodies: Array
    """Positions [S + 1, 15, 3] of the bodies' joints."""
    heights: Array
    """Height [S + 1, 15] of each body's lowest point above the floor."""
    root_rotation: Array
    """Rotation [S + 1, 4] of the root, w, x, y, z."""
    root_linear: Array
    """Velocity [S + 1, 3] of the root, m/s."""
    root_angular: Array
    """Angular velocity [S + 1, 3] of the root in the world, rad/s."""
    floor_shift: float
    """Metres by which the motion was raised."""

    @property
    def num_steps(self) -> int:
        """Number S of control steps."""
        return len(self.bodies) - 1

    @property
    def penetration(self) -> float:
        """Depth of the lowest point below the floor, metres."""
        return float(max(0.0, -self.heights.min()))


def tracking_reference(
    joints: Array, fps: float, name: str, *, max_seconds: float, max_floor_shift: float
) -> TrackingReference:
    """Converts a motion of HumanML3D joints [F, 22, 3] (metres) to a reference of the humanoid.

    Raises:
        UntrackableError: it has bones of no length, is not finite, is shorter than a control step, or its root is
            faster than `MAX_SPEED_MPS`.
    """
    frames = joints[: max(2, int(max_seconds * fps) + 1)]
    try:
        clip = fit_clip(frames, fps, name)
    except ValueError as error:
        raise UntrackableError(str(error)) from error
    steps = int(clip.duration * CONTROL_HZ + 1e-6)
    speed = float(clip.frame_velocities.root_linear.norm(dim=-1).max())
    if steps < 1 or not speed <= MAX_SPEED_MPS:
        raise UntrackableError(f"{name}: {steps} control steps, root speed {speed:.1f} m/s")
    times = torch.arange(steps + 1, dtype=torch.float64) / CONTROL_HZ
    pose, velocity = clip.pose(times), clip.velocity(times)
    positions, turns = forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)
    bodies, rotations = to_z_up(positions.numpy()), rotations_to_z_up(turns.numpy())
    heights = lowest_points(bodies, rotations)
    shift = -float(np.quantile(heights.min(axis=1), FLOOR_QUANTILE))
    shift = float(np.clip(shift, -max_floor_shift, max_floor_shift))
    raised = clip.root_positions + clip.root_positions.new_tensor([0.0, shift, 0.0])
    return TrackingReference(
        clip=replace(clip, root_positions=raised),
        bodies=bodies + np.array([0.0, 0.0, shift]),
        heights=heights + shift,
        root_rotation=rotations[:, 0],
        root_linear=to_z_up(velocity.root_linear.numpy()),
        root_angular=to_z_up(velocity.ball_angular[:, 0].numpy()),
        floor_shift=shift,
    )
