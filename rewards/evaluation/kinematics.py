"""Kinematic figures of motions, beside every reward and independent of its options.

A motion that earns a higher reward but slides, shakes or floats is seen here: skate with no exemption for swinging
feet, the commonly reported skating ratio, jerk and speed in physical units, and the height of the feet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from motions.skeleton.skeletons import Skeleton
from rewards.declared.declaration import Term
from rewards.declared.physics import PhysicsSettings
from rewards.physics.kinematic import (
    contact_by_height,
    foot_heights,
    mean_jerk,
    mean_joint_speed,
    skate_loss,
    skating_ratio,
)

_LIKE_REAL = {"own_scale": True, "like_real": True}

KINEMATICS: Mapping[str, Term] = {
    "low_foot_skate": Term("Squared sliding speed of all low feet, no exemption, (m/s)^2", "lower", **_LIKE_REAL),
    "skating_ratio": Term("Share of frames with a toe below 5 cm faster than .5 m/s", "lower", **_LIKE_REAL),
    "jerk_mps3": Term("Mean jerk of the joints, m/s^3", "lower", **_LIKE_REAL),
    "joint_speed_mps": Term("Mean joint speed, m/s: a frozen motion would fall", "neutral", **_LIKE_REAL),
    "foot_height_m": Term("Mean height of the feet above the floor, metres", "neutral", **_LIKE_REAL),
}
"""In the order of the report. Where real motions of the same texts are known, nearer to theirs is better."""

_NO_EXEMPTION = PhysicsSettings(contact_swing_speed=None)


def kinematic_figures(joints: np.ndarray, lengths: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """The figures of `KINEMATICS` of S motions, [S] each.

    Args:
        joints: [S, T, J, 3] metres, y up.
        lengths: [S] valid frames, at least 4.
    """
    places, counts = torch.from_numpy(np.array(joints, np.float64)), torch.from_numpy(np.array(lengths))
    inside = torch.arange(places.shape[1]) < counts[:, None]
    places = torch.where(inside[:, :, None, None], places, 0.0)
    steps = inside[:, 1:]
    low = contact_by_height(places, counts, skeleton, _NO_EXEMPTION)
    heights = (foot_heights(places, counts, skeleton).mean(dim=-1) * inside).sum(dim=1) / counts
    figures = {
        "low_foot_skate": skate_loss(places, low, steps, skeleton, free_speed=0.0),
        "skating_ratio": skating_ratio(places, counts, skeleton),
        "jerk_mps3": mean_jerk(places, counts, skeleton),
        "joint_speed_mps": mean_joint_speed(places, counts, skeleton),
        "foot_height_m": heights,
    }
    return {name: values.numpy() for name, values in figures.items()}
