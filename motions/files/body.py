"""A body of capsules around the rest pose of a rig: the mesh that a GLB file shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motions.drawing import HEAD_RADIUS, Colour, limbs_of
from motions.files.rigging import Rig
from motions.skeleton.skeletons import Skeleton

_AROUND, _ALONG = 16, 5
"""Corners around a capsule, and rings of each of its half spheres."""
_TORSO_WIDTH_M = 0.2
_TORSO = ("spine1", "spine2", "spine3", "chest", "neck")
"""Joints that end a bone of the torso, which is as thick as a torso."""
_BELOW_NECK = 0.55
"""Share of the bone from the third joint of the spine to the neck that belongs to the torso."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles of one colour."""

    colour: Colour
    points: np.ndarray
    """[V, 3] float32 metres, in the rest pose with the root at the origin."""
    normals: np.ndarray
    """[V, 3] float32."""
    joints: np.ndarray
    """[V] the joint that each point turns with."""
    ends: np.ndarray
    """[V] the joint at the far end of the bone for points there, which keep their distance from its place, so that a
    bone that is stretched shows no gap; -1 for the others, which keep theirs from the joint they turn with."""
    triangles: np.ndarray
    """[F, 3] indices of points, counter-clockwise seen from outside."""


@dataclass(frozen=True, eq=False)
class _Capsule:
    start: np.ndarray
    end: np.ndarray
    radius: float
    joint: int
    """The joint that it turns with."""
    far: int = -1
    """The joint at its end, if it is a whole bone."""


def body_meshes(rig: Rig, skeleton: Skeleton) -> list[Mesh]:
    """One part for each colour: the trunk with the head, left limbs, right limbs."""
    places = rig.places
    capsules: dict[Colour, list[_Capsule]] = {}
    for limb in limbs_of(skeleton):
        for parent, joint, width in limb.bones:
            start, end, name = places[parent], places[joint], rig.names[joint]
            shapes = capsules.setdefault(limb.colour, [])
            if name == "head":
                up = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
                shapes.append(_Capsule(end + 0.03 * up, end + 0.07 * up, HEAD_RADIUS, joint))
            if name in _TORSO:
                share = _BELOW_NECK if rig.names[parent] == "spine3" else 1.0
                whole = joint if share == 1.0 else -1
                shapes.append(_Capsule(start, start + share * (end - start), _TORSO_WIDTH_M / 2, parent, whole))
            shapes.append(_Capsule(start, end, width / 2, parent, joint))
    return [_joined(colour, shapes) for colour, shapes in capsules.items()]


def _joined(colour: Colour, shapes: Sequence[_Capsule]) -> Mesh:
    points, normals, joints, ends, triangles, count = [], [], [], [], [], 0
    for shape in shapes:
        corners, directions, faces = _capsule(shape.start, shape.end, shape.radius)
        points.append(corners)
        normals.append(directions)
        joints.append(np.full(len(corners), shape.joint))
        ends.append(np.repeat([-1, shape.far], len(corners) // 2))
        triangles.append(faces + count)
        count += len(corners)
    return Mesh(
        colour,
        np.concatenate(points).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(joints),
        np.concatenate(ends),
        np.concatenate(triangles),
    )


def _capsule(start: np.ndarray, end: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [V, 3], those of the start first, normals [V, 3] and triangles [F, 3] of a cylinder with half spheres on
    its ends."""
    length = float(np.linalg.norm(end - start))
    axis = (end - start) / length if length > 1e-9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    side /= np.linalg.norm(side)
    # From the pole beyond the start to the pole beyond the end; the equator is there once for each end.
    tilts = np.concatenate([np.linspace(-np.pi / 2, 0, _ALONG + 1), np.linspace(0, np.pi / 2, _ALONG + 1)])
    centres = np.repeat(np.stack([start, end]), _ALONG + 1, axis=0)
    turns = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    ring = np.cos(turns)[:, None] * side + np.sin(turns)[:, None] * np.cross(axis, side)
    normals = np.cos(tilts)[:, None, None] * ring + np.sin(tilts)[:, None, None] * axis
    points = centres[:, None] + radius * normals
    low, right = np.meshgrid(np.arange(len(tilts) - 1), np.arange(_AROUND), indexing="ij")
    here, beside = low * _AROUND + right, low * _AROUND + (right + 1) % _AROUND
    above, across = here + _AROUND, beside + _AROUND
    faces = np.stack([np.stack([here, beside, across], -1), np.stack([here, across, above], -1)], axis=2)
    # At a pole all corners of a ring are one point, and one triangle of each pair has no area.
    faces = np.concatenate(
        [faces[0, :, 1:].reshape(-1, 3), faces[1:-1].reshape(-1, 3), faces[-1, :, :1].reshape(-1, 3)]
    )
    return points.reshape(-1, 3), normals.reshape(-1, 3), faces
