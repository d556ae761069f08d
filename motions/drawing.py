"""Draws motions as capsule figures on a ground grid: frames, contact sheets and GIFs, with Pillow alone.

One orthographic camera for the whole motion, fixed so that its whole path fits and one metre is the same length in both
directions. Left limbs are blue, right limbs orange, the trunk is dark; the path of the root lies on the ground and each
bone casts a shadow, so that floating and sinking feet are seen at once.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motions.atomic import atomic_write
from motions.skeletons import Skeleton

Colour = tuple[int, int, int]

BACKGROUND: Colour = (250, 250, 248)
GRID: Colour = (223, 224, 226)
SHADOW: Colour = (205, 206, 210)
PATH: Colour = (126, 142, 168)
INK: Colour = (52, 56, 66)
LEFT: Colour = (47, 111, 187)
RIGHT: Colour = (226, 122, 46)

_OVERSAMPLING = 2
_TRUNK_WIDTH, _LEG_WIDTH, _ARM_WIDTH, _HEAD_RADIUS = 0.13, 0.095, 0.075, 0.105


@dataclass(frozen=True, slots=True)
class Camera:
    """Orthographic view: `azimuth` degrees to the left of straight ahead of the +z axis, `elevation` above the ground.

    `centre` [3] metres is drawn at the middle of the picture, `scale` pixels per metre.
    """

    azimuth: float
    elevation: float
    centre: tuple[float, float, float]
    scale: float
    width: int
    height: int

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [..., 2] and depth [...] (larger is nearer) of points [..., 3] in metres."""
        turned = _turn(points - np.asarray(self.centre), self.azimuth, self.elevation)
        pixels = np.stack(
            [self.width / 2 + self.scale * turned[..., 0], self.height / 2 - self.scale * turned[..., 1]], axis=-1
        )
        return pixels, turned[..., 2]


def fit_camera(
    joints: np.ndarray, size: tuple[int, int], *, azimuth: float = 35.0, elevation: float = 16.0, margin: float = 0.28
) -> Camera:
    """The camera that shows all of `joints` [..., 3] (metres) in a picture of `size` (width, height) pixels."""
    points = joints.reshape(-1, 3)
    floor = points * np.array([1.0, 0.0, 1.0])
    turned = _turn(np.concatenate([points, floor]), azimuth, elevation)
    low, high = turned.min(axis=0) - margin, turned.max(axis=0) + margin
    scale = min(size[0] / (high[0] - low[0]), size[1] / (high[1] - low[1]))
    middle = (low + high) / 2
    # Back to the world: the rotation is orthogonal, its inverse the transpose.
    centre = middle @ _turn(np.eye(3), azimuth, elevation).T
    return Camera(azimuth, elevation, (float(centre[0]), float(centre[1]), float(centre[2])), scale, *size)


def draw_frames(
    joints: np.ndarray,
    skeleton: Skeleton,
    *,
    size: tuple[int, int] = (360, 360),
    caption: str = "",
    captions: Sequence[str] | None = None,
    azimuth: float = 35.0,
    elevation: float = 16.0,
    camera: Camera | None = None,
) -> list[Image.Image]:
    """One picture per frame of a motion.

    Args:
        joints: [T, J, 3] positions, y up, in the skeleton's units.
        caption: shown under every frame; `captions` instead gives each of the T frames its own (composite prompts).
        camera: shares a view between motions; by default the one that fits this motion.

    Raises:
        ValueError: wrong shape, no frames, values that are not finite, or another number of captions than frames.
    """
    points = _checked(joints, skeleton) * skeleton.metres_per_unit
    if captions is not None and len(captions) != len(points):
        raise ValueError(f"captions has {len(captions)} entries for {len(points)} frames")
    texts = list(captions) if captions is not None else [caption] * len(points)
    view = camera or fit_camera(points, size, azimuth=azimuth, elevation=elevation)
    ground = _draw_ground(points, view)
    return [
        _draw_figure(ground, points[index], points[: index + 1, 0], skeleton, view, text)
        for index, text in enumerate(texts)
    ]


