"""Feet and floor: the height of the floor, the frames in which a foot stands, and removal of foot sliding.

Feet in motion capture slide and sink by centimetres. `plant_feet` finds the stretches in which the ball of a foot rests
on the floor, gives it one place during each, moves the path between them smoothly, shifts the body by the common part
of both feet's corrections, and adjusts the legs for the rest by two-bone inverse kinematics.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from motions.humanoid.retarget import place_ankle
from motions.skeleton.skeletons import HUMANML3D

_TOE_HEIGHT, _TOE_SPEED = 0.06, 1.2
"""Height above the floor (m) and speed (m/s) below which the ball of a foot counts as standing."""
_LOWEST_PELVIS = 0.4
"""A foot can stand only while the pelvis is above this height (m): the toes of a crawling body may drag."""
_SHORTEST_STANCE = 3
_STANCE_SIGMA = 0.5
"""Standard deviation, in frames, of the filter with which a foot comes to rest, so that knees do not jerk."""
_LOWEST = {"ankle": 0.035, "knee": 0.04, "elbow": 0.02, "wrist": 0.01, "head": 0.08, "trunk": 0.05}
"""Least height of joints above the floor, metres: half a limb's thickness."""
_BODY_SIGMA = 3.0
"""Standard deviation, in frames, of the filter on the body's share of the feet's corrections."""
_LIFT_SIGMA = 2.0
"""Standard deviation, in frames, of the filter on lifting a body that has sunk into the floor."""
_ARM_LIFT = 0.03
"""Largest height (m) by which the whole body is raised to lift a hand or an elbow out of the floor."""


def floor_height(joints: np.ndarray, fps: float) -> float:
    """Height of the floor under HumanML3D joints [F, 22, 3] whose nominal floor is 0, metres.

    The median height of the lower ball of the foot while it rests; 0 for a clip in which neither foot rests.
    """
    heights = []
    for side in ("left", "right"):
        toe = joints[:, HUMANML3D.index(f"{side}_foot")]
        resting = _resting(toe, joints[:, 0, 1], fps, 0.3)
        heights.append(np.where(resting, toe[:, 1], np.inf))
    lowest = np.minimum(*heights)
    return float(np.median(lowest[np.isfinite(lowest)])) if np.isfinite(lowest).any() else 0.0


