"""Where the camera of a film stands: in front of the scene, beside an actor, or going around.

Space is the scene's: a camera in front looks along +y, z is up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

CameraName = Literal["front", "follow", "orbit"]
FIELD_DEG = 40.0
"""Vertical field of view."""
_LOOK_HEIGHT_M = 0.75
_RISE_DEG = 12.0
"""How far above the scene a camera is."""
_MARGIN_M = 0.7
_FOLLOW_DISTANCE_M = 3.6
_FOLLOW_TURN_DEG = 35.0
_FOLLOW_SMOOTH_S = 0.5
_ORBIT_DEG = 140.0
"""Angle that a camera goes around in a film."""


class View(NamedTuple):
    """A camera for each of T frames."""

    eyes: np.ndarray
    """[T, 3] places of the camera, metres."""
    targets: np.ndarray
    """[T, 3] places that it looks at, which are in focus."""

    @property
    def distances(self) -> np.ndarray:
        """[T] from the camera to what it looks at."""
        return np.linalg.norm(self.targets - self.eyes, axis=1)


def make_view(name: CameraName, points: np.ndarray, actor: np.ndarray, fps: float, aspect: float) -> View:
    """The camera for T frames.

    Args:
        points: [T, P, 3] places of all that is to be seen.
        actor: [T, 3] whom `follow` follows, and what is in focus.
        aspect: width of the picture, divided by its height.
    """
    low, high = points.min(axis=(0, 1)) - _MARGIN_M, points.max(axis=(0, 1)) + _MARGIN_M
    middle = np.array([*(low + high)[:2] / 2, _LOOK_HEIGHT_M])
    if name == "follow":
        target = gaussian_filter1d(actor, _FOLLOW_SMOOTH_S * fps, axis=0, mode="nearest")
        target[:, 2] = _LOOK_HEIGHT_M
        return View(target + _FOLLOW_DISTANCE_M * _towards_camera(np.full(len(actor), _FOLLOW_TURN_DEG)), target)
    # So far that the box of all places fits into the picture in width and height.
    half = np.tan(np.radians(FIELD_DEG) / 2)
    width = high[0] - low[0] if name == "front" else float(np.linalg.norm((high - low)[:2]))
    depth = (high[1] - low[1]) / 2 if name == "front" else width / 2
    distance = depth + max(width / (2 * half * aspect), (high[2] + _MARGIN_M) / (2 * half))
    turns = np.zeros(len(points))
    if name == "orbit":
        turns = np.linspace(-_ORBIT_DEG / 2, _ORBIT_DEG / 2, len(points))
    targets = np.repeat(middle[None], len(points), axis=0)
    return View(targets + distance * _towards_camera(turns), targets)


def _towards_camera(turns_deg: np.ndarray) -> np.ndarray:
    """Unit vectors [T, 3] from what is seen to cameras that stand so far to the right of the front."""
    turn, rise = np.radians(turns_deg), np.radians(_RISE_DEG)
    return np.stack(
        (np.sin(turn) * np.cos(rise), -np.cos(turn) * np.cos(rise), np.full(len(turn), np.sin(rise))), axis=1
    )