def contact_sheet(
    joints: np.ndarray,
    skeleton: Skeleton,
    *,
    num_poses: int = 12,
    columns: int = 6,
    size: tuple[int, int] = (240, 240),
    caption: str = "",
    azimuth: float = 35.0,
    elevation: float = 16.0,
) -> Image.Image:
    """`num_poses` frames evenly spread over a motion [T, J, 3], in rows, each with its time in seconds.

    Raises ValueError as `draw_frames` does, and for `num_poses` or `columns` below 1.
    """
    if num_poses < 1 or columns < 1:
        raise ValueError(f"num_poses is {num_poses}, columns is {columns}; both are at least 1")
    points = _checked(joints, skeleton)
    chosen = np.unique(np.linspace(0, len(points) - 1, num_poses).round().astype(int))
    camera = fit_camera(points * skeleton.metres_per_unit, size, azimuth=azimuth, elevation=elevation)
    ground = _draw_ground(points * skeleton.metres_per_unit, camera)
    rows = math.ceil(len(chosen) / columns)
    header = 24 if caption else 0
    sheet = Image.new("RGB", (columns * size[0], rows * size[1] + header), BACKGROUND)
    if caption:
        ImageDraw.Draw(sheet).text((8, 5), caption, fill=INK, font=ImageFont.load_default(13))
    for place, index in enumerate(chosen):
        metres = points[: index + 1] * skeleton.metres_per_unit
        text = f"{index / skeleton.fps:.2f} s"
        picture = _draw_figure(ground, metres[-1], metres[:, 0], skeleton, camera, text)
        sheet.paste(picture, (place % columns * size[0], header + place // columns * size[1]))
    return sheet


def save_gif(frames: Sequence[Image.Image], path: str | Path, fps: float) -> None:
    """Writes an endless animation; the file appears complete or not at all.

    GIF counts time in hundredths of a second: delays are rounded so that they add up to the right total.
    Raises ValueError for no frames or fps outside (0, 50] (viewers slow shorter delays down).
    """
    if not frames:
        raise ValueError("frames is empty: there is nothing to save")
    if not 0.0 < fps <= 50.0:
        raise ValueError(f"fps is {fps}; legal: above 0, at most 50")
    ticks = [round(100.0 * index / fps) for index in range(len(frames) + 1)]
    delays = [10 * (end - start) for start, end in itertools.pairwise(ticks)]
    # One palette for all frames: no flicker, smaller differences.
    palette = frames[len(frames) // 2].quantize(96, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    indexed[0].save(buffer, "GIF", save_all=True, append_images=indexed[1:], duration=delays, loop=0, optimize=False)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _turn(points: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """World to view: x right, y up, z towards the viewer. Azimuth 0 looks at the front of a figure that faces +z."""
    a, e = math.radians(azimuth), math.radians(elevation)
    around = np.array([[math.cos(a), 0.0, -math.sin(a)], [0.0, 1.0, 0.0], [math.sin(a), 0.0, math.cos(a)]])
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, math.cos(e), -math.sin(e)], [0.0, math.sin(e), math.cos(e)]])
    return points @ (tilt @ around).T