def stances(joints: np.ndarray, side: str, fps: float) -> list[tuple[int, int]]:
    """Half-open frame ranges in which the ball of the `side` foot of joints [F, 22, 3] rests on the floor at 0."""
    resting = _resting(joints[:, HUMANML3D.index(f"{side}_foot")], joints[:, 0, 1], fps, _TOE_SPEED)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], resting.astype(np.int8), [0]])))
    ranges = [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
    return [(start, end) for start, end in ranges if end - start >= _SHORTEST_STANCE]


def plant_feet(joints: np.ndarray, fps: float) -> np.ndarray:
    """The motion [F, 22, 3] (metres, floor at 0) with feet that neither slide nor sink while they stand.

    A trunk or an arm that is below the floor is lifted above it. Bone lengths are kept. Returns a new float64 array.
    """
    planted = np.array(joints, dtype=np.float64)
    planted[..., 1] += _lift(planted)[:, None]
    shifts, ankles = {}, {}
    for side in ("left", "right"):
        toe = planted[:, HUMANML3D.index(f"{side}_foot")]
        shifts[side] = _correction(toe, stances(planted, side, fps))
        ankles[side] = planted[:, HUMANML3D.index(f"{side}_ankle")] + shifts[side]
    common = (shifts["left"] + shifts["right"]) / 2
    # The body follows the feet horizontally, and down only as far as both feet go; smoothly, because it is heavy.
    common[:, 1] = np.minimum(common[:, 1], 0.0)
    planted += gaussian_filter1d(common, _BODY_SIGMA, axis=0, mode="nearest")[:, None]
    for side in ("left", "right"):
        foot = planted[:, HUMANML3D.index(f"{side}_foot")] - planted[:, HUMANML3D.index(f"{side}_ankle")]
        target = ankles[side]
        sunk = np.maximum(-(target + foot)[:, 1], _LOWEST["ankle"] - target[:, 1])
        target[:, 1] += np.maximum(sunk, 0.0)
        place_ankle(torch.from_numpy(planted), side, torch.from_numpy(target))
        _lift_arm(planted, side)
    return planted


def _correction(toe: np.ndarray, ranges: list[tuple[int, int]]) -> np.ndarray:
    """Correction [F, 3] to a foot's path so that it stands still in every stance, at a median height of 0."""
    correction = np.zeros_like(toe)
    if not ranges:
        return correction
    for start, end in ranges:
        correction[start:end] = toe[start:end].mean(axis=0) - toe[start:end]
        # Vertically a stance is shifted as a whole: within it the heel rises and comes down.
        correction[start:end, 1] = -np.median(toe[start:end, 1])
    correction[: ranges[0][0]] = correction[ranges[0][0]]
    correction[ranges[-1][1] :] = correction[ranges[-1][1] - 1]
    for (_, end), (start, _) in itertools.pairwise(ranges):
        share = np.arange(1, start - end + 1)[:, None] / (start - end + 1)
        share = share * share * (3.0 - 2.0 * share)
        correction[end:start] = (1.0 - share) * correction[end - 1] + share * correction[start]
    return gaussian_filter1d(correction, _STANCE_SIGMA, axis=0, mode="nearest")


def _lift(joints: np.ndarray) -> np.ndarray:
    """Height [F] by which to raise the body in each frame, smoothly, so that only feet are in the floor.

    For the arms alone it is raised by a few centimetres at most; `_lift_arm` does the rest.
    """
    needed = np.zeros(len(joints))
    for index, name in enumerate(HUMANML3D.joint_names):
        part = name.split("_")[-1]
        if part in ("ankle", "foot"):
            continue
        depth = _LOWEST.get(part, _LOWEST["trunk"]) - joints[:, index, 1]
        needed = np.maximum(needed, np.minimum(depth, _ARM_LIFT) if part in ("elbow", "wrist") else depth)
    reach = math.ceil(2 * _LIFT_SIGMA)
    return gaussian_filter1d(maximum_filter1d(needed, 2 * reach + 1, mode="nearest"), _LIFT_SIGMA, mode="nearest")


def _lift_arm(joints: np.ndarray, side: str) -> None:
    """Rotates upper arm and forearm up, in place, where elbow or wrist would be below the floor; lengths are kept."""
    chain = [HUMANML3D.index(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist")]
    for place, (parent, joint) in enumerate(itertools.pairwise(chain)):
        lowest = _LOWEST["elbow" if place == 0 else "wrist"]
        bone = joints[:, joint] - joints[:, parent]
        length = np.linalg.norm(bone, axis=-1)
        rise = np.maximum(lowest - joints[:, parent, 1], -length)
        low = (bone[:, 1] < rise) & (rise < length)
        flat = np.hypot(bone[:, 0], bone[:, 2])
        stretch = np.sqrt(np.maximum(length**2 - rise**2, 0.0)) / np.maximum(flat, 1e-9)
        lifted = np.stack([bone[:, 0] * stretch, rise, bone[:, 2] * stretch], axis=-1)
        shift = np.where(low[:, None], lifted - bone, 0.0)
        for moved in chain[place + 1 :]:
            joints[:, moved] += shift


def _resting(toe: np.ndarray, pelvis_height: np.ndarray, fps: float, speed_mps: float) -> np.ndarray:
    """Frames [F] in which the ball of a foot, path [F, 3], is low and slow enough to carry the body."""
    # Central differences: both neighbouring frames count.
    speed = np.linalg.norm(np.gradient(toe[:, [0, 2]], axis=0), axis=-1) * fps
    return (toe[:, 1] < _TOE_HEIGHT) & (speed < speed_mps) & (pelvis_height > _LOWEST_PELVIS)
