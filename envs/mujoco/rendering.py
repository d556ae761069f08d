"""Images of the simulated humanoid for `render()`.

If the environment variable `MUJOCO_GL` is set (`egl` or `osmesa` need no screen), MuJoCo renders. Otherwise MuJoCo's
renderer is not used, since a missing GL library can end the process: the bodies are drawn with Pillow, as shaded
outlines over a ground grid.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.body.mujoco_import import Data, Model, mujoco
from motions.base.errors import UserError

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 480, 360
RENDER_MODES = ["rgb_array"]
"""Values of `render_mode`; None draws nothing."""
_DISTANCE, _AZIMUTH, _ELEVATION, _LOOK_HEIGHT = 3.2, 65.0, 12.0, 0.85
_FOCAL = 1.2 * HEIGHT
_NEAR = 0.3
_SKY, _GRID, _SHADOW = (250, 250, 247), (205, 208, 210), (222, 224, 224)
_RIGHT, _LEFT, _TRUNK = np.array([205, 120, 90]), np.array([80, 125, 190]), np.array([120, 130, 145])
_SUPERSAMPLING = 2


def check_render_mode(mode: str | None) -> None:
    """Raises ValueError for a mode that is not among `RENDER_MODES`."""
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {mode!r}; legal: null, {', '.join(RENDER_MODES)}")


class CharacterRenderer:
    """Draws states of a MuJoCo model; the camera follows the character.

    Raises:
        UserError: `MUJOCO_GL` is set, but MuJoCo cannot render with it.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._data: Data = mujoco.MjData(model)
        self._offscreen: Any = None
        backend = os.environ.get("MUJOCO_GL")
        if backend:
            try:
                self._offscreen = mujoco.Renderer(model, height=HEIGHT, width=WIDTH)
            except (ImportError, AttributeError, RuntimeError) as error:
                raise UserError(f"MUJOCO_GL is {backend!r}, with which MuJoCo does not render: {error}") from error

    def draw(self, qpos: Array) -> Picture:
        """The image [360, 480, 3] of a state qpos [nq]."""
        self._data.qpos[:] = qpos
        if self._offscreen is None:
            mujoco.mj_kinematics(self._model, self._data)
            return self._sketch()
        mujoco.mj_forward(self._model, self._data)
        camera = mujoco.MjvCamera()
        camera.distance, camera.azimuth, camera.elevation = _DISTANCE, _AZIMUTH, -_ELEVATION
        camera.lookat[:] = (qpos[0], qpos[1], _LOOK_HEIGHT)
        self._offscreen.update_scene(self._data, camera)
        return self._offscreen.render()

    def close(self) -> None:
        """Releases the GL context, if there is one."""
        if self._offscreen is not None:
            self._offscreen.close()
            self._offscreen = None

    def _sketch(self) -> Picture:
        scale = _SUPERSAMPLING
        image = Image.new("RGB", (scale * WIDTH, scale * HEIGHT), _SKY)
        pen = ImageDraw.Draw(image)
        eye = _Eye(self._data.qpos[:2], scale)
        for start, end in _ground_lines(self._data.qpos[:2]):
            eye.line(pen, start, end, 0.006, _GRID)
        geoms = range(1, self._model.ngeom)
        for geom in geoms:  # shadows, as of a light straight above
            ends, radius = self._outline(geom)
            flat = ends * (1.0, 1.0, 0.0)
            eye.line(pen, flat[0], flat[-1], radius, _SHADOW)
        for geom in sorted(geoms, key=lambda geom: -eye.depth(self._data.geom_xpos[geom])):
            ends, radius = self._outline(geom)
            name = mujoco.mj_id2name(self._model, mujoco.mjtObj.mjOBJ_GEOM, geom)
            base = _RIGHT if name.startswith("right") else _LEFT if name.startswith("left") else _TRUNK
            nearness = np.clip(1.0 - 0.6 * (eye.depth(self._data.geom_xpos[geom]) - _DISTANCE), 0.75, 1.2)
            colour = tuple(int(value) for value in np.clip(base * nearness, 0, 255))
            outline = tuple(int(0.6 * value) for value in colour)
            for grow, ink in ((0.012, outline), (0.0, colour)):
                if self._model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
                    eye.hull(pen, ends, grow, ink)
                else:
                    eye.line(pen, ends[0], ends[-1], radius + grow, ink)
        return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))

    def _outline(self, geom: int) -> tuple[Array, float]:
        """Points [K, 3] and radius: two ends of a capsule, the centre of a sphere, the corners of a box."""
        place, matrix = self._data.geom_xpos[geom], self._data.geom_xmat[geom].reshape(3, 3)
        size, kind = self._model.geom_size[geom], self._model.geom_type[geom]
        if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            return place + np.outer((-size[1], size[1]), matrix[:, 2]), float(size[0])
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            return place + (signs * size) @ matrix.T, float(size.min())
        return place[None], float(size[0])


