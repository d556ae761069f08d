"""Whether the clips of a data set are motions of people in its units and at its rate, and its statistics theirs.

A folder whose clips are in centimetres, were resampled without their times, or lie beside the statistics of another
data set has the right shapes, and a training on it learns other motions. Each check looks at a figure of the whole
split, of up to `MOST_CLIPS` clips spread over it, as single clips may well be odd.
"""

from __future__ import annotations

import numpy as np
import torch

from motions.skeleton.features import FeatureLayout, recover_joints
from motions.skeleton.normalization import Normalizer, RunningStatistics
from motions.skeleton.skeletons import Skeleton

MOST_CLIPS = 64
LOWEST_M, HIGHEST_M = 0.05, 2.0
"""Of the median height of the pelvis; the lowest is that of people who lie."""
SLOW_MPS2, FAST_MPS2 = 3.0, 130.0
"""Acceleration of a joint that 5 % of frames and joints exceed. Below the first even in the liveliest tenth of the
clips, or above the second in most, nobody moves; built-in clips: 10 to 129, half of them above 32."""
WRONG_FACTOR = 3.0
"""By which a standard deviation is another one."""
_FEWEST_CLIPS, _FEWEST_FRAMES = 5, 300
"""For figures of which single clips may be far off."""
_STILL_M = 1e-5
_ROOT_HEIGHT = 3
"""Feature that is the pelvis's height: the first ones turn and carry the body."""


class SplitFigures:
    """Figures of the clips of a split, which are added one after the other.

    Example:
        figures = SplitFigures(skeleton, num_clips=23_000)
        for clip_id, features in clips:
            figures.add(clip_id, features)
        for text in figures.oddities(normalizer):
            logger.warning("%s: %s", path, text)
    """

    def __init__(self, skeleton: Skeleton, num_clips: int) -> None:
        """`num_clips` is the number that the split lists."""
        self._skeleton = skeleton
        self._every = max(1, -(-num_clips // MOST_CLIPS))
        self._seen = 0
        self._heights: list[float] = []
        self._accelerations: list[float] = []
        self._still: list[str] = []
        self._statistics = RunningStatistics(skeleton)

    def add(self, clip_id: str, features: np.ndarray) -> None:
        """Adds a clip [T, D], T at least 1, in physical units."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        self._heights.append(float(np.median(features[:, _ROOT_HEIGHT])) * self._skeleton.metres_per_unit)
        self._statistics.add(features)
        if len(features) < 3:
            return
        joints = recover_joints(torch.tensor(features), self._skeleton).numpy() * self._skeleton.metres_per_unit
        if float(np.ptp(joints, axis=0).max()) < _STILL_M:
            self._still.append(clip_id)
        else:
            self._accelerations.append(lively_acceleration(joints, self._skeleton.fps))

    def oddities(self, normalizer: Normalizer) -> list[str]:
        """What a person would find absurd, a sentence each; `normalizer` has the statistics of the data set."""
        found = []
        if self._heights and not LOWEST_M < (height := float(np.median(self._heights))) < HIGHEST_M:
            found.append(
                f"the pelvis is {height:.3g} m above the ground in half of the clips, which is {LOWEST_M:.3g} to "
                f"{HIGHEST_M:.3g} m for people: are the features in {self._unit}?"
            )
        if self._still:
            found.append(
                f"nothing moves in {len(self._still)} of {len(self._heights)} clips that were looked at (first "
                f"{self._still[0]}): were they written from one frame?"
            )
        # Other units scale accelerations too, and are said above.
        if not found and len(self._accelerations) >= _FEWEST_CLIPS:
            found += self._pace()
        return found + self._wrong_statistics(normalizer)

    @property
    def _unit(self) -> str:
        return "metres" if self._skeleton.metres_per_unit == 1.0 else "millimetres"

    def _pace(self) -> list[str]:
        lively, usual = np.quantile(self._accelerations, (0.9, 0.5))
        fps = f"{self._skeleton.fps:g} frames per second"
        if lively < SLOW_MPS2:
            return [
                f"even the liveliest tenth of the clips accelerates its joints by no more than {lively:.2g} m/s^2 (95 "
                f"% of frames and joints), which is {SLOW_MPS2:g} and more for people: do the clips have {fps}, or are "
                "they stretched?"
            ]
        if usual > FAST_MPS2:
            return [
                f"half of the clips accelerate joints by {usual:.3g} m/s^2 and more in 5 % of frames and joints, which "
                f"is up to {FAST_MPS2:g} for people: do the clips have {fps}?"
            ]
        return []

    def _wrong_statistics(self, normalizer: Normalizer) -> list[str]:
        if len(self._heights) < _FEWEST_CLIPS or self._statistics.num_frames < _FEWEST_FRAMES:
            return []
        if (normalizer.std == 1.0).all() and (normalizer.mean == 0.0).all():
            return ["Mean.npy is 0 and Std.npy 1 for every feature: these are no statistics, nothing is normalised"]
        mean, std = self._statistics.moments
        groups = FeatureLayout(self._skeleton.num_joints).groups
        measured = np.array([std[part].mean() for part in groups])
        stored = np.array([normalizer.std[part].astype(np.float64).mean() for part in groups])
        # Statistics of a published data set may scale single parts of the vector on purpose.
        if np.exp(np.median(np.abs(np.log(_positive(measured) / stored)))) > WRONG_FACTOR:
            squares = np.array([(std[part] ** 2).mean() for part in groups])
            if np.exp(np.median(np.abs(np.log(_positive(squares) / stored)))) < WRONG_FACTOR**0.5:
                return [
                    "Std.npy holds the squares of the features' standard deviations, the variances; take their roots"
                ]
            ratio = float(np.median(stored / _positive(measured)))
            return [
                f"Std.npy is {ratio:.3g} times the standard deviation of the features (median over the parts of the "
                "vector): these are statistics of another data set, or of another unit"
            ]
        shift = float(np.median(np.abs(mean - normalizer.mean) / normalizer.std))
        if shift > WRONG_FACTOR:
            return [
                f"Mean.npy is {shift:.3g} standard deviations from the mean of the features (median): these are "
                "statistics of another data set"
            ]
        return []


def lively_acceleration(joints: np.ndarray, fps: float) -> float:
    """The acceleration, m/s^2, that 5 % of frames and joints exceed; joints [T, J, 3] in metres, T at least 3."""
    return float(np.quantile(np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1), 0.95) * fps**2)


def _positive(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 1e-12)
