"""Small BVH files for tests, and where their joints are: forward kinematics by SciPy, independent of the importer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from motions.skeleton.skeletons import HUMANML3D

REST = {
    "pelvis": (0.0, 0.95, 0.0),
    "left_hip": (0.07, 0.87, 0.0),
    "left_knee": (0.09, 0.47, 0.01),
    "left_ankle": (0.09, 0.07, -0.02),
    "left_foot": (0.10, 0.02, 0.11),
    "spine1": (0.0, 1.07, -0.02),
    "spine2": (0.0, 1.20, 0.0),
    "spine3": (0.0, 1.27, 0.01),
    "neck": (0.0, 1.49, -0.02),
    "head": (0.0, 1.58, 0.03),
    "left_collar": (0.08, 1.41, 0.0),
    "left_shoulder": (0.19, 1.42, -0.01),
    "left_elbow": (0.45, 1.41, -0.01),
    "left_wrist": (0.70, 1.42, 0.0),
}
"""Rest pose in metres, x to the left, y up, z forward; the right side is its mirror image."""

MIXAMO = {
    "pelvis": "mixamorig:Hips",
    "spine1": "mixamorig:Spine",
    "spine2": "mixamorig:Spine1",
    "spine3": "mixamorig:Spine2",
    "neck": "mixamorig:Neck",
    "head": "mixamorig:Head",
    **{
        f"{side.lower()}_{joint}": f"mixamorig:{side}{part}"
        for side in ("Left", "Right")
        for joint, part in (
            *(("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("foot", "ToeBase"), ("collar", "Shoulder")),
            *(("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand")),
        )
    },
}


@dataclass(frozen=True)
class Rig:
    """A hierarchy: HumanML3D joint -> name in the file; joints without a name are left out of it."""

    names: Mapping[str, str]

    @property
    def joints(self) -> list[str]:
        """The joints of the rig, parents first (depth first, as a file lists them)."""
        ordered: list[str] = []

        def visit(joint: int) -> None:
            if HUMANML3D.joint_names[joint] in self.names:
                ordered.append(HUMANML3D.joint_names[joint])
            for child, parent in enumerate(HUMANML3D.parents):
                if parent == joint:
                    visit(child)

        visit(0)
        return ordered

    def parent(self, joint: str) -> str | None:
        """Nearest ancestor that the rig has."""
        index = HUMANML3D.parents[HUMANML3D.index(joint)]
        while index >= 0 and HUMANML3D.joint_names[index] not in self.names:
            index = HUMANML3D.parents[index]
        return HUMANML3D.joint_names[index] if index >= 0 else None

    def offset(self, joint: str) -> np.ndarray:
        """From the parent to the joint in rest pose, metres."""
        parent = self.parent(joint)
        return rest(joint) - (rest(parent) if parent else 0.0)


def rest(joint: str) -> np.ndarray:
    """Rest position of a joint, metres."""
    if joint.startswith("right_"):
        return np.array(REST[joint.replace("right_", "left_")]) * [-1.0, 1.0, 1.0]
    return np.array(REST[joint])


@dataclass(frozen=True, eq=False)
class Animation:
    """Local rotations [F, joints of the rig] and positions of the root [F, 3], metres."""

    rig: Rig
    turns: list[Rotation]
    root: np.ndarray

    def positions(self) -> np.ndarray:
        """Global positions [F, 22, 3], metres; nan for joints that the rig lacks."""
        result = np.full((len(self.root), HUMANML3D.num_joints, 3), np.nan)
        world: dict[str, tuple[Rotation, np.ndarray]] = {}
        for joint, turn in zip(self.rig.joints, self.turns, strict=True):
            parent = self.rig.parent(joint)
            if parent is None:
                world[joint] = (turn, self.root)
            else:
                parent_turn, parent_position = world[parent]
                world[joint] = (parent_turn * turn, parent_position + parent_turn.apply(self.rig.offset(joint)))
            result[:, HUMANML3D.index(joint)] = world[joint][1]
        return result


def animate(rig: Rig, num_frames: int, seed: int = 0, fps: float = 20.0, heading: float = 0.4) -> Animation:
    """A walk-like motion: swinging joints, a root that moves forward and turns slowly; smooth in time."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_frames) / fps
    turns = []
    for joint in rig.joints:
        waves = rng.uniform(-20, 20, size=3) * np.sin(2 * np.pi * time[:, None] * 0.7 + rng.uniform(0, 6, size=3))
        if joint == "pelvis":
            waves = waves * 0.1 + np.stack((0 * time, np.rad2deg(heading) + 10 * time, 0 * time), axis=1)
        turns.append(Rotation.from_euler("XYZ", waves, degrees=True))
    root = np.stack((0.3 + 0.3 * time, 0.95 + 0.01 * np.sin(time), -0.2 + 0.8 * time), axis=1)
    return Animation(rig, turns, root)


def bvh_text(
    animation: Animation,
    *,
    order: str = "ZXY",
    unit: float = 0.01,
    fps: float = 20.0,
    basis: np.ndarray | None = None,
    positions_everywhere: bool = False,
) -> str:
    """The animation as a BVH file in units of `unit` metres; `basis` [3, 3] takes its axes to the file's."""
    rig = animation.rig
    axes = np.eye(3) if basis is None else basis
    offsets = {joint: rig.offset(joint) @ axes.T / unit for joint in rig.joints}
    lines = ["HIERARCHY"]

    def write(joint: str, depth: int) -> None:
        pad = "  " * depth
        root = rig.parent(joint) is None
        with_position = root or positions_everywhere
        rotations = " ".join(f"{axis}rotation" for axis in order)
        channels = f"6 Xposition Yposition Zposition {rotations}" if with_position else f"3 {rotations}"
        x, y, z = offsets[joint] * (0.0 if root else 1.0)
        # With position channels the OFFSET does not count; a wrong one shows that.
        wrong = 7.0 if positions_everywhere and not root else 0.0
        lines.extend(
            [
                f"{pad}{'ROOT' if root else 'JOINT'} {rig.names[joint]}",
                f"{pad}{{",
                f"{pad}  OFFSET {x + wrong:.6f} {y:.6f} {z:.6f}",
                f"{pad}  CHANNELS {channels}",
            ]
        )
        children = [child for child in rig.joints if rig.parent(child) == joint]
        for child in children:
            write(child, depth + 1)
        if not children:
            tip = np.array([0.0, 0.0, 0.1]) @ axes.T / unit
            lines.extend(
                [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {tip[0]} {tip[1]} {tip[2]}", f"{pad}  }}"]
            )
        lines.append(f"{pad}}}")

    write(rig.joints[0], 0)
    lines.extend(["MOTION", f"Frames: {len(animation.root)}", f"Frame Time: {1.0 / fps:.9f}"])
    change = Rotation.from_matrix(axes)
    columns = []
    for joint, turn in zip(rig.joints, animation.turns, strict=True):
        if rig.parent(joint) is None:
            columns.append(animation.root @ axes.T / unit)
        elif positions_everywhere:
            columns.append(np.tile(offsets[joint], (len(animation.root), 1)))
        columns.append((change * turn * change.inv()).as_euler(order, degrees=True))
    lines.extend(" ".join(f"{value:.9f}" for value in row) for row in np.concatenate(columns, axis=1))
    return "\n".join(lines) + "\n"


def write_bvh(path: Path, animation: Animation, **options) -> Path:
    """Writes `bvh_text` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(bvh_text(animation, **options))
    return path
