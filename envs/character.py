"""State of N simulated humanoids in the terms the task compares and observes, whatever simulated them.

What is compared lies side by side in one array, in the layout the reference tables have too: an error is one
subtraction, and a step of a single character few calls of NumPy, which is what it costs.

`KinematicsReader` reads it from MuJoCo states. A finished step's own sensors still show the state before it, so a
second model, with a sensor for each number and no use for the physics, is put into every state and asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.engine import Data, Model, mujoco
from envs.humanoid_model import build_kinematics
from envs.imitation_reward import (
    BODIES_PART,
    COM,
    EFFECTOR_ROWS,
    PACKED_SIZE,
    ROOT_LINEAR,
    ROTATIONS,
    VELOCITIES,
    in_heading,
)
from envs.joint_coordinates import JOINT_ORDER
from envs.rotations import matrix_columns, rotation_vector
from envs.settings import BODY_NAMES, DeepMimicSettings
from motions.humanoid import HINGE_BODIES

Array = NDArray[np.float64]


class CharacterState:
    """N characters, world z-up. Bodies are those of `BODY_NAMES` (15), tracked ones `TRACKED_BODIES` (13).

    Attributes:
        packed: [N, 142], see `PACKED_SIZE`: local rotations, angular velocities, root velocity, centre of mass (its
            position or velocity, as the reward's recipe says), body positions.
        root_axes: [N, 6] where the root's rotation takes the x and the y axis.
        coordinates: [N, 28] joint coordinates; `rates`: [N, 28].
        body_axes: [N, 15, 6] as `root_axes`, of every body; None unless the observations show them.
        body_velocities: [N, 15, 6] of the bodies' origins, linear and angular; None likewise.
    """

    __slots__ = (
        "_key_points", "body_axes", "body_velocities", "coordinates", "heading", "packed", "rates", "root_axes",
    )  # fmt: skip

    def __init__(
        self,
        packed: Array,
        root_axes: Array,
        coordinates: Array,
        rates: Array,
        body_axes: Array | None = None,
        body_velocities: Array | None = None,
    ) -> None:
        self.packed = packed
        self.root_axes = root_axes
        self.coordinates = coordinates
        self.rates = rates
        self.body_axes = body_axes
        self.body_velocities = body_velocities
        along, across = root_axes[:, 0], root_axes[:, 1]
        length = np.sqrt(along * along + across * across)
        if length.min() < 1e-9:  # a vertical x axis has no heading
            along, length = np.where(length < 1e-9, 1.0, along), np.maximum(length, 1.0 * (length < 1e-9))
        self.heading: tuple[Array, Array] = (along / length, across / length)
        """Cosine and sine [N] of the direction that the root faces."""
        self._key_points: Array | None = None

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
            root_linear: [N, 3].
            coordinates, rates: [N, 28].
            body_positions: [N, 15, 3]. body_rotations: [N, 15, 4]. body_velocities: [N, 15, 6].
            com: [N, 3] position or velocity of the centre of mass, None where the recipe does not ask.
        """
        count = len(rotations)
        packed = np.zeros((count, PACKED_SIZE))
        packed[:, ROTATIONS] = rotations.reshape(count, -1)
        packed[:, VELOCITIES] = velocities.reshape(count, -1)
        packed[:, ROOT_LINEAR] = root_linear
        packed[:, COM] = 0.0 if com is None else com
        packed[:, BODIES_PART] = body_positions.reshape(count, -1)
        axes = matrix_columns(body_rotations)
        return cls(packed, axes[:, 0], coordinates, rates, axes, body_velocities)

    @property
    def rotations(self) -> Array:
        """[N, 13, 4]: the root's in the world, the joints' local."""
        return self.packed[:, ROTATIONS].reshape(-1, 13, 4)

    @property
    def velocities(self) -> Array:
        """[N, 13, 3] angular: the root's in the world, the joints' in their own frame."""
        return self.packed[:, VELOCITIES].reshape(-1, 13, 3)

    @property
    def root_linear(self) -> Array:
        """[N, 3]."""
        return self.packed[:, ROOT_LINEAR]

    @property
    def com(self) -> Array:
        """[N, 3] position or velocity of the centre of mass, as the recipe says; 0 where it does not ask."""
        return self.packed[:, COM]

    @property
    def body_positions(self) -> Array:
        """[N, 15, 3]."""
        return self.packed[:, BODIES_PART].reshape(-1, len(BODY_NAMES), 3)

    @property
    def root_position(self) -> Array:
        """[N, 3]."""
        return self.packed[:, BODIES_PART.start : BODIES_PART.start + 3]

    @property
    def key_points(self) -> Array:
        """[N, 4, 3] hands and feet: horizontally from the root in its heading, vertically above the ground."""
        if self._key_points is None:
            points = self.body_positions[:, EFFECTOR_ROWS]
            self._key_points = in_heading(points, self.root_position, self.heading)
        return self._key_points


class KinematicsReader:
    """Reads `CharacterState` from qpos and qvel of the humanoid model.

    `com` says which of the centre of mass: "position", "velocity" or None; `with_bodies` whether axes and velocities of
    all bodies are wanted.
    """

    def __init__(self, settings: DeepMimicSettings, com: str | None, *, with_bodies: bool) -> None:
        self._model: Model = build_kinematics(settings, com, with_bodies=with_bodies)
        self._data: Data = mujoco.MjData(self._model)
        self._hinge = settings.joints == "hinge"
        self._with_bodies = with_bodies
        self._com_velocity = com == "velocity"
        # The packed numbers, the root's axes, then those of the bodies. Sensors tell how the parent turns against the
        # child, in the child's frame: the joint's velocity is the opposite.
        self._signs = np.ones(self._model.nsensordata)
        self._signs[VELOCITIES.start + 3 : VELOCITIES.stop] = -1.0
        self._layout = BallLayout()

    def read(self, qpos: Array, qvel: Array) -> CharacterState:
        """The state of qpos [N, nq] and qvel [N, nv]."""
        count, model, data = len(qpos), self._model, self._data
        numbers = np.empty((count, model.nsensordata))
        own_qpos, own_qvel, sensors = data.qpos, data.qvel, data.sensordata
        drifts = mujoco.mj_subtreeVel if self._com_velocity else None
        positions, centres, speeds, places, rates = (
            mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_comVel, mujoco.mj_sensorPos, mujoco.mj_sensorVel,
        )  # fmt: skip
        for index in range(count):
            own_qpos[:] = qpos[index]
            own_qvel[:] = qvel[index]
            positions(model, data)
            centres(model, data)
            speeds(model, data)
            if drifts is not None:  # the sensors would take those of the state before
                drifts(model, data)
            places(model, data)
            rates(model, data)
            numbers[index] = sensors
        numbers *= self._signs
        end = PACKED_SIZE + 6
        bodies = numbers[:, end:].reshape(count, len(BODY_NAMES), 12) if self._with_bodies else None
        return CharacterState(
            packed=numbers[:, :PACKED_SIZE],
            root_axes=numbers[:, PACKED_SIZE:end],
            coordinates=self.coordinates(qpos),
            rates=qvel[:, 6:],
            body_axes=None if bodies is None else bodies[:, :, :6],
            body_velocities=None if bodies is None else bodies[:, :, 6:],
        )

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
    """Where the model with ball joints keeps its joints.

    Attributes:
        quaternions: [8, 4] columns of qpos; ball_columns: [8, 3] of the coordinates that they become.
        hinges: [4] columns of qpos; hinge_columns: [4] of the coordinates.
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
