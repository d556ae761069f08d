"""State of N simulated humanoids in the terms the task compares and observes, whatever simulated them.

`KinematicsReader` reads it from MuJoCo states: one exact pass of the engine's kinematics per character, because the
sensors of a finished step still show the state before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.engine import Data, Model, mujoco
from envs.imitation_reward import TRACKED_BODIES
from envs.reference import JOINT_ORDER, rotation_vector
from envs.settings import BODY_NAMES, JointModel
from motions.humanoid import BODIES, HINGE_BODIES

Array = NDArray[np.float64]

TRACKED_ROWS = [BODY_NAMES.index(name) for name in TRACKED_BODIES]
PARENT_ROWS = [BODIES[row].parent for row in TRACKED_ROWS[1:]]


@dataclass(frozen=True, slots=True)
class CharacterState:
    """N characters, world z-up. Bodies are those of `BODY_NAMES` (15), tracked ones `TRACKED_BODIES` (13)."""

    root_position: Array
    """[N, 3]."""
    root_linear: Array
    """[N, 3]."""
    rotations: Array
    """[N, 13, 4]: the root's in the world, the joints' local."""
    velocities: Array
    """[N, 13, 3] angular: the root's in the world, the joints' in their own frame."""
    coordinates: Array
    """[N, 28] joint coordinates, see `envs.reference`."""
    rates: Array
    """[N, 28]."""
    body_positions: Array
    """[N, 15, 3]."""
    body_rotations: Array
    """[N, 15, 4]."""
    body_velocities: Array | None
    """[N, 15, 6] linear, then angular; None unless asked for."""
    com_position: Array | None
    """[N, 3]; None unless asked for."""
    com_velocity: Array | None
    """[N, 3]; None unless asked for."""


# Rows and signs of the matrix that multiplies by conj(q) from the left.
_CONJUGATE_ROWS = np.array([0, 1, 2, 3, 1, 0, 3, 2, 2, 3, 0, 1, 3, 2, 1, 0])
_CONJUGATE_SIGNS = np.array([1, 1, 1, 1, -1, 1, 1, -1, -1, -1, 1, 1, -1, 1, -1, 1.0])


def relative_rotations(rotations: Array) -> Array:
    """Local rotations [N, 13, 4] of `TRACKED_BODIES` (the root's stays) from world ones [N, 15, 4]."""
    local = rotations[:, TRACKED_ROWS]
    parents = rotations[:, PARENT_ROWS]
    matrix = (parents.take(_CONJUGATE_ROWS, axis=-1) * _CONJUGATE_SIGNS).reshape(*parents.shape[:2], 4, 4)
    local[:, 1:] = np.matmul(matrix, local[:, 1:, :, None])[..., 0]
    return local


class KinematicsReader:
    """Reads `CharacterState` from qpos and qvel of the humanoid model."""

    def __init__(self, model: Model, joints: JointModel, *, with_com: bool, with_body_velocities: bool) -> None:
        self._model = model
        self._joints = joints
        self._com = with_com
        self._body_velocities = with_body_velocities
        self._data: Data = mujoco.MjData(model)
        self._ids = np.array([model.body(name).id for name in BODY_NAMES])
        self._tracked = self._ids[TRACKED_ROWS]
        self._parents = self._ids[PARENT_ROWS]
        quaternions, hinges, column, place = [], [], 7, 0
        self._ball_columns: list[int] = []
        self._hinge_columns: list[int] = []
        for name in JOINT_ORDER:
            if name in HINGE_BODIES:
                hinges.append(column)
                self._hinge_columns.append(place)
                column, place = column + 1, place + 1
            else:
                quaternions.append([column, column + 1, column + 2, column + 3])
                self._ball_columns.extend((place, place + 1, place + 2))
                column, place = column + 4, place + 3
        self._quaternions, self._hinges = np.array(quaternions), np.array(hinges)

    def read(self, qpos: Array, qvel: Array) -> CharacterState:
        """The state of qpos [N, nq] and qvel [N, nv]."""
        count, model, data = len(qpos), self._model, self._data
        positions = np.empty((count, model.nbody, 3))
        quaternions = np.empty((count, model.nbody, 4))
        matrices = np.empty((count, model.nbody, 9))
        motion = np.empty((count, model.nbody, 6))
        com = np.empty((2, count, 3)) if self._com else None
        own_qpos, own_qvel = data.qpos, data.qvel
        xpos, xquat, xmat, cvel, centre, drift = (
            *(data.xpos, data.xquat, data.xmat, data.cvel),
            *(data.subtree_com, data.subtree_linvel),
        )
        for index in range(count):
            own_qpos[:] = qpos[index]
            own_qvel[:] = qvel[index]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_comVel(model, data)
            positions[index] = xpos
            quaternions[index] = xquat
            matrices[index] = xmat
            motion[index] = cvel
            if com is not None:
                mujoco.mj_subtreeVel(model, data)
                com[0, index] = centre[1]
                com[1, index] = drift[1]
        spin = motion[:, :, :3]
        velocities = np.empty((count, len(TRACKED_ROWS), 3))
        velocities[:, 0] = spin[:, self._ids[0]]
        joint_spin = spin[:, self._tracked[1:]] - spin[:, self._parents]
        frames = matrices[:, self._tracked[1:]].reshape(count, -1, 3, 3)
        velocities[:, 1:] = np.matmul(joint_spin[:, :, None], frames)[:, :, 0]
        rotations = quaternions[:, self._ids]
        return CharacterState(
            root_position=qpos[:, :3],
            root_linear=qvel[:, :3],
            rotations=relative_rotations(rotations),
            velocities=velocities,
            coordinates=self.coordinates(qpos),
            rates=qvel[:, 6:],
            body_positions=positions[:, self._ids],
            body_rotations=rotations,
            body_velocities=self._linear_and_angular(positions, motion) if self._body_velocities else None,
            com_position=None if com is None else com[0],
            com_velocity=None if com is None else com[1],
        )

    def coordinates(self, qpos: Array) -> Array:
        """Joint coordinates [N, 28] of qpos [N, nq]."""
        if self._joints == "hinge":
            return qpos[:, 7:]
        coordinates = np.empty((len(qpos), len(self._ball_columns) + len(self._hinge_columns)))
        vectors = rotation_vector(qpos[:, self._quaternions])
        coordinates[:, self._ball_columns] = vectors.reshape(len(qpos), -1)
        coordinates[:, self._hinge_columns] = qpos[:, self._hinges]
        return coordinates

    def _linear_and_angular(self, positions: Array, motion: Array) -> Array:
        """World velocities [N, 15, 6] of body origins: the engine gives them about the centre of mass of the tree."""
        raise NotImplementedError
