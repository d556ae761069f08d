"""One humanoid in PyBullet: `humanoid.urdf` at a quarter of its size, on a plane, driven by the engine's stable PD.

The engine's world is y-up, as the model is; everything that goes in or comes out is z-up (`envs.body.frames`). Each
object has its own client in DIRECT mode (pybullet's wrapper would look for a shared-memory server first), so that
several are independent within one process. A reset restores a stored state without contacts before the pose is set, so
an episode does not depend on earlier ones.

The model file is read as text: its CRLF line ends and trailing NUL break XML parsers, and the engine prints a warning
for every spherical joint, since none has an axis. Inertias are computed from shapes (those in the file are
placeholders), as in bullet3's own environment. The model has no armature.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.body.frames import rotations_to_z_up, to_y_up, to_z_up
from envs.body.mujoco_model import PARTS
from envs.body.tracked import TRACKED_BODIES
from envs.settings import BODY_NAMES, DeepMimicSettings
from motions.base.errors import UserError
from motions.humanoid.kinematics import BODIES, HINGE_BODIES

Array = NDArray[np.float64]

pybullet: Any = importlib.import_module("pybullet")

SCALE = 0.25
GRAVITY = 9.81
_JOINTS = [index for index, body in enumerate(BODIES) if body.joint in ("ball", "hinge")]
"""Links of the 12 driven joints; links are numbered as in `BODY_NAMES`."""
_TRACKED = [TRACKED_BODIES.index(BODIES[index].name) for index in _JOINTS]
_IS_HINGE = [BODIES[index].name in HINGE_BODIES for index in _JOINTS]
_MASSES: Array = np.array([PARTS[name].mass for name in BODY_NAMES])


class LinkStates:
    """State of the 15 bodies of `BODY_NAMES`, world z-up: `positions` of their joints, `places` of their centres of
    mass, `rotations`, `linear` (of the centres) and `angular` velocities; and of the 13 tracked bodies the local
    rotations `joints` [13, 4] and angular velocities `spins` [13, 3], the root's in the world, the others' in their own
    frame."""

    def __init__(self, client: int, body: int) -> None:
        links = pybullet.getLinkStates(
            body,
            list(range(len(BODY_NAMES))),
            computeLinkVelocity=1,
            computeForwardKinematics=1,
            physicsClientId=client,
        )
        root_position, root_rotation = pybullet.getBasePositionAndOrientation(body, physicsClientId=client)
        root_linear, root_angular = pybullet.getBaseVelocity(body, physicsClientId=client)
        states = pybullet.getJointStatesMultiDof(body, _JOINTS, physicsClientId=client)
        self.root_position = to_z_up(np.array(root_position))
        self.root_linear = to_z_up(np.array(root_linear))
        self.positions = to_z_up(np.array([link[4] for link in links]))
        self.places = to_z_up(np.array([link[0] for link in links]))
        self.rotations = rotations_to_z_up(np.roll(np.array([link[5] for link in links]), 1, axis=-1))
        self.linear = to_z_up(np.array([link[6] for link in links]))
        self.angular = to_z_up(np.array([link[7] for link in links]))
        joints, spins = np.zeros((len(TRACKED_BODIES), 4)), np.zeros((len(TRACKED_BODIES), 3))
        joints[0], spins[0] = np.roll(root_rotation, 1), root_angular
        for row, hinge, state in zip(_TRACKED, _IS_HINGE, states, strict=True):
            if hinge:
                angle = state[0][0]
                joints[row], spins[row, 2] = (math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)), state[1][0]
            else:
                joints[row], spins[row] = np.roll(state[0], 1), state[1]
        self.joints, self.spins = rotations_to_z_up(joints), to_z_up(spins)

    @property
    def com_position(self) -> Array:
        """Position [3] of the centre of mass of the whole character."""
        return _MASSES @ self.places / _MASSES.sum()

    @property
    def com_velocity(self) -> Array:
        """Velocity [3] of the centre of mass of the whole character."""
        return _MASSES @ self.linear / _MASSES.sum()


class BulletHumanoid:
    """The character, the ground, and the engine client that simulates them.

    Example:
        humanoid = BulletHumanoid(DeepMimicSettings())
        humanoid.reset(root_position, rotations, root_linear, velocities)
        touching = humanoid.step(target_rotations, push=None)

    Args:
        settings: options of the task.
        shared: client and ground of a world in which it is one of several things, which the world steps and closes; by
            default it has a client of its own.
    """

    def __init__(self, settings: DeepMimicSettings, shared: tuple[int, int] | None = None) -> None:
        self.substeps = settings.physics_hz // settings.control_hz
        self._owns_client = shared is None
        client, self._ground = open_world(settings.physics_hz) if shared is None else shared
        self._client: int | None = client
        self.body = _load_body(client, settings)
        self._push_link = BODY_NAMES.index(settings.push_body)
        names = [BODIES[index].name for index in _JOINTS]
        self._stiffness = [settings.stiffness_scale * PARTS[name].stiffness for name in names]
        self._damping = [PARTS[name].damping(settings) for name in names]
        limits = [PARTS[name].torque_limit * settings.torque_scale for name in names]
        self._limits = [[limit] * (1 if hinge else 3) for limit, hinge in zip(limits, _IS_HINGE, strict=True)]
        self._rates = [[0.0] * (1 if hinge else 3) for hinge in _IS_HINGE]
        self._untouched = pybullet.saveState(physicsClientId=client) if self._owns_client else None

    def reset(self, root_position: Array, rotations: Array, root_linear: Array, velocities: Array) -> None:
        """Sets root position and velocity [3], rotations [13, 4] and angular velocities [13, 3] of the character."""
        client = self.open_client()
        if self._untouched is not None:
            pybullet.restoreState(stateId=self._untouched, physicsClientId=client)
        spins = to_y_up(velocities)
        root = _bullet_rotations(rotations[0])
        pybullet.resetBasePositionAndOrientation(
            self.body, to_y_up(root_position).tolist(), root, physicsClientId=client
        )
        pybullet.resetBaseVelocity(self.body, to_y_up(root_linear).tolist(), spins[0].tolist(), physicsClientId=client)
        rates = [
            [float(spins[row, 2])] if hinge else spins[row].tolist()
            for row, hinge in zip(_TRACKED, _IS_HINGE, strict=True)
        ]
        pybullet.resetJointStatesMultiDof(self.body, _JOINTS, joint_values(rotations), rates, physicsClientId=client)

    def step(self, targets: Array, push: Array | None) -> NDArray[np.bool_]:
        """One control step towards local rotations `targets` [13, 4] (the root's is ignored).

        `push` acts on the centre of the pushed body: a force [3] in N, or [6] with a torque in N m. Returns which of
        the 15 bodies touched the ground, [15].
        """
        client = self.open_client()
        touching = np.zeros(len(BODY_NAMES), dtype=np.bool_)
        values = joint_values(targets)
        wrench = None if push is None else to_y_up(push.reshape(-1, 3)).tolist()
        for _ in range(self.substeps):
            self.drive(values)
            if wrench is not None:
                self.push(wrench)
            pybullet.stepSimulation(physicsClientId=client)
            for contact in pybullet.getContactPoints(self.body, self._ground, physicsClientId=client):
                touching[contact[3]] = True
        return touching

    def drive(self, values: list[list[float]]) -> None:
        """Motors towards `joint_values` for the engine's next step."""
        pybullet.setJointMotorControlMultiDofArray(
            self.body,
            _JOINTS,
            pybullet.STABLE_PD_CONTROL,
            targetPositions=values,
            targetVelocities=self._rates,
            forces=self._limits,
            positionGains=self._stiffness,
            velocityGains=self._damping,
            physicsClientId=self.open_client(),
        )

    def push(self, wrench: list[list[float]]) -> None:
        """Applies a force, and a torque if there is one, in y-up axes, for the next step of the engine."""
        client, frame = self.open_client(), pybullet.WORLD_FRAME
        state = pybullet.getLinkState(self.body, self._push_link, computeForwardKinematics=1, physicsClientId=client)
        pybullet.applyExternalForce(self.body, self._push_link, wrench[0], state[0], frame, physicsClientId=client)
        for torque in wrench[1:]:
            pybullet.applyExternalTorque(self.body, self._push_link, torque, frame, physicsClientId=client)

    def read(self) -> LinkStates:
        """The state after the last step, with updated kinematics."""
        return LinkStates(self.open_client(), self.body)

    def lowest_point(self) -> float:
        """Height of the character's lowest point above the ground. Bounding boxes give it, except for tilted boxes, for
        which the engine is queried."""
        points = pybullet.getClosestPoints(self.body, self._ground, 100.0, physicsClientId=self.open_client())
        return min(point[8] for point in points)

    def save(self) -> bytes:
        """The engine's complete state, contacts included, for `load` in any process."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.bullet"
            pybullet.saveBullet(str(path), physicsClientId=self.open_client())
            return path.read_bytes()

    def load(self, content: bytes) -> None:
        """Continues from a saved state, bit for bit."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.bullet"
            path.write_bytes(content)
            pybullet.restoreState(fileName=str(path), physicsClientId=self.open_client())

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """An image [height, width, 3] by the engine's software renderer, from the side, following the character."""
        client = self.open_client()
        (x, y, z), _ = pybullet.getBasePositionAndOrientation(self.body, physicsClientId=client)
        target = (x, max(0.8, 0.8 * y), z)
        view = pybullet.computeViewMatrix((x + 1.0, target[1] + 0.5, z + 3.0), target, (0.0, 1.0, 0.0))
        lens = pybullet.computeProjectionMatrixFOV(45.0, width / height, 0.1, 20.0)
        image = pybullet.getCameraImage(
            width, height, view, lens, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=client
        )
        return np.asarray(image[2], dtype=np.uint8).reshape(height, width, 4)[..., :3].copy()

    def close(self) -> None:
        """Releases the client, unless it is a world's; may be called repeatedly."""
        if self._client is not None and self._owns_client:
            pybullet.disconnect(physicsClientId=self._client)
        self._client = None

    def open_client(self) -> int:
        """PyBullet's number of this simulation.

        Raises:
            ValueError: after `close`.
        """
        if self._client is None:
            raise ValueError("this environment is closed")
        return self._client


def open_world(physics_hz: int) -> tuple[int, int]:
    """A client of its own with gravity and ground; returns their ids."""
    client: int = pybullet.connect(pybullet.DIRECT)
    shape = pybullet.createCollisionShape(pybullet.GEOM_PLANE, planeNormal=(0.0, 1.0, 0.0), physicsClientId=client)
    look = pybullet.createVisualShape(
        pybullet.GEOM_BOX, halfExtents=(50.0, 0.01, 50.0), rgbaColor=(0.8, 0.84, 0.86, 1.0),
        visualFramePosition=(0.0, -0.01, 0.0), physicsClientId=client,
    )  # fmt: skip
    ground: int = pybullet.createMultiBody(0.0, shape, look, physicsClientId=client)
    pybullet.setGravity(0.0, -GRAVITY, 0.0, physicsClientId=client)
    pybullet.setPhysicsEngineParameter(
        fixedTimeStep=1.0 / physics_hz, numSolverIterations=10, numSubSteps=1,
        deterministicOverlappingPairs=1, physicsClientId=client,
    )  # fmt: skip
    pybullet.changeDynamics(ground, -1, lateralFriction=1.0, physicsClientId=client)
    return client, ground


def _load_body(client: int, settings: DeepMimicSettings) -> int:
    """Loads the character; returns its id."""
    flags = pybullet.URDF_MAINTAIN_LINK_ORDER
    if settings.self_collision:
        flags |= pybullet.URDF_USE_SELF_COLLISION | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_ALL_PARENTS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "humanoid.urdf"
        path.write_text(humanoid_urdf())
        body: int = pybullet.loadURDF(
            str(path), (0.0, 3.0, 0.0), globalScaling=SCALE, useFixedBase=False, flags=flags, physicsClientId=client
        )
    for link in range(-1, len(BODY_NAMES)):
        pybullet.changeDynamics(
            body, link, lateralFriction=settings.friction, linearDamping=0.0, angularDamping=0.0,
            jointDamping=0.0, physicsClientId=client,
        )  # fmt: skip
    for link, hinge in zip(_JOINTS, _IS_HINGE, strict=True):
        # Disable the engine's default motors, which would hold every joint in place.
        if hinge:
            pybullet.setJointMotorControl2(
                body, link, pybullet.VELOCITY_CONTROL, targetVelocity=0.0, force=0.0, physicsClientId=client
            )
        else:
            pybullet.setJointMotorControlMultiDof(
                body, link, pybullet.POSITION_CONTROL, targetPosition=(0.0, 0.0, 0.0, 1.0), positionGain=0.0,
                velocityGain=1.0, force=(0.0, 0.0, 0.0), physicsClientId=client,
            )  # fmt: skip
    return body


def humanoid_urdf() -> str:
    """The model of `pybullet_data` as text that XML parsers accept, with an axis for every spherical joint.

    Raises:
        UserError: the package or the file is missing.
    """
    spec = importlib.util.find_spec("pybullet_data")
    if spec is None or spec.origin is None:
        raise UserError("the humanoid's model is data of the PyPI package pybullet, which is not installed")
    path = Path(spec.origin).parent / "humanoid" / "humanoid.urdf"
    if not path.is_file():
        raise UserError(f"the installed pybullet_data has no file {path}")
    text = path.read_bytes().rstrip(b"\x00").decode("ascii").replace("\r\n", "\n")
    return re.sub(r'(<joint name="\w+" type="spherical"\s*>)', r'\1<axis xyz="1 0 0"/>', text)


def joint_values(rotations: Array) -> list[list[float]]:
    """Positions of the 12 joints in the engine's convention, from local rotations [13, 4]."""
    return [
        [-2.0 * math.atan2(rotations[row, 2], rotations[row, 0])] if hinge else _bullet_rotations(rotations[row])
        for row, hinge in zip(_TRACKED, _IS_HINGE, strict=True)
    ]


def _bullet_rotations(rotation: Array) -> list[float]:
    """Converts a z-up quaternion w, x, y, z to y-up x, y, z, w."""
    x, y, z = to_y_up(rotation[1:]).tolist()
    return [x, y, z, float(rotation[0])]
