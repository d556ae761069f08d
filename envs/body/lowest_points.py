"""How high above the floor the shapes of the humanoid's bodies are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.body.mujoco_model import PARTS
from envs.body.rotations import rotation_matrices
from envs.settings import BODY_NAMES

Array = NDArray[np.float64]


def lowest_points(bodies: Array, rotations: Array) -> Array:
    """Height [T, 15] of the lowest point of every body's shape; positions [T, 15, 3], world rotations [T, 15, 4]."""
    up = rotation_matrices(rotations)[..., 2, :]  # heights of the bodies' own axes
    heights = np.empty(bodies.shape[:2])
    for index, name in enumerate(BODY_NAMES):
        part = PARTS[name]
        centre = bodies[:, index, 2] + up[:, index] @ np.array(part.centre)
        if part.shape == "sphere":
            reach = np.full(len(bodies), part.size[0])
        elif part.shape == "capsule":
            reach = part.size[0] + part.size[1] * np.abs(up[:, index, 2])
        else:
            reach = np.abs(up[:, index]) @ np.array(part.size)
        heights[:, index] = centre - reach
    return heights
