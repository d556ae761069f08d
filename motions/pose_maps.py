"""Pictures of skeletons as OpenPose draws them, from which ControlNets for poses were trained.

A skeleton has 18 key points (COCO): nose, neck, right shoulder, elbow and wrist, the left ones, right hip, knee and
ankle, the left ones, right eye, left eye, right ear, left ear. Bones and points have 18 colours around the circle of
hues; bones are ellipses at six tenths of their brightness on black (Cao et al. 2019).
"""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw

NUM_POINTS = 18
BONES = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
"""Pairs of key points, in the order of their colours."""
_COLOURS = tuple(
    tuple(round(255 * value) for value in colorsys.hsv_to_rgb(number / NUM_POINTS, 1.0, 1.0))
    for number in range(NUM_POINTS)
)
_DIM = 0.6
_WIDTH = 4 / 512
"""Half the width of a bone, and the radius of a point, as a share of the picture's height."""
_OVERSAMPLING = 2


def pose_map(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture [height, width, 3] uint8 of n skeletons.

    Args:
        points: [n, 18, 2] places in pixels, x to the right and y down; what is not finite is not drawn.
    """
    scale = _OVERSAMPLING
    picture = Image.new("RGB", (scale * width, scale * height))
    draw = ImageDraw.Draw(picture)
    radius = max(1.0, _WIDTH * height) * scale
    for person in np.asarray(points, dtype=np.float64) * scale:
        for number, (a, b) in enumerate(BONES):
            if np.isfinite(person[[a, b]]).all():
                dim = tuple(round(_DIM * value) for value in _COLOURS[number])
                draw.polygon(_ellipse(person[a], person[b], radius), fill=dim)
        for number, (x, y) in enumerate(person):
            if np.isfinite((x, y)).all():
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_COLOURS[number])
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def _ellipse(a: np.ndarray, b: np.ndarray, radius: float) -> list[tuple[float, float]]:
    """The outline of the ellipse from one point to another."""
    along = (b - a) / 2
    length = float(np.linalg.norm(along))
    across = np.array([-along[1], along[0]]) * (radius / length if length > 1e-9 else 0.0)
    turns = np.linspace(0.0, 2.0 * np.pi, 25)[:-1, None]
    outline = (a + b) / 2 + np.cos(turns) * along + np.sin(turns) * across
    return [(float(x), float(y)) for x, y in outline]
