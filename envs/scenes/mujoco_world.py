"""The world of a scene in MuJoCo: the model of `envs.body.mujoco_model` for each humanoid, and a free body per thing.

The humanoids do not collide with themselves, as in the tracking reward; they do with each other and with all things.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

from envs.body.mujoco_import import Data, mujoco
from envs.body.mujoco_model import build_humanoid_xml
from envs.body.state import CharacterState
from envs.mujoco.vector_environment import make_reader
from envs.scenes.assets import ROLLING_M, Asset, Piece
from envs.scenes.contacts import FLOOR, ContactLog, Pair, pair_of
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.imitation_task import ImitationTask

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_GROUND = "ground"
_QUATERNIONS = {
    "x": (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0),
    "y": (np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0),
    "z": (1.0, 0.0, 0.0, 0.0),
}
"""That turn z to the axis."""


class MujocoWorld:
    """A scene in MuJoCo: see `envs.scenes.world.World`."""

    def __init__(
        self,
        assets: Sequence[Asset],
        settings: DeepMimicSettings,
        task: ImitationTask | None,
        actors: Sequence[str],
    ) -> None:
        self._model = mujoco.MjModel.from_xml_string(world_xml(assets, settings, actors))
        # A state that is not finite is ours to count; the engine would set it back and go on.
        self._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
        self._data: Data = mujoco.MjData(self._model)
        self._step_s = 1.0 / settings.physics_hz
        self._substeps = settings.physics_hz // settings.control_hz
        self._count = len(actors)
        self._steps = 0
        self.contacts = ContactLog()
        self.num_bad_steps = 0
        self._reader = None if task is None else make_reader(task)
        self._state: CharacterState | None = None
        model = self._model
        self._nq, self._nv = (
            (task.start_states(np.arange(1))[0].shape[1], task.start_states(np.arange(1))[1].shape[1])
            if task is not None
            else (0, 0)
        )
        self._roots = [model.body(f"{place}/root").id for place in range(self._count)]
        self._bodies = np.array(
            [[model.body(f"{place}/{name}").id for name in BODY_NAMES] for place in range(self._count)], dtype=int
        ).reshape(self._count, len(BODY_NAMES))
        self._things = [model.body(f"thing/{place}").id for place in range(len(assets))]
        self._names = {model.body(f"{k}/{name}").id: f"{actor}/{name}" for k, actor in enumerate(actors)
                       for name in BODY_NAMES}  # fmt: skip
        self._names |= {self._things[place]: asset.name for place, asset in enumerate(assets)} | {0: FLOOR}
        self._touch_of = {int(body): (row, index) for (row, index), body in np.ndenumerate(self._bodies)}
        if task is not None:
            qpos, qvel = task.start_states(np.arange(self._count))
            self._data.qpos[: qpos.size], self._data.qvel[: qvel.size] = qpos.ravel(), qvel.ravel()
        for place, asset in enumerate(assets):
            if not asset.fixed:
                first = int(model.joint(f"thing/{place}").dofadr[0])
                self._data.qvel[first : first + 3] = asset.velocity_mps
        mujoco.mj_forward(self._model, self._data)
        self._read()

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
        model, data = self._model, self._data
        touching = np.zeros((self._count, len(BODY_NAMES)), dtype=np.bool_)
        if self.num_bad_steps:
            self.num_bad_steps += 1
            self._steps += 1
            return touching, np.ones(self._count, dtype=np.bool_)
        loose = mujoco.mjtDisableBit.mjDSBL_ACTUATION.value
        model.opt.disableflags = model.opt.disableflags & ~loose if targets is not None else (
            model.opt.disableflags | loose
        )  # fmt: skip
        if targets is not None:
            data.ctrl[:] = targets.ravel()
        data.xfrc_applied[self._roots] = 0.0 if wrench is None else wrench
        before = data.qpos.copy(), data.qvel.copy()
        for number in range(self._substeps):
            mujoco.mj_step(model, data)
            if not (np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all()):
                self.num_bad_steps += 1
                data.qpos[:], data.qvel[:] = before
                break
            self._log((self._steps * self._substeps + number) * self._step_s, touching)
        self._steps += 1
        mujoco.mj_kinematics(model, data)
        self._read()
        return touching, np.full(self._count, self.num_bad_steps > 0)

    def keep(self, going: Flags) -> None:
        """Does nothing: see `World.keep`."""

    def object_poses(self) -> Array:
        """Places and rotations: see `World.object_poses`."""
        return np.concatenate((self._data.xpos[self._things], self._data.xquat[self._things]), axis=1)

    def object_velocities(self) -> Array:
        """Velocities: see `World.object_velocities`."""
        found, velocity = np.zeros((len(self._things), 3)), np.zeros(6)
        for row, body in enumerate(self._things):
            mujoco.mj_objectVelocity(self._model, self._data, mujoco.mjtObj.mjOBJ_BODY, body, velocity, 0)
            found[row] = velocity[3:]
        return found

    def body_poses(self) -> Array:
        """Places and rotations: see `World.body_poses`."""
        return np.concatenate((self._data.xpos[self._bodies], self._data.xquat[self._bodies]), axis=-1)

    def close(self) -> None:
        """Releases nothing: MuJoCo's memory goes with the object."""

    def _read(self) -> None:
        if self._reader is None:
            return
        qpos = self._data.qpos[: self._count * self._nq].reshape(self._count, self._nq)
        qvel = self._data.qvel[: self._count * self._nv].reshape(self._count, self._nv)
        self._state = self._reader.read(qpos, qvel)

    def _log(self, time: float, touching: Flags) -> None:
        """Records the contacts of the physics step that has just been made."""
        data, force = self._data, np.zeros(6)
        forces: dict[Pair, float] = {}
        for index in range(data.ncon):
            contact = data.contact[index]
            if contact.efc_address < 0:
                continue
            mujoco.mj_contactForce(self._model, data, index, force)
            if force[0] <= 0.0:
                continue
            bodies = [int(self._model.geom_bodyid[geom]) for geom in contact.geom]
            pair = pair_of(*(self._names[body] for body in bodies))
            forces[pair] = forces.get(pair, 0.0) + float(force[0])
            if 0 in bodies and (place := self._touch_of.get(max(bodies))) is not None:
                touching[place] = True
        self.contacts.add(time, self._step_s, forces)


