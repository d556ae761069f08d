"""State of N simulated humanoids in the quantities that the task compares and observes, for any simulator.

What is compared lies side by side in one array, in the same layout as the reference tables, so that an error is one
subtraction. The step of a single character is limited by the number of NumPy calls; that is also why views of the parts
are made once for a state that is read repeatedly.

`KinematicsReader` computes it from MuJoCo states. After a step MuJoCo's own sensors still show the previous state, so a
second model, with a sensor for each number and no dynamics, is set to every state and evaluated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.body.headings import Facing, Turner
from envs.body.joint_coordinates import JOINT_ORDER
from envs.body.mujoco_import import Data, Model, mujoco
from envs.body.mujoco_model import build_kinematics
from envs.body.rotations import matrix_columns, rotation_vector
from envs.body.tracked import (
    BODIES_PART,
    COM,
    EFFECTOR_ROWS,
    END_EFFECTORS,
    PACKED_SIZE,
    POINTS,
    ROOT_LINEAR,
    ROTATIONS,
    VELOCITIES,
)
from envs.settings import BODY_NAMES, DeepMimicSettings
from motions.humanoid.kinematics import HINGE_BODIES

Array = NDArray[np.float64]


ROOT_VECTORS, COORDINATES, RATES, BODIES = slice(154, 166), slice(166, 194), slice(194, 222), slice(222, 402)
"""Columns after the packed ones: the root's x and y axis, its linear and its angular velocity; joint coordinates and
their rates; and, if the observations include them, axes and velocities of every body."""


# Hands and feet are stored beside the root's vectors, so that one rotation serves both.
_TURNER = Turner(range(POINTS.start, ROOT_VECTORS.stop), ["xy"] * len(END_EFFECTORS) + [""] * 4)


class CharacterState:
    """N characters, world z-up. Bodies are those of `BODY_NAMES` (15), tracked ones `TRACKED_BODIES` (13).

    Args:
        numbers: [N, 222 or 402] by the columns above, everything in the world. Kept, and changed in place: hands and
            feet and the root's vectors are rotated into its heading. Call `update` after writing new numbers.

    Attributes:
        packed: [N, 154], see `PACKED_SIZE`: local rotations, angular velocities, root velocity, centre of mass (its
            position or velocity, as the reward recipe requires), body positions, hands and feet relative to the root.
        root_position: [N, 3]; `height`: [N, 1].
        body_positions: [N, 15, 3].
        points: [N, 12] hands and feet: horizontally relative to the root in its heading frame, vertically above the
            ground.
        root_vectors: [N, 12] in the heading frame: x and y axis of the root, its linear and its angular velocity.
        facing: heading of the root.
        coordinates: [N, 28] joint coordinates; `rates`: [N, 28].
        body_vectors: [N, 15, 4, 3] in the world: x and y axis of every body, linear and angular velocity of its origin;
            empty in the second axis if `numbers` has no columns for them.
    """

    __slots__ = (
        *("_turned", "body_positions", "body_vectors", "coordinates", "facing", "height"),
        *("numbers", "packed", "points", "rates", "root_position", "root_vectors"),
    )

    def __init__(self, numbers: Array) -> None:
        count = len(numbers)
        self.numbers = numbers
        self.packed = numbers[:, :PACKED_SIZE]
        self.body_positions = self.packed[:, BODIES_PART].reshape(count, len(BODY_NAMES), 3)
        self.root_position = self.body_positions[:, 0]
        self.height = self.root_position[:, 2:]
        self.points = self.packed[:, POINTS]
        self.root_vectors = numbers[:, ROOT_VECTORS]
        self.coordinates, self.rates = numbers[:, COORDINATES], numbers[:, RATES]
        self.body_vectors = numbers[:, BODIES].reshape(count, (numbers.shape[1] - RATES.stop) // 12, 4, 3)
        self.facing = Facing(self.root_vectors[:, :2])
        self._turned = numbers[:, POINTS.start : ROOT_VECTORS.stop]
        self.update()

    def update(self) -> None:
        """Processes new `numbers`: rotates them into the heading frame."""
        self.facing.update()
        self._turned[:] = _TURNER.turned(self.numbers, self.root_position, self.facing.unit)

    @classmethod
    def from_parts(
        cls,
        *,
        rotations: Array,
        velocities: Array,
        root_linear: Array,
        coordinates: Array,
        rates: Array,
        body_positions: Array,
        body_rotations: Array,
        body_velocities: Array,
        com: Array | None,
    ) -> CharacterState:
        """The state from separate arrays.

        Args:
            rotations: [N, 13, 4], the root's in the world, the joints' local.
            velocities: [N, 13, 3] angular, the root's in the world, the joints' in their own frame.
            root_linear: [N, 3] velocity of the root, m/s.
            coordinates, rates: [N, 28].
            body_positions: [N, 15, 3]. body_rotations: [N, 15, 4]. body_velocities: [N, 15, 6].
            com: [N, 3] position or velocity of the centre of mass, None if the reward recipe does not use it.
        """
        axes = matrix_columns(body_rotations)
        parts = (
            *(rotations, velocities, root_linear, np.zeros_like(root_linear) if com is None else com),
            *(body_positions, body_positions[:, EFFECTOR_ROWS]),
            *(axes[:, 0], root_linear, velocities[:, 0], coordinates, rates),
            np.concatenate((axes, body_velocities), axis=-1),
        )
        return cls(np.concatenate([part.reshape(len(rotations), -1) for part in parts], axis=1))

    @property
    def rotations(self) -> Array:
        """Rotations [N, 13, 4]: the root's in the world, the joints' local."""
        return self.packed[:, ROTATIONS].reshape(-1, 13, 4)

    @property
    def velocities(self) -> Array:
        """Angular velocities [N, 13, 3]: the root's in the world, the joints' in their own frame."""
        return self.packed[:, VELOCITIES].reshape(-1, 13, 3)

    @property
    def root_linear(self) -> Array:
        """Velocity [N, 3] of the root, m/s."""
        return self.packed[:, ROOT_LINEAR]

    @property
    def com(self) -> Array:
        """Position or velocity [N, 3] of the centre of mass, as the reward recipe requires; 0 if it does not use it."""
        return self.packed[:, COM]

    @property
    def heading(self) -> tuple[Array, Array]:
        """Cosine and sine [N] of the root's heading."""
        return self.facing.unit[:, 0], self.facing.unit[:, 1]


