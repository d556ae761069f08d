"""Joint coordinates [28]: their names, and conversion from and to rotations.

They are in the order of the model's dofs: chest, neck, right shoulder, right elbow, left shoulder, left elbow, right
hip, knee, ankle, left hip, knee, ankle; three numbers for a 3-dof joint, one for knees and elbows.

With ball joints the three are the rotation vector from the joint's rest (`mujoco_model.rest_rotation`), and their rates
the angular velocity in the child's frame.

With hinges they are intrinsic x-y-z Euler angles, R = Rx(a) Ry(b) Rz(c). With the angular velocity (p, q, r) in the
child's frame, a' = (p cos c - q sin c) / cos b, b' = p sin c + q cos c, c' = r - a' sin b. Two triples (plus whole
turns) give the same rotation; the one nearest to the previous sample, or to a given triple, is used.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.body.mujoco_model import rest_rotation
from envs.body.rotations import (
    continuous_euler,
    euler_angles,
    euler_rates,
    quaternion_product,
    rotate_back,
    rotation_matrices,
    rotation_vector,
)
from envs.body.tracked import TRACKED_BODIES
from envs.settings import JointModel
from motions.humanoid.kinematics import HINGE_BODIES

Array = NDArray[np.float64]

_ARM, _LEG = ("shoulder", "elbow"), ("hip", "knee", "ankle")
JOINT_ORDER: tuple[str, ...] = (
    "chest",
    "neck",
    *(f"{side}_{part}" for side in ("right", "left") for part in _ARM),
    *(f"{side}_{part}" for side in ("right", "left") for part in _LEG),
)
"""The 12 joints in the order of the model's dofs."""

COORDINATES: tuple[str, ...] = tuple(
    name for joint in JOINT_ORDER for name in ([joint] if joint in HINGE_BODIES else [f"{joint}_{a}" for a in "xyz"])
)
"""Names of the 28 joint coordinates."""

NUM_COORDINATES = len(COORDINATES)

SINGULAR_COSINE = 0.2
"""Cosine of the middle Euler angle below which rates follow the angles instead of the angular velocity."""

_LEAST_COSINE = 1e-3
"""Smallest cosine of the middle Euler angle that rates are divided by, near the singularity."""


_CERTAIN = 1.25
"""Triples whose angles (radians) all differ by at most this are the nearest ones for sure; the bound is 2 pi / 5, as
the other branch differs by half a turn in the first and the last angle."""


def _places() -> tuple[list[int], NDArray[np.int64], list[int], list[int]]:
    """Rows of `TRACKED_BODIES` and columns of coordinates: of 3-dof joints [8] and [8, 3], of hinges [4] and [4]."""
    rows, columns, hinge_rows, hinge_columns, place = [], [], [], [], 0
    for name in JOINT_ORDER:
        if name in HINGE_BODIES:
            hinge_rows.append(TRACKED_BODIES.index(name))
            hinge_columns.append(place)
            place += 1
        else:
            rows.append(TRACKED_BODIES.index(name))
            columns.append((place, place + 1, place + 2))
            place += 3
    return rows, np.array(columns), hinge_rows, hinge_columns


_ROWS, _COLUMNS, _HINGE_ROWS, _HINGE_COLUMNS = _places()
_RESTS: Array = np.array([rest_rotation(TRACKED_BODIES[row], "ball") for row in _ROWS])


def local_rotations(coordinates: Array, joints: JointModel) -> Array:
    """Local rotations [n, 13, 4] of `TRACKED_BODIES` (identity for the root) for coordinates [n, 28]."""
    rotations = np.zeros((len(coordinates), len(TRACKED_BODIES), 4))
    rotations[:, 0, 0] = 1.0
    rotations[:, _HINGE_ROWS] = _about(1, -coordinates[:, _HINGE_COLUMNS])
    values = coordinates[:, _COLUMNS]
    if joints == "hinge":
        first, middle, last = (_about(axis, values[..., axis]) for axis in range(3))
        rotations[:, _ROWS] = quaternion_product(quaternion_product(first, middle), last)
    else:
        angle = np.sqrt(np.einsum("nji,nji->nj", values, values))[..., None]
        turns = np.concatenate((np.cos(angle / 2), 0.5 * values * np.sinc(angle / math.tau)), axis=-1)
        rotations[:, _ROWS] = quaternion_product(_RESTS, turns)
    return rotations


