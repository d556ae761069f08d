"""The 197 numbers observed in the DeepMimic paper (Peng et al. 2018) and bullet3's port, from the state of 15 bodies.

phase, height of the root, 15 x (position 3, quaternion w >= 0 4), 15 x (velocity 3, angular velocity 3); positions are
those of centres of mass relative to the root; everything but the phase is rotated into the root's heading frame. World
z-up; the original's y-up numbers are these with vectors (x, y, z) written as (x, z, -y).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.body.tracked import heading
from envs.settings import BODY_NAMES

Array = NDArray[np.float64]

PAPER_OBSERVATION_SIZE = 2 + len(BODY_NAMES) * 13


def paper_observation(
    phase: Array,
    root_position: Array,
    root_rotation: Array,
    places: Array,
    rotations: Array,
    linear: Array,
    angular: Array,
) -> Array:
    """Observations [N, 197] float64.

    Args:
        phase: [N] in [0, 1).
        root_position: [N, 3]; ground at height 0.
        root_rotation: [N, 4] unit quaternions w, x, y, z.
        places: [N, 15, 3] centres of mass in the world, in the order of `settings.BODY_NAMES`.
        rotations: [N, 15, 4] in the world.
        linear, angular: [N, 15, 3] velocities of the centres of mass, in the world.
    """
    cosine, sine = (value[:, None] for value in heading(root_rotation))

    def turned(vectors: Array) -> Array:
        x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
        return np.stack((cosine * x + sine * y, cosine * y - sine * x, z), axis=-1)

    # The rotation by -heading about z as a quaternion; half angles from cosine and sine.
    half_cosine = np.sqrt((1.0 + cosine) / 2.0)
    half_sine = np.copysign(np.sqrt(np.maximum(1.0 - cosine, 0.0) / 2.0), -sine)
    w, x, y, z = np.moveaxis(rotations, -1, 0)
    local = np.stack(
        (
            half_cosine * w - half_sine * z,
            half_cosine * x - half_sine * y,
            half_cosine * y + half_sine * x,
            half_cosine * z + half_sine * w,
        ),
        axis=-1,
    )
    local *= np.where(local[..., :1] < 0.0, -1.0, 1.0)
    poses = np.concatenate((turned(places - root_position[:, None]), local), axis=-1)
    velocities = np.concatenate((turned(linear), turned(angular)), axis=-1)
    count = len(phase)
    return np.concatenate(
        (phase[:, None], root_position[:, 2:], poses.reshape(count, -1), velocities.reshape(count, -1)), axis=1
    )
