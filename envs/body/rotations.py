"""Rotations in NumPy for the environments: quaternions (w, x, y, z), matrices on column vectors, x-y-z Euler angles."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


def rotation_vector(rotations: Array) -> Array:
    """Rotation vectors (axis times angle) [..., 3] of unit quaternions [..., 4], with an angle of at most pi."""
    rotations = np.where(rotations[..., :1] < 0.0, -rotations, rotations)
    sine = np.linalg.norm(rotations[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, rotations[..., :1])
    return rotations[..., 1:] * np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-9))


def rotation_matrices(rotations: Array) -> Array:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    w, x, y, z = np.moveaxis(rotations, -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotate_back(rotations: Array, vectors: Array) -> Array:
    """World vectors [K, 3] expressed in the frames of bodies with rotations [K, 4]."""
    return np.einsum("kij,ki->kj", rotation_matrices(rotations), vectors)


def euler_angles(matrices: Array) -> Array:
    """Euler angles [..., 3] with R = Rx Ry Rz, the middle one in [-pi/2, pi/2]."""
    first = np.arctan2(-matrices[..., 1, 2], matrices[..., 2, 2])
    middle = np.arcsin(np.clip(matrices[..., 0, 2], -1.0, 1.0))
    last = np.arctan2(-matrices[..., 0, 1], matrices[..., 0, 0])
    return np.stack((first, middle, last), axis=-1)


def continuous_euler(angles: Array) -> Array:
    """The same rotations [K, 3] as Euler angles, every triple as near as possible to the previous one.

    (a, b, c) and (a + pi, pi - b, c + pi) are one rotation, as are whole turns of each angle.
    """
    others = np.stack((angles[:, 0] + np.pi, np.pi - angles[:, 1], angles[:, 2] + np.pi), axis=-1)
    result = angles.copy()
    for index in range(1, len(angles)):
        candidates = np.stack((angles[index], others[index]))
        candidates += math.tau * np.round((result[index - 1] - candidates) / math.tau)
        result[index] = candidates[np.abs(candidates - result[index - 1]).sum(axis=-1).argmin()]
    return result


def matrix_columns(rotations: Array) -> Array:
    """Images [..., 6] of the x axis (3 numbers) and the y axis (3) under unit quaternions [..., 4]."""
    w, x, y, z = np.moveaxis(rotations, -1, 0)
    return np.stack(
        (
            *(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
            *(2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        ),
        axis=-1,
    )


def euler_rates(angles: Array, velocities: Array) -> Array:
    """Rates [..., 3] of angles [..., 3] (R = Rx Ry Rz) for angular velocities [..., 3] in the rotated frame.

    They grow without bound where the middle angle nears a quarter turn.
    """
    middle, last = angles[..., 1], angles[..., 2]
    p, q, r = velocities[..., 0], velocities[..., 1], velocities[..., 2]
    first = (p * np.cos(last) - q * np.sin(last)) / np.cos(middle)
    return np.stack((first, p * np.sin(last) + q * np.cos(last), r - first * np.sin(middle)), axis=-1)


def quaternion_of(vectors: Array) -> Array:
    """Unit quaternions [..., 4] of rotation vectors [..., 3]."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.concatenate((np.cos(angle / 2.0), 0.5 * vectors * np.sinc(angle / math.tau)), axis=-1)


def quaternion_product(left: Array, right: Array) -> Array:
    """Hamilton products [..., 4]: rotates by `right` first."""
    lw, lx, ly, lz = left[..., 0], left[..., 1], left[..., 2], left[..., 3]
    rw, rx, ry, rz = right[..., 0], right[..., 1], right[..., 2], right[..., 3]
    product = np.empty(np.broadcast_shapes(left.shape, right.shape))
    product[..., 0] = lw * rw - lx * rx - ly * ry - lz * rz
    product[..., 1] = lw * rx + lx * rw + ly * rz - lz * ry
    product[..., 2] = lw * ry - lx * rz + ly * rw + lz * rx
    product[..., 3] = lw * rz + lx * ry - ly * rx + lz * rw
    return product


def inverse(rotations: Array) -> Array:
    """Inverses of unit quaternions [..., 4]."""
    return rotations * _CONJUGATE
