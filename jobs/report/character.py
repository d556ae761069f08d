"""Pictures of the simulated humanoid: joints for the page's player, and animations of policy and reference.

Animations are rendered by MuJoCo if there is a GL library (EGL or OSMesa, no screen needed), otherwise drawn by
`motions.drawing`; the functions return which one was used.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from motions.base.atomic import atomic_write
from motions.drawing import draw_frames
from motions.files.mp4 import mp4_bytes
from motions.humanoid.points import EXTRA_POINTS, POINT_NAMES, humanoid_skeleton

if TYPE_CHECKING:
    from envs.body.mujoco_import import Model

_BACKENDS = ("egl", "osmesa")
SIZE = (320, 320)
VIDEO_FPS = 15.0
RENDER_TIMEOUT_S = 300.0

Renderer = Literal["mujoco", "drawing"]


def joint_points(model: Model, qpos: np.ndarray) -> np.ndarray:
    """Points [T, 18, 3] of `POINT_NAMES` for MuJoCo states [T, nq]: metres, y up, facing +z at heading 0."""
    from envs.body.mujoco_import import mujoco

    data = mujoco.MjData(model)
    points = np.empty((len(qpos), len(POINT_NAMES), 3))
    for frame, state in enumerate(qpos):
        data.qpos[:] = state
        mujoco.mj_kinematics(model, data)
        for index, name in enumerate(POINT_NAMES):
            body, place = EXTRA_POINTS.get(name, (name, (0.0, 0.0, 0.0)))
            number = model.body(body).id
            points[frame, index] = data.xpos[number] + data.xmat[number].reshape(3, 3) @ np.array(_to_mujoco(place))
    # From z up, facing +x to y up, facing +z; left stays left.
    return points[..., [1, 2, 0]]


def _to_mujoco(place: tuple[float, float, float]) -> tuple[float, float, float]:
    """From the frame of the clip files (y up, z to the right) to MuJoCo's (y to the left, z up)."""
    x, y, z = place
    return (x, -z, y)


@dataclass(frozen=True, slots=True)
class RecordedMotion:
    """One character's states [T, nq], and the label under them."""

    label: str
    qpos: np.ndarray


def save_video(
    path: Path, model_xml: str, takes: Sequence[RecordedMotion], fps: float, shown_fps: float = VIDEO_FPS
) -> Renderer:
    """Writes the takes side by side, as an endless animation (.webp) or a video (.mp4).

    Args:
        model_xml: the character in MuJoCo's format.
        fps: states per second of the takes.
        shown_fps: frames per second of the file, or a few more.

    Returns:
        The renderer that was used.
    """
    from envs.body.mujoco_import import mujoco

    stride = max(1, round(fps / shown_fps))
    chosen = [RecordedMotion(take.label, take.qpos[::stride]) for take in takes]
    rows = render_offscreen(model_xml, [take.qpos for take in chosen])
    if rows is None:
        model, skeleton = mujoco.MjModel.from_xml_string(model_xml), humanoid_skeleton(fps / stride)
        drawn = [
            draw_frames(joint_points(model, take.qpos), skeleton, size=SIZE, caption=take.label, follow=True)
            for take in chosen
        ]
    else:
        drawn = [[_labelled(picture, take.label) for picture in row] for row, take in zip(rows, chosen, strict=True)]
    length = max(len(row) for row in drawn)
    frames = [_beside([row[min(index, len(row) - 1)] for row in drawn]) for index in range(length)]
    with atomic_write(path) as file:
        file.write(_mp4(frames, fps / stride) if path.suffix == ".mp4" else _webp(frames, fps / stride))
    return "drawing" if rows is None else "mujoco"


def render_offscreen(model_xml: str, states: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Images [T, H, W, 3] uint8 of each sequence of states [T, nq]; None if no GL library works.

    It runs in a process of its own, because MuJoCo loads a GL library on import, and a missing one can end the process.
    """
    with tempfile.TemporaryDirectory() as scratch:
        task, pictures = Path(scratch) / "task.npz", Path(scratch) / "pictures.npz"
        arrays = {f"states{index}": np.asarray(state) for index, state in enumerate(states)}
        np.savez(task, allow_pickle=False, model=np.array(model_xml), **arrays)
        for backend in [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else _BACKENDS:
            # A library may fail or hang; the next one may work.
            with suppress(subprocess.SubprocessError):
                subprocess.run(
                    [sys.executable, "-m", "jobs.report.offscreen", str(task), str(pictures), *map(str, SIZE)],
                    cwd=Path(__file__).parent.parent.parent,
                    env={**os.environ, "MUJOCO_GL": backend},
                    capture_output=True,
                    timeout=RENDER_TIMEOUT_S,
                    check=True,
                )
                with np.load(pictures) as content:
                    return [content[f"pictures{index}"] for index in range(len(states))]
    return None


def _webp(frames: Sequence[Image.Image], fps: float) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, quality=50
    )
    return buffer.getvalue()


def _mp4(frames: Sequence[Image.Image], fps: float) -> bytes:
    return mp4_bytes((np.asarray(frame.convert("RGB")) for frame in frames), fps)


def _labelled(pixels: np.ndarray, label: str) -> Image.Image:
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).text((10, 8), label, fill=(30, 30, 30), font=ImageFont.load_default(16))
    return picture


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole
