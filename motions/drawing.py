"""Draws motions as capsule figures on a ground grid: frames, contact sheets and GIFs, using Pillow alone.

The camera is orthographic and by default fixed so that the whole path fits; it can also follow the body at one scale.
Left limbs are blue, right limbs orange, the trunk is dark. The path of the root is drawn on the ground and the body
casts a shadow, so that floating and sinking feet are visible.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter1d

from motions.base.atomic import atomic_write
from motions.skeleton.skeletons import Skeleton

Colour = tuple[int, int, int]

BACKGROUND: Colour = (250, 250, 248)
GRID: Colour = (223, 224, 226)
SHADOW: Colour = (205, 206, 210)
PATH: Colour = (126, 142, 168)
INK: Colour = (52, 56, 66)
LEFT: Colour = (47, 111, 187)
RIGHT: Colour = (226, 122, 46)

_OVERSAMPLING = 2
_FLOOR = np.array([1.0, 0.0, 1.0])
_RIM = 0.03
HEAD_RADIUS = 0.105
_LIMBS = {"knee": 0.105, "ankle": 0.09, "midfoot": 0.07, "foot": 0.07, "elbow": 0.08, "wrist": 0.068}
"""Width in metres of the limbs' bones, by the joint at the end of the bone; all other bones belong to the trunk."""
_TRUNK_WIDTH = 0.1
_FOLLOW_SIGMA = 8.0
"""Standard deviation, in frames, of the filter that smooths the path of a camera that follows the body."""


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
    turned = _turn(np.concatenate([points, points * _FLOOR]), azimuth, elevation)
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
    follow: bool = False,
    camera: Camera | None = None,
) -> list[Image.Image]:
    """One picture per frame of a motion.

    Args:
        joints: [T, J, 3] positions, y up, in the skeleton's units.
        caption: shown under every frame; `captions` gives each of the T frames its own instead (composite prompts).
        follow: move the camera along with the body, for motions that go far; the scale stays.
        camera: shares a view between motions; by default the one that fits this motion.

    Raises:
        ValueError: wrong shape, no frames, values that are not finite, or another number of captions than frames.
    """
    points = _checked(joints, skeleton) * skeleton.metres_per_unit
    if captions is not None and len(captions) != len(points):
        raise ValueError(f"captions has {len(captions)} entries for {len(points)} frames")
    texts = list(captions) if captions is not None else [caption] * len(points)
    cameras = _cameras(points, size, azimuth, elevation, follow, camera)
    return list(_pictures(points, skeleton, cameras, texts))


def video_frames(
    joints: np.ndarray, skeleton: Skeleton, captions: Sequence[str], size: tuple[int, int], *, follow: bool
) -> Iterator[Image.Image]:
    """The pictures of `draw_frames`, one after the other: those of a long video would not fit into memory."""
    points = _checked(joints, skeleton) * skeleton.metres_per_unit
    return _pictures(points, skeleton, _cameras(points, size, 35.0, 16.0, follow, None), captions)


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
    follow: bool = False,
) -> Image.Image:
    """`num_poses` frames evenly spread over a motion [T, J, 3], in rows, each with its time in seconds.

    Raises ValueError as `draw_frames` does, and for `num_poses` or `columns` below 1.
    """
    if num_poses < 1 or columns < 1:
        raise ValueError(f"num_poses is {num_poses}, columns is {columns}; both are at least 1")
    points = _checked(joints, skeleton) * skeleton.metres_per_unit
    cameras = _cameras(points, size, azimuth, elevation, follow, None)
    chosen = np.unique(np.linspace(0, len(points) - 1, num_poses).round().astype(int))
    rows = math.ceil(len(chosen) / columns)
    header = 24 if caption else 0
    sheet = Image.new("RGB", (columns * size[0], rows * size[1] + header), BACKGROUND)
    if caption:
        ImageDraw.Draw(sheet).text((8, 5), caption, fill=INK, font=ImageFont.load_default(13))
    for place, index in enumerate(chosen.tolist()):
        text = f"{index / skeleton.fps:.2f} s"
        picture = _draw(points[: index + 1], points, skeleton, cameras[index], text)
        sheet.paste(picture, (place % columns * size[0], header + place // columns * size[1]))
    return sheet


def save_gif(frames: Sequence[Image.Image], path: str | Path, fps: float) -> None:
    """Writes an animation that repeats forever; the file appears complete or not at all.

    GIF stores delays in hundredths of a second; they are rounded so that the total duration is right. Raises ValueError
    for no frames or an fps outside (0, 50] (viewers slow down shorter delays).
    """
    if not frames:
        raise ValueError("frames is empty: there is nothing to save")
    if not 0.0 < fps <= 50.0:
        raise ValueError(f"fps is {fps}; legal: above 0, at most 50")
    ticks = [round(100.0 * index / fps) for index in range(len(frames) + 1)]
    delays = [10 * (end - start) for start, end in itertools.pairwise(ticks)]
    # One palette for all frames avoids flicker and makes the file smaller.
    palette = frames[len(frames) // 2].quantize(96, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    indexed[0].save(buffer, "GIF", save_all=True, append_images=indexed[1:], duration=delays, loop=0, optimize=False)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _pictures(
    points: np.ndarray, skeleton: Skeleton, cameras: Sequence[Camera], texts: Sequence[str]
) -> Iterator[Image.Image]:
    for index, (camera, text) in enumerate(zip(cameras, texts, strict=True)):
        yield _draw(points[: index + 1], points, skeleton, camera, text)


def _turn(points: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """World to view coordinates: x right, y up, z towards the viewer. Azimuth 0 shows a figure facing +z frontally."""
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


def _cameras(
    points: np.ndarray,
    size: tuple[int, int],
    azimuth: float,
    elevation: float,
    follow: bool,
    camera: Camera | None,
) -> list[Camera]:
    """One camera per frame of `points` [T, J, 3]."""
    path = gaussian_filter1d(points[:, 0], _FOLLOW_SIGMA, axis=0, mode="nearest") * _FLOOR
    if camera is None:
        shown = points - path[:, None] if follow else points
        camera = fit_camera(shown, size, azimuth=azimuth, elevation=elevation)
    if not follow:
        return [camera] * len(points)
    x, y, z = camera.centre
    return [replace(camera, centre=(x + float(step[0]), y, z + float(step[2]))) for step in path]


def _draw(past: np.ndarray, whole: np.ndarray, skeleton: Skeleton, camera: Camera, text: str) -> Image.Image:
    """The last pose of `past` [t, J, 3] on the ground of the `whole` motion, with the path up to it."""
    picture = Image.new("RGB", (camera.width * _OVERSAMPLING, camera.height * _OVERSAMPLING), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    _draw_grid(draw, camera, whole)
    pose = past[-1]
    flat = pose * _FLOOR
    for limb in limbs_of(skeleton):
        for parent, joint, width in limb.bones:
            _capsule(draw, camera, flat[parent], flat[joint], 0.8 * width, SHADOW)
    _polygon(draw, camera, flat[_trunk_corners(skeleton)], 0.8 * _TRUNK_WIDTH, SHADOW)
    if len(past) > 1:
        _line(draw, camera, past[:, 0] * _FLOOR, PATH, 2 * _OVERSAMPLING)
    _draw_figure(draw, camera, pose, skeleton)
    picture = picture.resize((camera.width, camera.height), Image.Resampling.LANCZOS)
    if text:
        _write(picture, text)
    return picture


def _draw_grid(draw: ImageDraw.ImageDraw, camera: Camera, points: np.ndarray) -> None:
    """Lines every half metre under the motion and a margin around it."""
    low = np.floor((points[..., [0, 2]].min(axis=(0, 1)) - 0.6) * 2) / 2
    high = np.ceil((points[..., [0, 2]].max(axis=(0, 1)) + 0.6) * 2) / 2
    for x in np.arange(low[0], high[0] + 0.25, 0.5):
        _line(draw, camera, np.array([[x, 0.0, low[1]], [x, 0.0, high[1]]]), GRID, _OVERSAMPLING)
    for z in np.arange(low[1], high[1] + 0.25, 0.5):
        _line(draw, camera, np.array([[low[0], 0.0, z], [high[0], 0.0, z]]), GRID, _OVERSAMPLING)


@dataclass(frozen=True, slots=True)
class Limb:
    """Bones (parent, joint, width in metres) that are drawn as one piece."""

    colour: Colour
    bones: tuple[tuple[int, int, float], ...]


@cache
def limbs_of(skeleton: Skeleton) -> tuple[Limb, ...]:
    """How a skeleton is drawn: arms, legs, the head, and the trunk, last."""
    pieces: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for joint, parent in enumerate(skeleton.parents):
        side, _, part = skeleton.joint_names[joint].rpartition("_")
        if parent < 0:
            continue
        name = ("", "trunk")
        if part in _LIMBS:
            name = (side, "arm" if part in ("elbow", "wrist") else "leg")
        elif part == "head":
            name = ("", "head")
        pieces.setdefault(name, []).append((parent, joint, _LIMBS.get(part, _TRUNK_WIDTH)))
    trunk = pieces.pop(("", "trunk"))
    limbs = [Limb({"left": LEFT, "right": RIGHT}.get(side, INK), tuple(bones)) for (side, _), bones in pieces.items()]
    return (*limbs, Limb(INK, tuple(trunk)))


def _trunk_corners(skeleton: Skeleton) -> list[int]:
    return [skeleton.index(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]


def _draw_figure(draw: ImageDraw.ImageDraw, camera: Camera, pose: np.ndarray, skeleton: Skeleton) -> None:
    """Draws limbs, trunk and head from far to near, each outlined in the background colour."""
    _, depth = camera.project(pose)
    limbs = limbs_of(skeleton)
    trunk = limbs[-1]

    def distance(limb: Limb) -> float:
        joints = [joint for _, joint, _ in limb.bones] if limb is not trunk else _trunk_corners(skeleton)
        return float(depth[joints].mean())

    for limb in sorted(limbs, key=distance):
        colour = _shaded(limb.colour, 0.0 if limb is trunk else distance(limb) - distance(trunk))
        for rim, paint in ((_RIM, BACKGROUND), (0.0, colour)):
            if limb is trunk:
                _polygon(draw, camera, pose[_trunk_corners(skeleton)], _TRUNK_WIDTH + rim, paint)
            for parent, joint, width in limb.bones:
                if skeleton.joint_names[joint] == "head":
                    _draw_head(draw, camera, pose[parent], pose[joint], rim, paint)
                else:
                    _capsule(draw, camera, pose[parent], pose[joint], width + rim, paint)


def _draw_head(
    draw: ImageDraw.ImageDraw, camera: Camera, neck: np.ndarray, head: np.ndarray, rim: float, colour: Colour
) -> None:
    """Draws a ball beyond the head joint; the neck is not outlined, which would separate it from the trunk."""
    direction = (head - neck) / max(float(np.linalg.norm(head - neck)), 1e-9)
    middle = head + 0.05 * direction
    _capsule(draw, camera, middle, middle, 2 * HEAD_RADIUS + rim, colour)
    if not rim:
        _capsule(draw, camera, neck, head, 0.8 * _TRUNK_WIDTH, colour)


def _capsule(
    draw: ImageDraw.ImageDraw, camera: Camera, start: np.ndarray, end: np.ndarray, width: float, colour: Colour
) -> None:
    """A thick line with round ends, `width` in metres."""
    pixels, _ = camera.project(np.stack([start, end]))
    (x0, y0), (x1, y1) = (pixels * _OVERSAMPLING).tolist()
    radius = max(width * camera.scale * _OVERSAMPLING / 2, 1.0)
    draw.line([(x0, y0), (x1, y1)], fill=colour, width=max(1, round(2 * radius)))
    for x, y in ((x0, y0), (x1, y1)):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _polygon(draw: ImageDraw.ImageDraw, camera: Camera, corners: np.ndarray, width: float, colour: Colour) -> None:
    """A filled area with a thick, round border."""
    pixels, _ = camera.project(corners)
    draw.polygon([(float(x) * _OVERSAMPLING, float(y) * _OVERSAMPLING) for x, y in pixels], fill=colour)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        _capsule(draw, camera, start, end, width, colour)


def _line(draw: ImageDraw.ImageDraw, camera: Camera, points: np.ndarray, colour: Colour, width: int) -> None:
    pixels, _ = camera.project(points)
    draw.line([(float(x) * _OVERSAMPLING, float(y) * _OVERSAMPLING) for x, y in pixels], fill=colour, width=width)


def _shaded(colour: Colour, depth: float) -> Colour:
    """The colour made lighter with distance; `depth` in metres from the trunk."""
    share = 0.35 * min(max(-depth, 0.0) / 0.3, 1.0)
    red, green, blue = (round(value + share * (paper - value)) for value, paper in zip(colour, BACKGROUND, strict=True))
    return red, green, blue


def _write(picture: Image.Image, text: str) -> None:
    """Writes the caption at the bottom, wrapped to the width of the picture."""
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
