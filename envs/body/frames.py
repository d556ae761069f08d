"""From the clips' frame (y up, right-hand side +z) to the simulators' (z up, left-hand side +y); facing is +x in both.

The change of basis is a turn by 90 degrees about x, so vectors, local offsets, angular velocities and the vector parts
of quaternions all map alike: (x, y, z) becomes (x, -z, y).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def to_z_up(vectors: Array) -> Array:
    """Vectors [..., 3] of the y-up frame in the z-up one."""
    return np.stack((vectors[..., 0], -vectors[..., 2], vectors[..., 1]), axis=-1)


def rotations_to_z_up(quaternions: Array) -> Array:
    """Quaternions [..., 4] (w, x, y, z) of the y-up frame in the z-up one; local ones too: both bodies turn."""
    return np.concatenate((quaternions[..., :1], to_z_up(quaternions[..., 1:])), axis=-1)


def to_y_up(vectors: Array) -> Array:
    """Vectors [..., 3] of the z-up frame in the y-up one."""
    return np.stack((vectors[..., 0], vectors[..., 2], -vectors[..., 1]), axis=-1)
