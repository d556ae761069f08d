"""The 45 kg humanoid of the DeepMimic clips as a MuJoCo model, generated from tables.

Masses, shapes and gains are those of Peng et al. 2018 (the character and controller files of xbpeng/DeepMimic); offsets
come from `motions.humanoid.kinematics`, rotated to z up. qpos is the root's position (3) and quaternion (4), then per
joint, arms before legs, three hinge angles x, y, z (or a quaternion) and one angle for knees and elbows: 35 numbers
with hinges, 43 with ball joints; nv is 34 and nu 28 for both.

Knees and elbows rotate about -y, which keeps the sign of the clips' angles. Ball joints of the shoulders have their
zero halfway between a hanging and a raised arm: a position actuator on a ball joint works on the rotation vector, whose
angle must stay clear of 180 degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from envs.body.mujoco_import import Model, mujoco
from envs.body.tracked import END_EFFECTORS, TRACKED_BODIES
from envs.settings import BODY_NAMES, DAMPING_RATIO, HumanoidSettings
from motions.humanoid.kinematics import BODIES


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Shape, mass and controller of one body; lengths in metres, z up; `size` in MuJoCo's convention for the shape."""

    shape: str
    size: tuple[float, ...]
    centre: tuple[float, float, float]
    mass: float
    stiffness: float = 0.0
    """Spring constant Kp in N m / rad, unscaled; the damping constant Kd is a tenth of it."""
    torque_limit: float = 0.0
    """Largest torque about each axis, N m."""
    color: str = "0.55 0.6 0.7 1"

    def damping(self, settings: HumanoidSettings) -> float:
        """Damping constant Kd in N m s / rad."""
        return settings.damping_scale * DAMPING_RATIO * self.stiffness


_CHEST = BodyPart("sphere", (0.11,), (0.0, 0.0, 0.12), 14.0, 1000.0, 200.0)
_NECK = BodyPart("sphere", (0.1025,), (0.0, 0.0, 0.175), 2.0, 100.0, 50.0)
_HIP = BodyPart("capsule", (0.055, 0.15), (0.0, 0.0, -0.21), 4.5, 500.0, 200.0)
_KNEE = BodyPart("capsule", (0.05, 0.155), (0.0, 0.0, -0.2), 3.0, 500.0, 150.0)
_ANKLE = BodyPart("box", (0.0885, 0.045, 0.0275), (0.045, 0.0, -0.0225), 1.0, 400.0, 90.0)
_SHOULDER = BodyPart("capsule", (0.045, 0.09), (0.0, 0.0, -0.14), 1.5, 400.0, 100.0)
_ELBOW = BodyPart("capsule", (0.04, 0.0675), (0.0, 0.0, -0.12), 1.0, 300.0, 60.0)
_WRIST = BodyPart("sphere", (0.04,), (0.0, 0.0, 0.0), 0.5)

PARTS: dict[str, BodyPart] = {
    "root": BodyPart("sphere", (0.09,), (0.0, 0.0, 0.07), 6.0),
    "chest": _CHEST,
    "neck": _NECK,
    **{
        f"{side}_{part.removeprefix('_').lower()}": value
        for side in ("right", "left")
        for part, value in (
            ("hip", _HIP),
            ("knee", _KNEE),
            ("ankle", _ANKLE),
            ("shoulder", _SHOULDER),
            ("elbow", _ELBOW),
            ("wrist", _WRIST),
        )
    },
}
"""Parts by name of the body in `motions.humanoid.kinematics.BODIES`."""

HINGE_RANGES = {"knee": (-math.pi, 0.0), "elbow": (0.0, math.pi)}

_SHOULDER_TILT = {
    "right_shoulder": (math.sqrt(0.5), -0.5, -0.5, 0.0),
    "left_shoulder": (math.sqrt(0.5), 0.5, -0.5, 0.0),
}
"""Rest rotation of the shoulders' ball joints: arms level, halfway between forward and sideways."""


_BODY_SENSORS = ("xaxis", "yaxis", "linvel", "angvel")


