"""Joint coordinates [28] (see `envs.reference`) from rotations and back, for simulators that know only rotations.

Hinges are intrinsic x-y-z Euler angles, R = Rx(a) Ry(b) Rz(c). With the angular velocity (p, q, r) in the child's
frame, a' = (p cos c - q sin c) / cos b, b' = p sin c + q cos c, c' = r - a' sin b.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.humanoid_model import rest_rotation
from envs.imitation_reward import TRACKED_BODIES
from envs.reference import JOINT_ORDER, NUM_COORDINATES, ball_coordinates, hinge_angle
from envs.rotations import euler_angles, rotation_matrices
from envs.settings import JointModel
from motions.humanoid import HINGE_BODIES

Array = NDArray[np.float64]

_LEAST_COSINE = 1e-3
"""Of the middle Euler angle: nearer to the singularity rates are those at this distance from it."""


_CERTAIN = 1.25
"""Radians: triples with no angle farther away than this are the nearest ones there are (the bound is 2 pi / 5, as the
other branch is half a turn away in the first and the last angle)."""


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
    """Local rotations [n, 13, 4] of `TRACKED_BODIES` (the root's is none) for coordinates [n, 28]."""
    rotations = np.zeros((len(coordinates), len(TRACKED_BODIES), 4))
    rotations[:, 0, 0] = 1.0
    rotations[:, _HINGE_ROWS] = _about(1, -coordinates[:, _HINGE_COLUMNS])
    values = coordinates[:, _COLUMNS]
    if joints == "hinge":
        first, middle, last = (_about(axis, values[..., axis]) for axis in range(3))
        rotations[:, _ROWS] = multiply(multiply(first, middle), last)
    else:
        angle = np.sqrt(np.einsum("nji,nji->nj", values, values))[..., None]
        turns = np.concatenate((np.cos(angle / 2), 0.5 * values * np.sinc(angle / math.tau)), axis=-1)
        rotations[:, _ROWS] = multiply(_RESTS, turns)
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


def nearest_hinges(coordinates: Array, near: Array) -> tuple[Array, Array]:
    """How to write a pose, given as hinge coordinates [..., 28], as near as can be to `near` [..., 28].

    Two walks through the same rotations may differ by whole turns and by the branch of the Euler angles: a character
    that went on over the seam of a cycle, and the reference that began anew.

    Returns:
        shift, sign: [..., 28] or [1] where nothing changes. The pose is shift + sign * coordinates; changes of
        coordinates (rates, offsets) take the sign alone.
    """
    if np.abs(coordinates - near).max() < _CERTAIN:
        return np.zeros(1), np.ones(1)
    shift, sign = np.zeros(coordinates.shape), np.ones(coordinates.shape)
    triples = coordinates[..., _COLUMNS]
    nearest, flipped = _nearest_triples(triples, near[..., _COLUMNS])
    signs = np.where(flipped[..., None], (1.0, -1.0, 1.0), 1.0)
    shift[..., _COLUMNS], sign[..., _COLUMNS] = nearest - signs * triples, signs
    return shift, sign


def _nearest_triples(angles: Array, near: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Euler angles [..., 3] of the same rotations as near as can be to `near`, and where [...] the branch changed.

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


def multiply(left: Array, right: Array) -> Array:
    """Quaternion products [..., 4], w first."""
    lw, lx, ly, lz = left[..., 0], left[..., 1], left[..., 2], left[..., 3]
    rw, rx, ry, rz = right[..., 0], right[..., 1], right[..., 2], right[..., 3]
    product = np.empty(np.broadcast_shapes(left.shape, right.shape))
    product[..., 0] = lw * rw - lx * rx - ly * ry - lz * rz
    product[..., 1] = lw * rx + lx * rw + ly * rz - lz * ry
    product[..., 2] = lw * ry - lx * rz + ly * rw + lz * rx
    product[..., 3] = lw * rz + lx * ry - ly * rx + lz * rw
    return product


def _about(axis: int, angles: Array) -> Array:
    """Quaternions [..., 4] of turns by `angles` [...] about a coordinate axis."""
    turns = np.zeros((*angles.shape, 4))
    turns[..., 0], turns[..., 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return turns
