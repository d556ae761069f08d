"""What makes pictures of a simulation a film: motion blur, depth of field, colour, vignette and grain.

All functions take and return pictures [H, W, 3] float32 in [0, 1], and depend on their arguments only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

Array = np.ndarray

_WARM = np.array([1.03, 1.0, 0.96], dtype=np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_BLUR_LEVELS = (0.0, 0.33, 1.0)
"""Shares of the largest radius at which a picture is blurred; between them it is interpolated."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a film looks; the defaults are those of the public project GenAI-Flickr, which had no grain either."""

    saturation: float = 1.25
    contrast: float = 1.15
    gamma: float = 0.95
    warmth: float = 1.0
    """Share of a warm tint."""
    vignette: float = 0.45
    """How much darker the corners are."""
    grain: float = 0.0
    """Standard deviation of the noise."""
    focus_blur_px: float = 3.0
    """Largest radius of what is out of focus, in pixels of a picture that is 360 high."""


def motion_blur(pictures: Array) -> Array:
    """The mean of the pictures [K, H, W, 3] that are taken while the shutter is open."""
    return pictures.mean(axis=0, dtype=np.float32)


def depth_of_field(picture: Array, depth_m: Array, focus_m: float, radius_px: float) -> Array:
    """Blurs what is nearer or farther than the focus.

    Args:
        depth_m: [H, W] distances, metres.
        focus_m: distance that is sharp; at twice and at two thirds of it the blur has half its radius.
        radius_px: largest radius. 0 leaves the picture as it is.
    """
    if radius_px <= 0.0:
        return picture
    away = np.abs(1.0 - focus_m / np.maximum(depth_m, 0.05))
    share = np.clip(away, 0.0, 1.0).astype(np.float32)[..., None]
    blurred = [
        picture if level == 0.0 else gaussian_filter(picture, (level * radius_px / 2, level * radius_px / 2, 0.0))
        for level in _BLUR_LEVELS
    ]
    result = blurred[0]
    for low, high, below, above in zip(_BLUR_LEVELS, _BLUR_LEVELS[1:], blurred, blurred[1:], strict=False):
        between = np.clip((share - low) / (high - low), 0.0, 1.0)
        result = np.where(share > low, below + between * (above - below), result)
    return result


def graded(picture: Array, look: Look) -> Array:
    """Saturation, contrast about the middle, gamma and a warm tint."""
    grey = (picture @ _LUMA)[..., None]
    picture = grey + look.saturation * (picture - grey)
    picture = 0.5 + look.contrast * (picture - 0.5)
    picture = np.clip(picture, 0.0, 1.0) ** look.gamma
    return np.clip(picture * (1.0 + look.warmth * (_WARM - 1.0)), 0.0, 1.0)


def vignetted(picture: Array, strength: float) -> Array:
    """Darkens towards the corners, whose share of light is 1 - `strength`."""
    height, width = picture.shape[:2]
    y, x = np.ogrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    share = 1.0 - strength * ((x * x + y * y) / 2.0) ** 1.5
    return picture * share[..., None].astype(np.float32)


def grained(picture: Array, amount: float, seed: int, frame: int) -> Array:
    """Adds the same noise to all three colours; a frame has a noise of its own, whatever was drawn before."""
    if amount <= 0.0:
        return picture
    noise = np.random.default_rng([seed, frame]).standard_normal(picture.shape[:2], dtype=np.float32)
    return np.clip(picture + amount * noise[..., None], 0.0, 1.0)


def developed(picture: Array, depth_m: Array, focus_m: float, look: Look, *, seed: int, frame: int) -> Array:
    """A frame of the film [H, W, 3] uint8 from a picture with its depths."""
    radius = look.focus_blur_px * picture.shape[0] / 360.0
    picture = depth_of_field(picture, depth_m, focus_m, radius)
    picture = grained(vignetted(graded(picture, look), look.vignette), look.grain, seed, frame)
    return (255.0 * np.clip(picture, 0.0, 1.0) + 0.5).astype(np.uint8)