def build_humanoid_xml(settings: HumanoidSettings) -> str:
    """The model as MJCF text: character, ground, actuators, and per body a sensor of its contact with the ground."""
    root = _character(settings)
    actuators = SubElement(root, "actuator")
    for element in root.iter("joint"):
        _add_actuators(actuators, element, settings)
    sensors = SubElement(root, "sensor")
    for name in BODY_NAMES:
        SubElement(sensors, "contact", name=f"touch_{name}", geom1="ground", body2=name, data="found", num="1")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def build_kinematics_xml(settings: HumanoidSettings, com: str | None, *, with_bodies: bool) -> str:
    """The same character, without actuators, with sensors that output its state as `envs.body.state` packs it.

    In this order: rotation of the root, and of the joints relative to their parents; angular velocity of the root, and
    of the joints' parents relative to their children (the opposite of the joints'), in the children's frames; velocity
    of the root; centre of mass or its velocity (three unused numbers if neither); positions of the bodies, and again
    those of hands and feet; the root's axes, velocity and angular velocity; joint coordinates (of hinges; 28 unused
    numbers for ball joints) and their rates; then, with `with_bodies`, axes and velocities of every body.
    """
    root = _character(settings)
    sensors = SubElement(root, "sensor")
    parents = {body.name: BODIES[body.parent].name for body in BODIES if body.parent >= 0}

    def frame(kind: str, name: str, reference: str | None = None) -> None:
        against = {} if reference is None else {"reftype": "xbody", "refname": reference}
        SubElement(sensors, f"frame{kind}", {"objtype": "xbody", "objname": name, **against})

    for name in TRACKED_BODIES:
        frame("quat", name, parents.get(name))
    for name in TRACKED_BODIES:
        frame("angvel", parents.get(name, name), name if name in parents else None)
    frame("linvel", "root")
    if com is None:
        SubElement(sensors, "user", dim="3")
    else:
        SubElement(sensors, "subtreecom" if com == "position" else "subtreelinvel", body="root")
    for name in (*BODY_NAMES, *END_EFFECTORS):
        frame("pos", name)
    for kind in _BODY_SENSORS:
        frame(kind, "root")
    joints = list(root.iter("joint"))
    if settings.joints == "ball":
        SubElement(sensors, "user", dim=str(sum(3 if joint.get("type") == "ball" else 1 for joint in joints)))
    else:
        for joint in joints:
            SubElement(sensors, "jointpos", joint=joint.get("name", ""))
    for joint in joints:
        SubElement(sensors, "ballangvel" if joint.get("type") == "ball" else "jointvel", joint=joint.get("name", ""))
    for name in BODY_NAMES if with_bodies else ():
        for kind in _BODY_SENSORS:
            frame(kind, name)
    return ElementTree.tostring(root, encoding="unicode")


def _character(settings: HumanoidSettings) -> Element:
    """The MJCF tree: simulation options, ground and bodies."""
    root = Element("mujoco", {"model": "deepmimic_humanoid"})
    SubElement(root, "compiler", angle="radian", autolimits="true")
    integrator = "implicitfast" if settings.pd == "actuator" else "Euler"
    SubElement(root, "option", timestep=f"{1.0 / settings.physics_hz:.17g}", integrator=integrator)
    _add_looks(root)
    world = SubElement(root, "worldbody")
    SubElement(world, "light", pos="0 0 4", dir="0 0 -1", mode="trackcom")
    SubElement(world, "geom", name="ground", type="plane", size="0 0 1", contype="1", conaffinity="0",
               friction=f"{settings.friction:g} 0.005 0.0001", material="ground")  # fmt: skip
    # MuJoCo numbers joints depth first in the order of the text: arms before legs, as the chest is the root's first
    # child.
    elements: dict[str, Element] = {}
    for body in BODIES:
        parent = world if body.parent < 0 else elements[BODIES[body.parent].name]
        elements[body.name] = _add_body(parent, body.name, body.joint, body.offset, settings)
    return root


