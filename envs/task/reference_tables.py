"""The reference motion's clips as dense tables of samples.

Clips are quaternions (`motions.humanoid.mocap`); here each is sampled once at `TABLE_HZ`, from its first to its last
key frame, with everything that an environment compares, observes or commands: rotations, velocities, body positions,
joint coordinates. The tables end at the seam of a cycle, so nothing is ever interpolated across it. Velocities, also
those of joint coordinates, follow the clip's definition (forward differences of key frames, interpolated linearly).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from envs.body.frames import rotations_to_z_up, to_z_up
from envs.body.joint_coordinates import ball_coordinates, ball_state, hinge_coordinate_rates, hinge_coordinates
from envs.body.mujoco_import import Data, Model, mujoco
from envs.body.mujoco_model import build_humanoid
from envs.body.rotations import matrix_columns
from envs.body.tracked import EFFECTOR_ROWS, TRACKED_BODIES, end_effectors_in
from envs.settings import BODY_NAMES, HumanoidSettings, JointModel
from envs.task.clips import FileVersion, file_version, open_clip
from motions.humanoid.kinematics import BALL_BODIES, HINGE_BODIES
from motions.humanoid.mocap import MocapClip

Array = NDArray[np.float64]

TABLE_HZ = 240.0
"""Default number of samples per second of the tables, at least."""

PLACE_COLUMNS, AXES_COLUMNS = slice(0, 3), slice(3, 9)
COORDINATE_COLUMNS, RATE_COLUMNS = slice(9, 37), slice(37, 65)
"""Columns of `Table.target`: after the root's position and its x and y axis, joint coordinates and their rates."""


@dataclass(frozen=True, slots=True)
class Table:
    """K samples of one clip."""

    state: Array
    """Packed states [K, 154]: the compared quantities."""
    target: Array
    """Target poses [K, 65], by the columns above."""
    start: Array
    """[K, nq + nv + 1] MuJoCo's qpos and qvel, and the height of the lowest point."""

    @classmethod
    def build(cls, clip: MocapClip, joints: JointModel, com_velocity: bool, table_hz: float) -> Table:
        """Samples a clip at `table_hz` or slightly more; `com_velocity` packs the velocity of the centre of mass,
        not its position."""
        count = max(2, math.ceil(clip.duration * table_hz - 1e-9) + 1)
        times = np.linspace(0.0, clip.duration, count)
        ends = torch.from_numpy(times).clamp(max=math.nextafter(clip.duration, 0.0))  # before the next cycle begins
        pose, velocity = clip.pose(ends), clip.velocity(ends)
        root = to_z_up(pose.root_positions.numpy())
        balls, angles = rotations_to_z_up(pose.ball_rotations.numpy()), pose.hinge_angles.numpy()
        linear, turning = to_z_up(velocity.root_linear.numpy()), to_z_up(velocity.ball_angular.numpy())
        rotations = _tracked_rotations(balls, angles)
        velocities = _tracked_velocities(turning, velocity.hinge_rates.numpy())
        ball_qpos, ball_qvel = ball_state(root, rotations, linear, velocities)
        bodies, centre, drift, lowest = _kinematics(ball_qpos, ball_qvel)
        points = end_effectors_in("root", bodies[:, EFFECTOR_ROWS], root, rotations[:, 0])
        parts = (rotations, velocities, linear, drift if com_velocity else centre, bodies, points)
        state = np.concatenate([part.reshape(count, -1) for part in parts], axis=1)
        qpos, qvel = ball_qpos, ball_qvel
        coordinates, rates = ball_coordinates(rotations), ball_qvel[:, 6:]
        if joints == "hinge":
            coordinates = hinge_coordinates(rotations)
            rates = hinge_coordinate_rates(clip.times.numpy(), times, coordinates, velocities)
            qpos = np.concatenate((ball_qpos[:, :7], coordinates), axis=1)
            qvel = np.concatenate((ball_qvel[:, :6], rates), axis=1)
        target = np.concatenate((root, matrix_columns(rotations[:, 0]), coordinates, rates), axis=1)
        return cls(state, target, np.concatenate((qpos, qvel, lowest[:, None]), axis=1))


def named_table(
    name: str, seam_blend_s: float, joints: JointModel, com_velocity: bool, table_hz: float
) -> tuple[MocapClip, Table]:
    """A clip and its table, which is computed once per process."""
    return _table(name, file_version(name), seam_blend_s, joints, com_velocity, table_hz)


@lru_cache(maxsize=64)
def _table(
    name: str, version: FileVersion, seam_blend_s: float, joints: JointModel, com_velocity: bool, table_hz: float
) -> tuple[MocapClip, Table]:
    clip = open_clip(name, seam_blend_s)
    return clip, Table.build(clip, joints, com_velocity, table_hz)


def _tracked_rotations(balls: Array, angles: Array) -> Array:
    """Rotations [K, 13, 4] of `TRACKED_BODIES`, from those of `BALL_BODIES` [K, 9, 4] and angles [K, 4] about -y."""
    rotations = np.zeros((len(balls), len(TRACKED_BODIES), 4))
    for index, name in enumerate(BALL_BODIES):
        rotations[:, TRACKED_BODIES.index(name)] = balls[:, index]
    for index, name in enumerate(HINGE_BODIES):
        body = TRACKED_BODIES.index(name)
        rotations[:, body, 0] = np.cos(angles[:, index] / 2)
        rotations[:, body, 2] = -np.sin(angles[:, index] / 2)
    return rotations


def _tracked_velocities(turning: Array, rates: Array) -> Array:
    velocities = np.zeros((len(turning), len(TRACKED_BODIES), 3))
    for index, name in enumerate(BALL_BODIES):
        velocities[:, TRACKED_BODIES.index(name)] = turning[:, index]
    for index, name in enumerate(HINGE_BODIES):
        velocities[:, TRACKED_BODIES.index(name), 1] = -rates[:, index]
    return velocities


def _kinematics(qpos: Array, qvel: Array) -> tuple[Array, Array, Array, Array]:
    """Body positions [K, 15, 3], centre of mass [K, 3], its velocity [K, 3], lowest point [K], on the ball model."""
    model = build_humanoid(HumanoidSettings(joints="ball"))
    data: Data = mujoco.MjData(model)
    ids = [model.body(name).id for name in BODY_NAMES]
    bodies, com, speed = np.empty((len(qpos), len(ids), 3)), np.empty((len(qpos), 3)), np.empty((len(qpos), 3))
    lowest = np.empty(len(qpos))
    for index in range(len(qpos)):
        data.qpos[:], data.qvel[:] = qpos[index], qvel[index]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        mujoco.mj_subtreeVel(model, data)
        bodies[index], com[index], speed[index] = data.xpos[ids], data.subtree_com[1], data.subtree_linvel[1]
        lowest[index] = lowest_point(model, data)
    return bodies, com, speed, lowest


def lowest_point(model: Model, data: Data) -> float:
    """Height of the lowest point of the character above the ground, metres."""
    lowest = math.inf
    for geom in range(model.ngeom):
        kind, size, height = model.geom_type[geom], model.geom_size[geom], data.geom_xpos[geom, 2]
        down = np.abs(data.geom_xmat[geom, 6:9])
        if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            lowest = min(lowest, height - size[0])
        elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            lowest = min(lowest, height - size[0] - size[1] * down[2])
        elif kind == mujoco.mjtGeom.mjGEOM_BOX:
            lowest = min(lowest, height - float(down @ size))
    return lowest