class KinematicsReader:
    """Computes a `CharacterState` from qpos and qvel of the humanoid model.

    `com` selects what is read of the centre of mass: "position", "velocity" or None; `with_bodies` adds axes and
    velocities of all bodies.
    """

    def __init__(self, settings: DeepMimicSettings, com: str | None, *, with_bodies: bool) -> None:
        self._model: Model = build_kinematics(settings, com, with_bodies=with_bodies)
        self._data: Data = mujoco.MjData(self._model)
        self._views = self._data.qpos, self._data.qvel, self._data.sensordata
        self._hinge = settings.joints == "hinge"
        # The sensors would use the subtree velocities of the previous state.
        drifts = (mujoco.mj_subtreeVel,) if com == "velocity" else ()
        self._stages = (
            *(mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_comVel, *drifts),
            *(mujoco.mj_sensorPos, mujoco.mj_sensorVel),
        )
        # The sensors give the rotation of the parent relative to the child, in the child's frame: the joint's velocity
        # is the opposite.
        self._signs = np.ones(self._model.nsensordata)
        self._signs[VELOCITIES.start + 3 : VELOCITIES.stop] = -1.0
        self._layout = BallLayout()

    def read(self, qpos: Array, qvel: Array, into: CharacterState | None = None) -> CharacterState:
        """The state of qpos [N, nq] and qvel [N, nv]; `into`, if given, is a state of N characters to overwrite."""
        model, data = self._model, self._data
        numbers = np.empty((len(qpos), len(self._signs))) if into is None else into.numbers
        own_qpos, own_qvel, sensors = self._views
        for row, own_qpos[:], own_qvel[:] in zip(numbers, qpos, qvel, strict=True):
            for stage in self._stages:
                stage(model, data)
            np.multiply(sensors, self._signs, out=row)
        if not self._hinge:
            numbers[:, COORDINATES] = self.coordinates(qpos)
        if into is None:
            return CharacterState(numbers)
        into.update()
        return into

    def coordinates(self, qpos: Array) -> Array:
        """Joint coordinates [N, 28] of qpos [N, nq]."""
        if self._hinge:
            return qpos[:, 7:]
        layout = self._layout
        coordinates = np.empty((len(qpos), layout.ball_columns.size + len(layout.hinges)))
        coordinates[:, layout.ball_columns] = rotation_vector(qpos[:, layout.quaternions])
        coordinates[:, layout.hinge_columns] = qpos[:, layout.hinges]
        return coordinates


class BallLayout:
    """Columns of the joints in the model with ball joints.

    Attributes:
        quaternions: [8, 4] columns of qpos; ball_columns: [8, 3] columns of the coordinates that they become.
        hinges: [4] columns of qpos; hinge_columns: [4] columns of the coordinates.
    """

    def __init__(self) -> None:
        quaternions: list[range] = []
        ball_columns: list[range] = []
        hinges: list[int] = []
        hinge_columns: list[int] = []
        column, place = 7, 0
        for name in JOINT_ORDER:
            if name in HINGE_BODIES:
                hinges.append(column)
                hinge_columns.append(place)
                column, place = column + 1, place + 1
            else:
                quaternions.append(range(column, column + 4))
                ball_columns.append(range(place, place + 3))
                column, place = column + 4, place + 3
        self.quaternions, self.ball_columns = np.array(quaternions), np.array(ball_columns)
        self.hinges, self.hinge_columns = np.array(hinges), np.array(hinge_columns)