def joint_coordinates(rotations: Array, joints: JointModel, near: Array) -> Array:
    """Coordinates [n, 28] of local rotations [n, 13, 4]; hinge angles are the ones nearest to `near` [n, 28]."""
    if joints == "ball":
        return ball_coordinates(rotations)
    coordinates = np.empty((len(rotations), NUM_COORDINATES))
    hinges = rotations[:, _HINGE_ROWS]
    coordinates[:, _HINGE_COLUMNS] = hinge_angle(hinges.reshape(-1, 4)).reshape(len(rotations), -1)
    angles = euler_angles(rotation_matrices(rotations[:, _ROWS]))
    coordinates[:, _COLUMNS] = _nearest_triples(angles, near[:, _COLUMNS])[0]
    return coordinates


def nearest_hinges(coordinates: Array, near: Array) -> tuple[Array, Array] | None:
    """The representation of a pose, given as hinge coordinates [..., 28], that is nearest to `near` [..., 28].

    Two continuous motions through the same rotations may differ by whole turns and by the branch of the Euler angles: a
    character that continued beyond the seam of a cycle, and the reference that started over.
    Returns:
        shift, sign: [..., 28]. The pose is shift + sign * coordinates; differences of coordinates (rates, offsets) take
            only the sign. None if the coordinates are the nearest ones already.
    """
    gap = coordinates - near
    if np.maximum.reduce(np.abs(gap, out=gap), axis=None) < _CERTAIN:
        return None
    shift, sign = np.zeros(coordinates.shape), np.ones(coordinates.shape)
    triples = coordinates[..., _COLUMNS]
    nearest, flipped = _nearest_triples(triples, near[..., _COLUMNS])
    signs = np.where(flipped[..., None], (1.0, -1.0, 1.0), 1.0)
    shift[..., _COLUMNS], sign[..., _COLUMNS] = nearest - signs * triples, signs
    return shift, sign


