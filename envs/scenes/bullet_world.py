"""The world of a scene in PyBullet: humanoids of `envs.bullet.physics` and compounds of primitive shapes.

The engine's world is y-up; what goes in or comes out is z-up. Each world has a client of its own. Friction of two
things is the product of theirs; floor and humanoids have 1, so there the thing's own holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.body.frames import rotations_to_z_up, to_y_up, to_z_up
from envs.body.joint_coordinates import local_rotations
from envs.body.rotations import rotation_matrices
from envs.body.state import CharacterState
from envs.bullet.environment import character_states, put_on_reference, start_coordinates
from envs.bullet.physics import BulletHumanoid, joint_values, open_world, pybullet
from envs.scenes.assets import ROLLING_M, Asset, Piece
from envs.scenes.contacts import FLOOR, ContactLog, Pair, pair_of
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.imitation_task import ImitationTask

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_SOLVER_STEPS = 50
"""Iterations of the engine's contact solver: stacks of things need more than a single humanoid does."""
_HALF = float(np.sqrt(0.5))
_TURNS = {"x": (0.0, _HALF, 0.0, _HALF), "y": (0.0, 0.0, 0.0, 1.0), "z": (_HALF, 0.0, 0.0, _HALF)}
"""Quaternions x, y, z, w that turn the engine's cylinders, which lie along its z, to the scene's axes."""


class BulletWorld:
    """A scene in PyBullet: see `envs.scenes.world.World`."""

    def __init__(
        self,
        assets: Sequence[Asset],
        settings: DeepMimicSettings,
        task: ImitationTask | None,
        actors: Sequence[str],
    ) -> None:
        self._client, self._ground = open_world(settings.physics_hz)
        self._closed = False
        pybullet.setPhysicsEngineParameter(numSolverIterations=_SOLVER_STEPS, physicsClientId=self._client)
        self._step_s = 1.0 / settings.physics_hz
        self._substeps = settings.physics_hz // settings.control_hz
        self._steps = 0
        self.contacts = ContactLog()
        self.num_bad_steps = 0
        self._task = task
        self._humanoids = [BulletHumanoid(settings, (self._client, self._ground)) for _ in actors]
        self._things = [_make_thing(self._client, asset) for asset in assets]
        self._middles = [asset.balance[0] for asset in assets]
        self._names = {self._ground: FLOOR} | {
            thing: asset.name for thing, asset in zip(self._things, assets, strict=True)
        }
        self._actors = {humanoid.body: (row, actors[row]) for row, humanoid in enumerate(self._humanoids)}
        self._state: CharacterState | None = None
        if task is not None:
            put_on_reference(self._humanoids, task)
        self._links = [humanoid.read() for humanoid in self._humanoids]
        self._poses, self._velocities = self._read_things()
        self._read_state(None if task is None else start_coordinates(task))

    @property
    def time(self) -> float:
        """Seconds since the beginning."""
        return self._steps * self._substeps * self._step_s

    @property
    def state(self) -> CharacterState:
        """The humanoids: see `World.state`."""
        if self._state is None:
            raise ValueError("there are no humanoids in this world")
        return self._state

    def step(self, targets: Array | None = None, wrench: Array | None = None) -> tuple[Flags, Flags]:
        """One control step: see `World.step`."""
        count = len(self._humanoids)
        touching = np.zeros((count, len(BODY_NAMES)), dtype=np.bool_)
        if self.num_bad_steps:
            self.num_bad_steps += 1
            self._steps += 1
            return touching, np.ones(count, dtype=np.bool_)
        values = None
        if targets is not None and self._task is not None:
            values = [joint_values(one) for one in local_rotations(targets, self._task.reference.joints)]
        pushes = None if wrench is None else [to_y_up(one.reshape(2, 3)).tolist() for one in wrench]
        for number in range(self._substeps):
            for row, humanoid in enumerate(self._humanoids):
                if values is not None:
                    humanoid.drive(values[row])
                if pushes is not None:
                    humanoid.push(pushes[row])
            pybullet.stepSimulation(physicsClientId=self._client)
            self._log((self._steps * self._substeps + number) * self._step_s, touching)
        self._steps += 1
        links = [humanoid.read() for humanoid in self._humanoids]
        poses, velocities = self._read_things()
        numbers = [poses, velocities, *(array for one in links for array in (one.positions, one.linear, one.joints))]
        if not all(np.isfinite(array).all() for array in numbers):
            self.num_bad_steps += 1
            return touching, np.ones(count, dtype=np.bool_)
        self._links, self._poses, self._velocities = links, poses, velocities
        self._read_state(None if self._state is None else self._state.coordinates)
        return touching, np.zeros(count, dtype=np.bool_)

    def keep(self, going: Flags) -> None:
        """Does nothing: see `World.keep`."""

    def object_poses(self) -> Array:
        """Places and rotations: see `World.object_poses`."""
        return self._poses.copy()

    def object_velocities(self) -> Array:
        """Velocities: see `World.object_velocities`."""
        return self._velocities.copy()

    def body_poses(self) -> Array:
        """Places and rotations: see `World.body_poses`."""
        poses = [np.concatenate((one.positions, one.rotations), axis=1) for one in self._links]
        return np.array(poses).reshape(len(poses), len(BODY_NAMES), 7)

    def close(self) -> None:
        """Releases the client; may be called repeatedly."""
        if not self._closed:
            pybullet.disconnect(physicsClientId=self._client)
            self._closed = True

    def _read_state(self, near: Array | None) -> None:
        if self._task is not None and near is not None:
            self._state = character_states(self._links, self._task, near)

    def _read_things(self) -> tuple[Array, Array]:
        poses, velocities = np.zeros((len(self._things), 7)), np.zeros((len(self._things), 3))
        for row, (thing, middle) in enumerate(zip(self._things, self._middles, strict=True)):
            place, turn = pybullet.getBasePositionAndOrientation(thing, physicsClientId=self._client)
            linear, _ = pybullet.getBaseVelocity(thing, physicsClientId=self._client)
            rotation = rotations_to_z_up(np.roll(np.array(turn), 1))
            poses[row, :3] = to_z_up(np.array(place)) - rotation_matrices(rotation) @ middle
            poses[row, 3:] = rotation
            velocities[row] = to_z_up(np.array(linear))
        return poses, velocities

    def _log(self, time: float, touching: Flags) -> None:
        """Records the contacts of the physics step that has just been made."""
        forces: dict[Pair, float] = {}
        for contact in pybullet.getContactPoints(physicsClientId=self._client):
            force = contact[9]
            if not force > 0.0:
                continue
            first, second = (self._name(contact[body], contact[body + 2]) for body in (1, 2))
            pair = pair_of(first, second)
            forces[pair] = forces.get(pair, 0.0) + float(force)
            for body in (1, 2):
                if contact[3 - body] == self._ground and contact[body] in self._actors:
                    touching[self._actors[contact[body]][0], contact[body + 2]] = True
        self.contacts.add(time, self._step_s, forces)

    def _name(self, body: int, link: int) -> str:
        if body in self._actors:
            return f"{self._actors[body][1]}/{BODY_NAMES[max(link, 0)]}"
        return self._names[body]


