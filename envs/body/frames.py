"""Converts between the clips' frame (y up, z to the right) and the simulators' (z up, y to the left); both face +x.

The change of basis is a rotation by 90 degrees about x, so vectors, local offsets, angular velocities and the vector
parts of quaternions all transform alike: (x, y, z) becomes (x, -z, y).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def to_z_up(vectors: Array) -> Array:
    """Vectors [..., 3] of the y-up frame, expressed in the z-up frame."""
    return np.stack((vectors[..., 0], -vectors[..., 2], vectors[..., 1]), axis=-1)


def rotations_to_z_up(quaternions: Array) -> Array:
    """Quaternions [..., 4] (w, x, y, z) of the y-up frame in the z-up frame; local rotations are converted alike."""
    return np.concatenate((quaternions[..., :1], to_z_up(quaternions[..., 1:])), axis=-1)


def to_y_up(vectors: Array) -> Array:
    """Vectors [..., 3] of the z-up frame, expressed in the y-up frame."""
    return np.stack((vectors[..., 0], vectors[..., 2], -vectors[..., 1]), axis=-1)
