"""Measures on training motions what counts as much jerk and as little speed.

Constants of one corpus are wrong on another: with those of acrobats, people who talk with their hands count as frozen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from motions.base.atomic import atomic_write
from motions.data.text_motion import TextMotion, thinned
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import Skeleton
from rewards.declared.physics import PhysicsConstants
from rewards.physics.kinematic import MIN_FRAMES, mean_jerk, mean_joint_speed

MOST_MOTIONS = 1000
SLOWEST, SMOOTHEST = 0.01, 0.1
"""Shares of the motions that are slower, and smoother, than the speed and the jerk that the constants come from."""
FILE = "calibration.json"


def calibrate(items: Sequence[TextMotion], skeleton: Skeleton) -> PhysicsConstants:
    """Constants of training motions; more than `MOST_MOTIONS` are thinned out evenly. Rounded to two digits.

    Raises:
        ValueError: no motion has enough frames.
    """
    long_enough = [item for item in items if item.num_frames >= MIN_FRAMES]
    if not long_enough:
        raise ValueError(f"none of {len(items)} motions has {MIN_FRAMES} frames")
    jerks, speeds = [], []
    for item in thinned(long_enough, MOST_MOTIONS):
        features = torch.from_numpy(np.array(item.features, np.float64))[None]
        joints, length = recover_joints(features, skeleton) * skeleton.metres_per_unit, torch.tensor([item.num_frames])
        jerks.append(float(mean_jerk(joints, length, skeleton)))
        speeds.append(float(mean_joint_speed(joints, length, skeleton)))
    scale = max(float(np.median(jerks)), 1e-3)
    return PhysicsConstants(
        jerk_scale=_two_digits(scale),
        jerk_floor=_two_digits(float(np.quantile(jerks, SMOOTHEST)) / scale),
        min_joint_speed=_two_digits(0.5 * float(np.quantile(speeds, SLOWEST))),
    )


def write_constants(folder: Path, constants: PhysicsConstants) -> None:
    """Keeps the constants of a run in its folder, so that a resumed run has them whatever became of its data."""
    with atomic_write(folder / FILE) as file:
        file.write(json.dumps(asdict(constants), indent=1).encode())


def read_constants(folder: Path) -> PhysicsConstants | None:
    """The constants that a run has kept; None where it has none."""
    path = folder / FILE
    return PhysicsConstants(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