def world_xml(assets: Sequence[Asset], settings: DeepMimicSettings, actors: Sequence[str]) -> str:
    """The world as MJCF text. Bodies of the k-th humanoid are called `k/root` and so on, things `thing/0`, ..."""
    root = ElementTree.fromstring(build_humanoid_xml(settings))
    world = _found(root, "worldbody")
    character, actuators = _found(world, "body"), _found(root, "actuator")
    world.remove(character)
    root.remove(actuators)
    root.remove(_found(root, "sensor"))
    _found(root, "option").set("cone", "elliptic")
    own = SubElement(root, "actuator")
    bits = [1 << (place + 1) for place in range(len(actors))]
    for place, bit in enumerate(bits):
        body = _renamed(character, f"{place}/")
        for geom in body.iter("geom"):
            geom.set("contype", str(bit))
            geom.set("conaffinity", str(1 + sum(bits) - bit))
        world.append(body)
        own.extend(_renamed(actuators, f"{place}/"))
    meshes = _found(root, "asset")
    for place, asset in enumerate(assets):
        _add_thing(world, meshes, f"thing/{place}", asset)
    return ElementTree.tostring(root, encoding="unicode")


def _found(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    assert found is not None
    return found


def _renamed(element: Element, prefix: str) -> Element:
    """A copy in which all names, and references to joints, have a prefix."""
    copy = ElementTree.fromstring(ElementTree.tostring(element))
    for one in copy.iter():
        for key in ("name", "joint"):
            if key in one.attrib:
                one.set(key, prefix + one.attrib[key])
    return copy


def _add_thing(world: Element, meshes: Element, name: str, asset: Asset) -> None:
    body = SubElement(world, "body", name=name, pos=_text(asset.place))
    if not asset.fixed:
        SubElement(body, "freejoint", name=name)
    # Its friction goes before that of floor and humanoids: the contact would take the larger one.
    for number, (piece, mass) in enumerate(zip(asset.pieces, asset.masses, strict=True)):
        geom = geom_shape(piece, f"{name}/{number}", meshes) | {
            "mass": f"{mass:.9g}", "rgba": _text((*asset.colour, 1.0)),
            "friction": _text((asset.friction, 0.005, ROLLING_M if asset.rolls else 0.0001)),
            "condim": "6" if asset.rolls else "3", "priority": "1", "contype": "1", "conaffinity": "1",
        }  # fmt: skip
        SubElement(body, "geom", geom)


def geom_shape(piece: Piece, name: str, meshes: Element) -> dict[str, str]:
    """What an MJCF geom says of a piece's shape and place; the points of a mesh of that name go into `meshes`."""
    place = {"pos": _text(piece.centre)}
    if piece.points is not None:
        SubElement(meshes, "mesh", name=name, vertex=_text(piece.points.ravel().tolist()))
        return place | {"type": "mesh", "mesh": name}
    return place | {"type": piece.shape, "size": _text(piece.size), "quat": _text(_QUATERNIONS[piece.axis])}


def _text(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
