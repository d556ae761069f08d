"""Failure of an episode: a body touches the ground that must not, or is too far from its position in the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.settings import BODY_NAMES, DeepMimicSettings
from motions.humanoid.mocap import MocapClip

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEET = ("right_ankle", "left_ankle")

GROUND_BODIES: dict[str, tuple[str, ...]] = {
    "cartwheel": tuple(f"{side}_{part}" for side in ("right", "left") for part in ("ankle", "wrist", "elbow")),
    "roll": BODY_NAMES,
    "crawl": BODY_NAMES,
    "getup_facedown": BODY_NAMES,
    "getup_faceup": BODY_NAMES,
}
"""Bodies that may touch the ground, by clip; in all other clips only the feet may."""


class Falls:
    """The rule for characters that imitate the given clips.

    Attributes:
        forbidden: [C, 15] whether a body's contact with the ground is a fall, by clip.
    """

    def __init__(self, settings: DeepMimicSettings, clips: Sequence[MocapClip]) -> None:
        self._early = settings.early_termination
        self._max_deviation = settings.max_body_deviation
        self.forbidden: Flags = np.stack([_forbidden_contacts(settings, clip) for clip in clips])

    def among(self, clip: NDArray[np.int64], touching: Flags, diverged: Flags, distances: Array) -> Flags:
        """Which of n characters have fallen.

        Args:
            clip: [n] index of each character's clip.
            touching: [n, 15] which bodies touched the ground.
            diverged: [n] whether the simulation diverged, which always counts as a fall.
            distances: [n, 15] of bodies from their positions in the reference, metres.
        """
        if not self._early:
            return diverged
        forbidden = self.forbidden if len(self.forbidden) == 1 else self.forbidden.take(clip, axis=0)
        failing = touching & forbidden
        if self._max_deviation is not None:
            failing |= distances > self._max_deviation
        return np.logical_or.reduce(failing, axis=1) | diverged


def _forbidden_contacts(settings: DeepMimicSettings, clip: MocapClip) -> Flags:
    allowed = GROUND_BODIES.get(clip.name, FEET) if settings.ground_bodies == "auto" else settings.ground_bodies
    return np.array([name not in allowed for name in BODY_NAMES])