class _Eye:
    """A perspective camera that looks from one side at a point on the ground."""

    def __init__(self, place: Array, scale: int) -> None:
        azimuth, elevation = np.radians((_AZIMUTH, _ELEVATION))
        self._forward = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), -np.sin(elevation)]
        )
        self._right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        self._up = np.cross(self._right, self._forward)
        self._place = np.array([*place, _LOOK_HEIGHT]) - _DISTANCE * self._forward
        self._scale = scale

    def depth(self, point: Array) -> float:
        """Distance of a point along the viewing direction, metres."""
        return float((point - self._place) @ self._forward)

    def line(self, pen: ImageDraw.ImageDraw, start: Array, end: Array, radius: float, colour: Any) -> None:
        """Draws a line of the given radius in metres, with round ends."""
        if min(self.depth(start), self.depth(end)) < _NEAR:
            return
        pixels = self._pixels(np.stack((start, end)))
        width = radius * _FOCAL * self._scale / (0.5 * (self.depth(start) + self.depth(end)))
        (x0, y0), (x1, y1) = pixels
        pen.line((x0, y0, x1, y1), fill=colour, width=max(1, round(2 * width)))
        if width > 1.5:
            for x, y in pixels:
                pen.ellipse((x - width, y - width, x + width, y + width), fill=colour)

    def hull(self, pen: ImageDraw.ImageDraw, corners: Array, grow: float, colour: Any) -> None:
        """Draws the outline of a convex body given by its corners."""
        centre = corners.mean(axis=0)
        corners = centre + (corners - centre) * (1.0 + grow / np.abs(corners - centre).max())
        pen.polygon([(x, y) for x, y in _convex_hull(self._pixels(corners))], fill=colour)

    def _pixels(self, points: Array) -> list[tuple[float, float]]:
        relative = points - self._place
        size = _FOCAL * self._scale / np.maximum(relative @ self._forward, _NEAR)
        x = self._scale * WIDTH / 2 + size * (relative @ self._right)
        y = self._scale * HEIGHT / 2 - size * (relative @ self._up)
        return list(zip(x.tolist(), y.tolist(), strict=True))


def _ground_lines(place: Array) -> Iterator[tuple[Array, Array]]:
    """The ground's grid of half metres around a point, in short pieces; those behind the camera are left out."""
    low = np.floor(2.0 * place) / 2.0 - 3.0
    steps = np.arange(0.0, 6.01, 0.5)
    for offset in steps:
        for piece in steps[:-1]:
            for axis in (0, 1):
                start = np.array([*low, 0.0])
                start[axis] += offset
                start[1 - axis] += piece
                end = start.copy()
                end[1 - axis] += 0.5
                yield start, end


def _convex_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the convex hull of points (Andrew's monotone chain)."""

    def half(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
        chain: list[tuple[float, float]] = []
        for point in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) > 0.0:
                    break
                chain.pop()
            chain.append(point)
        return chain[:-1]

    ordered = sorted(points)
    return half(ordered) + half(ordered[::-1])
