"""BVH files of the built-in mocap, as other programs might write them, and where the joints are.

The humanoid's own bodies and rotations are written, so the files hold real walks and jumps, with feet that stand still.
Each option of `Recording` is one way in which files differ, or in which they mislead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from motions.humanoid.kinematics import BODIES, forward_kinematics
from motions.humanoid.mocap import Pose, load_clip

WORLD = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""From the clips' axes (x forward, y up, z right) to x left, y up, z forward."""
Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From y up to z up, facing -y."""

NAMES = {
    "root": "Hips",
    "chest": "Chest",
    "neck": "Neck",
    **{
        f"{side}_{part}": f"{side.capitalize()}{name}"
        for side in ("right", "left")
        for part, name in (
            *(("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot")),
            *(("shoulder", "Arm"), ("elbow", "ForeArm"), ("wrist", "Hand")),
        )
    },
}
"""Body of the humanoid -> name of the joint in the file."""
JOINT_OF = {"root": "pelvis", "neck": "neck"} | {body: body for body in NAMES if body.startswith(("left_", "right_"))}
"""Body of the humanoid -> HumanML3D joint at its place."""
ENDS = {
    "neck": (0.0, 0.20, 0.0),
    **{f"{side}_ankle": (0.14, -0.04, 0.0) for side in ("left", "right")},
    **{f"{side}_wrist": (0.0, -0.08, 0.0) for side in ("left", "right")},
}
"""End sites, in the clips' axes."""
T_POSE_ARMS = {
    "right_shoulder": Rotation.from_euler("x", -90, degrees=True),
    "left_shoulder": Rotation.from_euler("x", 90, degrees=True),
}
"""Turns of the upper arms, in the clips' axes, from hanging to sideways."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A clip as a file."""

    clip: str = "walk"
    seconds: float = 4.0
    fps: float = 30.0
    header_fps: float | None = None
    """What the header says instead."""
    names: dict[str, str] = field(default_factory=lambda: NAMES)
    name_format: str = "{}"
    """What stands around every name."""
    basis: np.ndarray = field(default_factory=lambda: np.eye(3))
    """[3, 3] from x left, y up, z forward to the file's axes; a reflection makes them left-handed."""
    rest: str = "t_pose"
    """Pose without rotation: `t_pose`, `hanging` arms, or `along_x` (every bone along x, as some exporters have it)."""
    unit: float = 0.01
    root_unit: float = 1.0
    """Factor on the root's translation."""
    order: str = "ZXY"
    positions: str = "root"
    """Joints with position channels: `root`, all of them `absolute` or `relative` to their OFFSET, or `none`."""
    above: tuple[str, ...] = ()
    """Joints above the pelvis that stand still; the pelvis has the translation."""
    rest_before: int = 0
    rest_after: int = 0
    """Frames of the rest pose at either end."""
    rest_heading: float = 0.0
    """Degrees by which it is turned."""
    radians: bool = False
    lying: bool = False
    """The body turned onto its back and near the floor; its path is the same."""
    turn: float = 0.0
    """Degrees by which the whole motion is turned about the vertical."""

    @property
    def num_frames(self) -> int:
        """Frames of the motion, without rest poses."""
        return round(self.seconds * self.fps) + 1

    def joints(self) -> dict[str, np.ndarray]:
        """HumanML3D joint -> true path [F, 3] in metres, x left, y up, z forward, without rest poses."""
        places, _ = self._world()
        return {joint: places[:, index] for index, body in enumerate(BODIES) if (joint := JOINT_OF.get(body.name))}

    def text(self) -> str:
        """The file."""
        header = ["HIERARCHY", *self._hierarchy()]
        rows = self._rows()
        time = 1.0 / (self.header_fps or self.fps)
        header += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {time:.9f}"]
        return "\n".join([*header, *(" ".join(f"{value:.7f}" for value in row) for row in rows)]) + "\n"

    def write(self, path: Path) -> Path:
        """Writes the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(), encoding="utf-8")
        return path

    def _world(self) -> tuple[np.ndarray, Rotation]:
        """Positions [F, 15, 3] and rotations [F * 15] of the bodies, x left, y up, z forward."""
        places, quats = _played(self.clip, self.seconds, self.fps)
        whole = Rotation.from_euler("y", self.turn, degrees=True)
        onto_back = Rotation.from_euler("x", -90 if self.lying else 0, degrees=True)
        axes = Rotation.from_matrix(WORLD)
        turned = whole * onto_back * axes * Rotation.from_quat(np.roll(quats, -1, axis=-1).reshape(-1, 4)) * axes.inv()
        pelvis = places[:, :1] @ WORLD.T
        if self.lying:
            pelvis = pelvis * [1.0, 0.1, 1.0] + [0.0, 0.04, 0.0]
        around = (places - places[:, :1]) @ WORLD.T
        moved = whole.apply((pelvis + onto_back.apply(around.reshape(-1, 3)).reshape(around.shape)).reshape(-1, 3))
        return moved.reshape(places.shape), turned

    def _rest_turns(self) -> list[Rotation]:
        """Global rotation of each body in the rest pose, x left, y up, z forward."""
        turns = []
        for body in BODIES:
            if self.rest == "along_x":
                turns.append(_along_x(body.name))
                continue
            parent = turns[body.parent] if body.parent >= 0 else Rotation.identity()
            own = T_POSE_ARMS.get(body.name) if self.rest == "t_pose" else None
            axes = Rotation.from_matrix(WORLD)
            turns.append(parent if own is None else parent * axes * own * axes.inv())
        return turns

    def _offsets(self) -> list[np.ndarray]:
        """OFFSET of each body in the file's axes and unit."""
        rest = self._rest_turns()
        offsets = []
        for body in BODIES:
            turn = rest[body.parent] if body.parent >= 0 else Rotation.identity()
            offsets.append(self.basis @ turn.apply(WORLD @ np.array(body.offset)) / self.unit)
        return offsets

    def _hierarchy(self) -> list[str]:
        lines: list[str] = []
        offsets, rest = self._offsets(), self._rest_turns()
        rotations = " ".join(f"{axis}rotation" for axis in self.order)
        moving = f"6 Xposition Yposition Zposition {rotations}"
        for depth, name in enumerate(self.above):
            pad = "  " * depth
            lines.extend(
                [
                    f"{pad}{'JOINT' if depth else 'ROOT'} {name}",
                    f"{pad}{{",
                    f"{pad}  OFFSET 0 0 0",
                    f"{pad}  CHANNELS {moving}",
                ]
            )

        def write(index: int, depth: int) -> None:
            body, pad = BODIES[index], "  " * depth
            has_position = self.positions in ("absolute", "relative") or (index == 0 and self.positions != "none")
            x, y, z = offsets[index]
            name = self.name_format.format(self.names[body.name])
            lines.extend(
                [
                    f"{pad}{'JOINT' if depth else 'ROOT'} {name}",
                    f"{pad}{{",
                    f"{pad}  OFFSET {x:.6f} {y:.6f} {z:.6f}",
                    f"{pad}  CHANNELS {moving if has_position else '3 ' + rotations}",
                ]
            )
            children = [child for child, other in enumerate(BODIES) if other.parent == index]
            for child in children:
                write(child, depth + 1)
            if body.name in ENDS:
                x, y, z = self.basis @ rest[index].apply(WORLD @ np.array(ENDS[body.name])) / self.unit
                lines.extend(
                    [f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET {x:.6f} {y:.6f} {z:.6f}", f"{pad}  }}"]
                )
            lines.append(f"{pad}}}")

        write(0, len(self.above))
        lines.extend("  " * depth + "}" for depth in reversed(range(len(self.above))))
        return lines

    def _rows(self) -> np.ndarray:
        places, turns = self._world()
        count, number = len(places), len(BODIES)
        world = turns.as_matrix().reshape(count, number, 3, 3)
        rest = np.stack([turn.inv().as_matrix() for turn in self._rest_turns()])
        oriented = world @ rest
        root = places[:, 0] * self.root_unit / self.unit
        heading = Rotation.from_euler("y", self.rest_heading, degrees=True).as_matrix()
        still = np.concatenate([heading[None], np.tile(np.eye(3), (number - 1, 1, 1))])
        local = oriented.copy()
        for index, body in enumerate(BODIES):
            if body.parent >= 0:
                local[:, index] = np.swapaxes(oriented[:, body.parent], -1, -2) @ oriented[:, index]
        before, after = np.tile(still, (self.rest_before, 1, 1, 1)), np.tile(still, (self.rest_after, 1, 1, 1))
        local = np.concatenate([before, local, after])
        standing = np.array([[0.0, 0.9 / self.unit * self.root_unit, 0.0]])
        root = np.concatenate([standing.repeat(self.rest_before, 0), root, standing.repeat(self.rest_after, 0)])
        offsets = self._offsets()
        columns = [np.zeros((len(local), 6 * len(self.above)))]
        for index in _depth_first(0):
            if index == 0 and self.positions != "none":
                columns.append(root @ self.basis.T)
            elif index and self.positions in ("absolute", "relative"):
                columns.append(np.tile(offsets[index] * (self.positions == "absolute"), (len(local), 1)))
            changed = self.basis @ local[:, index] @ self.basis.T
            degrees = Rotation.from_matrix(changed).as_euler(self.order, degrees=True)
            columns.append(np.deg2rad(degrees) if self.radians else degrees)
        return np.concatenate(columns, axis=1)


def _depth_first(index: int) -> list[int]:
    """A body and all below it in the order of a hierarchy."""
    children = [child for child, body in enumerate(BODIES) if body.parent == index]
    return [index, *(below for child in children for below in _depth_first(child))]


@cache
def _played(name: str, seconds: float, fps: float) -> tuple[np.ndarray, np.ndarray]:
    clip = load_clip(name)
    times = torch.arange(round(seconds * fps) + 1, dtype=torch.float64) / fps
    pose: Pose = clip.pose(times)
    places, quats = forward_kinematics(pose.root_positions, pose.ball_rotations, pose.hinge_angles)
    return places.numpy(), quats.numpy()


def _along_x(body: str) -> Rotation:
    """A rotation that takes the bone below a body to the x axis."""
    down = body.split("_")[-1] in ("hip", "knee", "shoulder", "elbow", "wrist")
    return Rotation.from_euler("z", 90 if down else -90, degrees=True)
