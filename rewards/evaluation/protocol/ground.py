"""How motions meet the ground, by the measures of PhysDiff (Yuan et al. 2023) on joints instead of a body's surface.

    penetrate_mm   mean over frames of how deep the lowest joint is below the ground
    float_mm       mean over frames of how high the lowest joint is above it
    skate_mm       mean horizontal way of a foot joint between two frames in both of which it is on the ground

The ground is y = 0, where HumanML3D's features put the lowest point of a clip. As in PhysDiff 5 mm below or above the
ground count as on it. Joints lie inside the body, a toe's up to some centimetres above its sole: a foot joint below
5 cm is on the ground. So the numbers compare motions with each other, not with those of PhysDiff's body surface.
"""

from __future__ import annotations

import numpy as np

from motions.skeleton.skeletons import Skeleton

TOLERANCE_M = 0.005
FOOT_ON_GROUND_M = 0.05
_MM_PER_M = 1000.0


def ground_figures(joints: np.ndarray, lengths: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """`penetrate_mm`, `float_mm` and `skate_mm` of N motions, [N] float64 each; no contact at all is no skate.

    Args:
        joints: [N, T, J, 3] metres, y up.
        lengths: [N] valid frames, at least 2.

    Raises:
        ValueError: a motion of fewer than 2 frames.
    """
    if len(lengths) and int(np.min(lengths)) < 2:
        raise ValueError(f"a motion has {int(np.min(lengths))} frames; at least 2 are needed")
    figures = [_of_motion(motion[:length], skeleton) for motion, length in zip(joints, lengths, strict=True)]
    return {
        name: np.array([one[place] for one in figures], np.float64)
        for place, name in enumerate(("penetrate_mm", "float_mm", "skate_mm"))
    }


def _of_motion(joints: np.ndarray, skeleton: Skeleton) -> tuple[float, float, float]:
    lowest = joints[:, :, 1].min(axis=1)
    below = np.where(lowest < -TOLERANCE_M, -lowest, 0.0)
    above = np.where(lowest > TOLERANCE_M, lowest, 0.0)
    feet = joints[:, list(skeleton.foot_joints)]
    low = feet[..., 1] < FOOT_ON_GROUND_M
    stays = low[1:] & low[:-1]
    ways = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1)
    skate = float(ways[stays].mean()) if stays.any() else 0.0
    return _MM_PER_M * float(below.mean()), _MM_PER_M * float(above.mean()), _MM_PER_M * skate