def _make_thing(client: int, asset: Asset) -> int:
    """A body of several shapes, about its centre of mass."""
    middle, inertia = asset.balance
    shapes = [_shape(piece) for piece in asset.pieces]
    places = [to_y_up(np.array(piece.centre) - middle).tolist() for piece in asset.pieces]
    turns = [_TURNS[piece.axis] if piece.shape == "cylinder" else (0.0, 0.0, 0.0, 1.0) for piece in asset.pieces]
    common = {"physicsClientId": client}
    if len(shapes) == 1:
        shape = pybullet.createCollisionShape(
            **shapes[0], collisionFramePosition=places[0], collisionFrameOrientation=turns[0], **common
        )
    else:
        kinds = {key: [one.get(key, default) for one in shapes] for key, default in _DEFAULTS.items()}
        shape = pybullet.createCollisionShapeArray(
            shapeTypes=[one["shapeType"] for one in shapes],
            radii=kinds["radius"],
            halfExtents=kinds["halfExtents"],
            lengths=kinds["height"],
            collisionFramePositions=places,
            collisionFrameOrientations=turns,
            **common,
        )
    mass = 0.0 if asset.fixed else asset.mass_kg
    place = to_y_up(np.array(asset.place) + middle).tolist()
    thing: int = pybullet.createMultiBody(mass, shape, -1, basePosition=place, **common)
    options = {"localInertiaDiagonal": inertia[[0, 2, 1]].tolist()} if mass else {}
    pybullet.changeDynamics(
        thing, -1, lateralFriction=asset.friction, rollingFriction=ROLLING_M if asset.rolls else 0.0,
        linearDamping=0.0, angularDamping=0.0, restitution=0.0, **options, **common,
    )  # fmt: skip
    if mass:
        pybullet.resetBaseVelocity(thing, to_y_up(np.array(asset.velocity_mps)).tolist(), **common)
    return thing


_DEFAULTS = {"radius": 0.0, "halfExtents": (0.0, 0.0, 0.0), "height": 0.0}


def _shape(piece: Piece) -> dict[str, object]:
    """A piece's shape as PyBullet's options; the engine's cylinders are along z."""
    if piece.points is not None:
        return {"shapeType": pybullet.GEOM_MESH, "vertices": to_y_up(piece.points).tolist()}
    if piece.shape == "box":
        x, y, z = piece.size
        return {"shapeType": pybullet.GEOM_BOX, "halfExtents": (x, z, y)}
    if piece.shape == "sphere":
        return {"shapeType": pybullet.GEOM_SPHERE, "radius": piece.size[0]}
    return {"shapeType": pybullet.GEOM_CYLINDER, "radius": piece.size[0], "height": 2.0 * piece.size[1]}