def _add_looks(root: Element) -> None:
    visual = SubElement(root, "visual")
    SubElement(visual, "global", offwidth="1280", offheight="960")
    SubElement(visual, "headlight", ambient="0.4 0.4 0.4", diffuse="0.5 0.5 0.5")
    asset = SubElement(root, "asset")
    SubElement(asset, "texture", name="checker", type="2d", builtin="checker", rgb1="0.75 0.78 0.8",
               rgb2="0.85 0.87 0.89", width="256", height="256")  # fmt: skip
    SubElement(asset, "material", name="ground", texture="checker", texrepeat="1 1", texuniform="true")


def _add_body(
    parent: Element, name: str, joint: str, offset: tuple[float, float, float], settings: HumanoidSettings
) -> Element:
    part = PARTS[name]
    x, y, z = offset
    element = SubElement(parent, "body", name=name, pos=_text(x, -z, y))
    if joint == "free":
        SubElement(element, "freejoint", name="root")
    elif joint == "hinge":
        lowest, highest = HINGE_RANGES[name.split("_")[1]]
        limits = {"name": name, "axis": "0 -1 0", "range": _text(lowest, highest)}
        SubElement(element, "joint", limits | _dynamics(part, settings))
    elif joint == "ball" and settings.joints == "ball":
        element.set("quat", _text(*rest_rotation(name, settings.joints)))
        SubElement(element, "joint", {"name": name, "type": "ball"} | _dynamics(part, settings))
    elif joint == "ball":
        for letter, axis in (("x", "1 0 0"), ("y", "0 1 0"), ("z", "0 0 1")):
            SubElement(element, "joint", {"name": f"{name}_{letter}", "axis": axis} | _dynamics(part, settings))
    SubElement(element, "geom", name=name, type=part.shape, size=_text(*part.size), pos=_text(*part.centre),
               mass=f"{part.mass:g}", contype=str(int(settings.self_collision)), conaffinity="1", rgba=part.color,
               friction=f"{settings.friction:g} 0.005 0.0001")  # fmt: skip
    return element


def _dynamics(part: BodyPart, settings: HumanoidSettings) -> dict[str, str]:
    damping = part.damping(settings) if settings.pd == "damping" else 0.0
    return {"armature": f"{settings.armature:g}", "damping": f"{damping:g}"}


def _add_actuators(actuators: Element, joint: Element, settings: HumanoidSettings) -> None:
    name = joint.get("name", "")
    part = PARTS[name[:-2] if name[-2:] in ("_x", "_y", "_z") else name]
    limit = part.torque_limit * settings.torque_scale
    for letter in "xyz" if joint.get("type") == "ball" else ("",):
        common = {"name": f"{name}_{letter}" if letter else name, "joint": name, "forcerange": _text(-limit, limit)}
        if letter:
            common["gear"] = _text(*(float(letter == axis) for axis in "xyz"), 0.0, 0.0, 0.0)
        if settings.pd == "stable":
            SubElement(actuators, "motor", common)
            continue
        damping = part.damping(settings) if settings.pd == "actuator" else 0.0
        stiffness = settings.stiffness_scale * part.stiffness
        SubElement(actuators, "position", common | {"kp": f"{stiffness:g}", "kv": f"{damping:g}"})


def rest_rotation(name: str, joints: str) -> tuple[float, float, float, float]:
    """Local rotation (w, x, y, z) of a body while its joint's own coordinates are 0."""
    return _SHOULDER_TILT.get(name, (1.0, 0.0, 0.0, 0.0)) if joints == "ball" else (1.0, 0.0, 0.0, 0.0)


def _text(*numbers: float) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)


@lru_cache(maxsize=16)
def _compile(xml: str) -> Model:
    return mujoco.MjModel.from_xml_string(xml)


def build_humanoid(settings: HumanoidSettings) -> Model:
    """The compiled model. Calls with equal options share one object, which must not be changed."""
    return _compile(build_humanoid_xml(settings))


def build_kinematics(settings: HumanoidSettings, com: str | None, *, with_bodies: bool) -> Model:
    """The compiled model of `build_kinematics_xml`, shared in the same way."""
    return _compile(build_kinematics_xml(settings, com, with_bodies=with_bodies))
