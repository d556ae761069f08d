"""Writes motions as BVH files: metres, y up, facing +z in rest pose, rotations Z, Y, X in degrees."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from motions.files.motion import Motion
from motions.files.rigging import Rig, make_rig

_ORDER = "ZYX"
_TIP_M = 0.08
"""Length of the bone that an end site gives to a joint without children."""


def bvh_text(motion: Motion) -> str:
    """The text of a BVH file.

    Joints whose place in the frame of their parent changes have position channels; these stand for the OFFSET, as they
    do in the root.
    """
    rig = make_rig([motion])
    order = list(_depth_first(rig, 0))
    lines = ["HIERARCHY", *_hierarchy(rig, 0, 0), "MOTION", f"Frames: {len(motion.joints)}"]
    lines.append(f"Frame Time: {1.0 / motion.fps:.9g}")
    columns = []
    for joint in order:
        if rig.moves[joint]:
            columns.append(rig.takes[0].positions[:, joint])
        columns.append(_degrees(rig.takes[0].turns[:, joint]))
    # Adding 0 makes -0 a 0.
    rows = np.round(np.concatenate(columns, axis=1), 6) + 0.0
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _degrees(turns: np.ndarray) -> np.ndarray:
    """Angles [T, 3] in the order of the channels, without jumps of 360 degrees."""
    with warnings.catch_warnings():
        # Where the middle angle is 90 degrees one of the others is free; SciPy says that it chooses 0.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        angles = Rotation.from_quat(turns, scalar_first=True).as_euler(_ORDER)
    return np.degrees(np.unwrap(angles, axis=0))


def _depth_first(rig: Rig, joint: int) -> Sequence[int]:
    below = [child for child, parent in enumerate(rig.parents) if parent == joint]
    return [joint, *(index for child in below for index in _depth_first(rig, child))]


def _hierarchy(rig: Rig, joint: int, depth: int) -> Sequence[str]:
    indent, inner = "\t" * depth, "\t" * (depth + 1)
    places = "Xposition Yposition Zposition " if rig.moves[joint] else ""
    turns = " ".join(f"{axis}rotation" for axis in _ORDER)
    lines = [f"{indent}{'JOINT' if depth else 'ROOT'} {rig.names[joint]}", f"{indent}{{"]
    lines.append(f"{inner}OFFSET {_numbers(rig.rest[joint])}")
    lines.append(f"{inner}CHANNELS {6 if places else 3} {places}{turns}")
    below = [child for child, parent in enumerate(rig.parents) if parent == joint]
    for child in below:
        lines += _hierarchy(rig, child, depth + 1)
    if not below:
        bone = rig.rest[joint]
        tip = bone * (_TIP_M / max(float(np.linalg.norm(bone)), 1e-9))
        lines += [f"{inner}End Site", f"{inner}{{", f"{inner}\tOFFSET {_numbers(tip)}", f"{inner}}}"]
    return [*lines, f"{indent}}}"]


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in np.round(vector, 6) + 0.0)