def _checked(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    points = np.asarray(joints, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (skeleton.num_joints, 3) or not len(points):
        raise ValueError(f"joints have shape {points.shape}; expected [T, {skeleton.num_joints}, 3] with T at least 1")
    if not np.isfinite(points).all():
        raise ValueError("joints hold values that are not finite")
    return points


def _draw_ground(points: np.ndarray, camera: Camera) -> Image.Image:
    """The empty scene, oversampled: a grid of half-metre squares under the motion and a margin around it."""
    factor = _OVERSAMPLING
    picture = Image.new("RGB", (camera.width * factor, camera.height * factor), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    low = np.floor((points[..., [0, 2]].min(axis=(0, 1)) - 0.6) * 2) / 2
    high = np.ceil((points[..., [0, 2]].max(axis=(0, 1)) + 0.6) * 2) / 2
    for x in np.arange(low[0], high[0] + 0.25, 0.5):
        _line(draw, camera, np.array([[x, 0.0, low[1]], [x, 0.0, high[1]]]), GRID, factor)
    for z in np.arange(low[1], high[1] + 0.25, 0.5):
        _line(draw, camera, np.array([[low[0], 0.0, z], [high[0], 0.0, z]]), GRID, factor)
    return picture


def _line(draw: ImageDraw.ImageDraw, camera: Camera, points: np.ndarray, colour: Colour, width: int) -> None:
    pixels, _ = camera.project(points)
    draw.line([(float(x) * _OVERSAMPLING, float(y) * _OVERSAMPLING) for x, y in pixels], fill=colour, width=width)


def _draw_figure(
    ground: Image.Image, pose: np.ndarray, path: np.ndarray, skeleton: Skeleton, camera: Camera, text: str
) -> Image.Image:
    """One finished picture: shadow and path on the ground, then the bones from far to near."""
    picture = ground.copy()
    draw = ImageDraw.Draw(picture)
    flat = pose * np.array([1.0, 0.0, 1.0])
    bones = [(skeleton.parents[joint], joint) for joint in range(skeleton.num_joints) if skeleton.parents[joint] >= 0]
    for parent, joint in bones:
        _capsule(draw, camera, flat[parent], flat[joint], _width(skeleton, joint) * 0.8, SHADOW)
    if len(path) > 1:
        _line(draw, camera, path * np.array([1.0, 0.0, 1.0]), PATH, 2 * _OVERSAMPLING)
    _, depth = camera.project(pose)
    for parent, joint in sorted(bones, key=lambda bone: depth[bone[0]] + depth[bone[1]]):
        shade = float(np.clip((depth[joint] + depth[parent]) / 2 - depth[0], -0.4, 0.4))
        colour = _shaded(_colour(skeleton, joint), shade)
        _capsule(draw, camera, pose[parent], pose[joint], _width(skeleton, joint), colour, outline=True)
        if skeleton.joint_names[joint] == "head":
            beyond = pose[joint] - pose[parent]
            middle = pose[joint] + beyond / np.linalg.norm(beyond) * 0.05
            _capsule(draw, camera, middle, middle, 2 * _HEAD_RADIUS, colour, outline=True)
    picture = picture.resize((camera.width, camera.height), Image.Resampling.LANCZOS)
    if text:
        _write(picture, text)
    return picture


def _capsule(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    start: np.ndarray,
    end: np.ndarray,
    width: float,
    colour: Colour,
    *,
    outline: bool = False,
) -> None:
    """A thick line with round ends, `width` in metres."""
    pixels, _ = camera.project(np.stack([start, end]))
    (x0, y0), (x1, y1) = (pixels * _OVERSAMPLING).tolist()
    radius = max(width * camera.scale * _OVERSAMPLING / 2, 1.0)
    layers = [(radius, colour)]
    if outline:
        rim = max(1.0, radius * 0.16)
        layers = [(radius + rim, BACKGROUND), (radius, colour)]
    for size, paint in layers:
        draw.line([(x0, y0), (x1, y1)], fill=paint, width=max(1, round(2 * size)))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - size, y - size, x + size, y + size], fill=paint)


def _colour(skeleton: Skeleton, joint: int) -> Colour:
    side = skeleton.joint_names[joint].split("_")[0]
    return {"left": LEFT, "right": RIGHT}.get(side, INK)


def _width(skeleton: Skeleton, joint: int) -> float:
    part = skeleton.joint_names[joint].split("_")[-1]
    if part in ("knee", "ankle"):
        return _LEG_WIDTH
    if part in ("elbow", "wrist", "foot", "midfoot", "head"):
        return _ARM_WIDTH
    return _TRUNK_WIDTH


def _shaded(colour: Colour, depth: float) -> Colour:
    """Lighter when further away, `depth` metres from the pelvis."""
    share = 0.35 * max(-depth, 0.0) / 0.4
    red, green, blue = (round(value + share * (paper - value)) for value, paper in zip(colour, BACKGROUND, strict=True))
    return red, green, blue


def _write(picture: Image.Image, text: str) -> None:
    """The caption at the bottom, wrapped to the width of the picture."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font=font) > picture.width - 16:
            lines.append(word)
        else:
            lines[-1] = longer
    top = picture.height - 6 - 15 * len(lines)
    for index, line in enumerate(lines):
        draw.text((8, top + 15 * index), line, fill=INK, font=font)