def _nearest_triples(angles: Array, near: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The triples [..., 3] of the same rotations that are nearest to `near`, and where [...] the branch changed.

    (a, b, c) and (a + pi, pi - b, c + pi) are one rotation, as are whole turns of each angle.
    """
    both = np.array((angles, angles * (1.0, -1.0, 1.0) + np.pi))
    both += math.tau * np.round((near - both) / math.tau)
    gaps = np.abs(both - near).sum(axis=-1)
    flipped = gaps[0] > gaps[1]
    return np.where(flipped[..., None], both[1], both[0]), flipped


def coordinate_rates(coordinates: Array, velocities: Array, joints: JointModel) -> Array:
    """Rates [n, 28] of coordinates [n, 28] for angular velocities [n, 13, 3], each in its joint's own frame."""
    rates = np.empty_like(coordinates)
    rates[:, _HINGE_COLUMNS] = -velocities[:, _HINGE_ROWS, 1]
    spins = velocities[:, _ROWS]
    if joints == "ball":
        rates[:, _COLUMNS] = spins
        return rates
    values = coordinates[:, _COLUMNS]
    cosine = np.cos(values[..., 1])
    cosine = np.copysign(np.maximum(np.abs(cosine), _LEAST_COSINE), cosine)
    along, across = np.cos(values[..., 2]), np.sin(values[..., 2])
    first = (spins[..., 0] * along - spins[..., 1] * across) / cosine
    rates[:, _COLUMNS[:, 0]] = first
    rates[:, _COLUMNS[:, 1]] = spins[..., 0] * across + spins[..., 1] * along
    rates[:, _COLUMNS[:, 2]] = spins[..., 2] - first * np.sin(values[..., 1])
    return rates


def ball_coordinates(rotations: Array) -> Array:
    """Coordinates [K, 28] for ball joints of local rotations [K, 13, 4]."""
    parts: list[Array] = []
    for name in JOINT_ORDER:
        local = rotations[:, TRACKED_BODIES.index(name)]
        hinge = name in HINGE_BODIES
        parts.append(hinge_angle(local)[:, None] if hinge else rotation_vector(_from_rest(name, local)))
    return np.concatenate(parts, axis=1)


def hinge_coordinates(rotations: Array) -> Array:
    """Coordinates [K, 28] for hinges of local rotations [K, 13, 4], continuous from sample to sample."""
    parts: list[Array] = []
    for name in JOINT_ORDER:
        local = rotations[:, TRACKED_BODIES.index(name)]
        hinge = name in HINGE_BODIES
        parts.append(hinge_angle(local)[:, None] if hinge else continuous_euler(euler_angles(rotation_matrices(local))))
    return np.concatenate(parts, axis=1)


def hinge_coordinate_rates(key_times: Array, times: Array, coordinates: Array, velocities: Array) -> Array:
    """Rates [K, 28] at `times` [K] of hinge coordinates [K, 28], from angular velocities [K, 13, 3].

    Near the singularity, where no rates give the velocity, they follow the angles: forward differences of key frames,
    the last repeated, blended in between.
    """
    rates = np.empty_like(coordinates)
    column = 0
    for name in JOINT_ORDER:
        velocity = velocities[:, TRACKED_BODIES.index(name)]
        if name in HINGE_BODIES:
            rates[:, column] = -velocity[:, 1]
            column += 1
            continue
        angles = coordinates[:, column : column + 3]
        steps = [np.diff(np.interp(key_times, times, angle)) / np.diff(key_times) for angle in angles.T]
        differences = [np.interp(times, key_times, np.append(step, step[-1])) for step in steps]
        singular = np.abs(np.cos(angles[:, 1:2])) < SINGULAR_COSINE
        safe = np.where(singular, 0.0, angles)
        exact = euler_rates(safe, velocity)
        rates[:, column : column + 3] = np.where(singular, np.stack(differences, axis=-1), exact)
        column += 3
    return rates


def hinge_angle(rotations: Array) -> Array:
    """Angle [K] in (-pi, pi] about -y of rotations [K, 4] about that axis."""
    angle = -2.0 * np.arctan2(rotations[:, 2], rotations[:, 0])
    return np.pi - (np.pi - angle) % math.tau


def ball_state(root: Array, rotations: Array, linear: Array, velocities: Array) -> tuple[Array, Array]:
    """qpos [K, 43] and qvel [K, 34] of the model with ball joints, from the arrays of a `TrackedState`."""
    positions, speeds = [root, rotations[:, 0]], [linear, rotate_back(rotations[:, 0], velocities[:, 0])]
    for name in JOINT_ORDER:
        body = TRACKED_BODIES.index(name)
        if name in HINGE_BODIES:
            positions.append(hinge_angle(rotations[:, body])[:, None])
            speeds.append(-velocities[:, body, 1:2])
        else:
            positions.append(_from_rest(name, rotations[:, body]))
            speeds.append(velocities[:, body])
    return np.concatenate(positions, axis=1), np.concatenate(speeds, axis=1)


def _from_rest(name: str, rotations: Array) -> Array:
    """Joint quaternions [K, 4] relative to the joint's rest, from local rotations [K, 4]."""
    w, x, y, z = rest_rotation(name, "ball")
    # Left multiplication with the conjugate of the rest rotation.
    matrix = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    return rotations @ matrix.T


def _about(axis: int, angles: Array) -> Array:
    """Quaternions [..., 4] of rotations by `angles` [...] about a coordinate axis."""
    turns = np.zeros((*angles.shape, 4))
    turns[..., 0], turns[..., 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return turns
