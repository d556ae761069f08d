"""Films a recorded scene: what `jobs.render` does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs.scenes.assets import Asset, build_assets
from envs.scenes.looks import TinyRenderer, film_xml, shown_bodies
from jobs.scenes.cameras import FIELD_DEG, View, make_view
from jobs.scenes.parsing import check_free
from jobs.scenes.planning import LAYOUT
from jobs.scenes.settings import FilmSettings, RenderConfig, RenderFilesSettings
from jobs.scenes.simulation import NUMBERS, STATES, read_numbers
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.safe_files import read_array_file
from motions.files.mp4 import check_h264, mp4_bytes
from motions.film import Look, developed, motion_blur
from motions.scenes.layout_file import read_layout
from motions.scenes.scene import Scene, read_scene

FILM, POSTER = "film.mp4", "film.png"
_BACKENDS = ("egl", "osmesa")
_TIMEOUT_S = 900.0
_SHEET = 6
_ARRAYS = ("actors", "bodies", "objects", "object_poses", "wrench", "fps", "version")


@dataclass(frozen=True)
class Take:
    """A recorded scene, ready to be filmed; T + 1 recorded times, n actors, m things."""

    scene: Scene
    assets: list[Asset]
    bodies: np.ndarray
    """[T + 1, n, 15, 7]."""
    objects: np.ndarray
    """[T + 1, m, 7]."""
    wrench: np.ndarray
    """[T, n, 6]."""
    fps: float
    numbers: dict[str, Any]

    @property
    def poses(self) -> np.ndarray:
        """Of all bodies and things, [T + 1, 15 n + m, 7]."""
        return np.concatenate((self.bodies.reshape(len(self.bodies), -1, 7), self.objects), axis=1)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (len(self.bodies) - 1) / self.fps


def run(config: RenderConfig) -> None:
    """Writes the film and its sheet of pictures."""
    folder = config.files.save_dir or config.files.simulation
    check_free(folder, (FILM, POSTER), None, overwrite=config.files.overwrite)
    take = prepare(config.files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"save_dir {folder}: {error.strerror}") from error
    frames, renderer = film_frames(take, config.film)
    write_film(folder, frames, config.film.fps)
    print(f"{len(frames)} frames by {renderer}\n{folder / FILM}\n{folder / POSTER}")


def plan(config: RenderConfig) -> None:
    """Checks the recording, and prints what would be filmed."""
    folder = config.files.save_dir or config.files.simulation
    check_free(folder, (FILM, POSTER), None, overwrite=config.files.overwrite)
    take = prepare(config.files)
    print(
        f"{take.seconds:.1f} s, {len(times_of(take, config.film))} frames of {config.film.width} x {config.film.height}"
    )
    print(f"would write {folder / FILM} and {folder / POSTER}")


def prepare(files: RenderFilesSettings) -> Take:
    """Reads and checks the recording.

    Raises:
        UserError: a file is missing or was not written by `jobs.simulate`, the scene is another one, or there is no
            encoder of H.264.
    """
    check_h264()
    path = files.simulation / STATES
    if not path.is_file():
        raise UserError(f"simulation {files.simulation} has no {STATES}; jobs.simulate writes one")
    arrays = read_array_file(path)
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise UserError(f"{path} was not written by jobs.simulate: it has no {missing[0]}")
    numbers = read_numbers(files.simulation / NUMBERS)
    scene = read_scene(files.scene or files.simulation / "scene.json")
    layout = read_layout(files.layout or (files.scene or files.simulation / "scene.json").parent / LAYOUT)
    actors = arrays["actors"].tolist()
    assets = build_assets(scene, layout, frozenset(actors), files.meshes)
    if [asset.name for asset in assets] != arrays["objects"].tolist():
        raise UserError(f"{path} is of another scene: it has {', '.join(arrays['objects'].tolist()) or 'no things'}")
    bodies, objects = (arrays[name].astype(np.float64) for name in ("bodies", "object_poses"))
    if not (np.isfinite(bodies).all() and np.isfinite(objects).all()):
        raise UserError(f"{path} has numbers that are not finite")
    return Take(scene, assets, bodies, objects, arrays["wrench"], float(arrays["fps"]), numbers)


def film_frames(take: Take, film: FilmSettings) -> tuple[list[np.ndarray], str]:
    """The frames [H, W, 3] uint8 of the film, and which renderer made them.

    Raises:
        UserError: the renderer that was asked for does not work here.
    """
    times = times_of(take, film)
    poses = take.poses
    opened = np.arange(film.sub_frames) / film.sub_frames * film.shutter / film.fps
    moments = poses_between(poses, (times[:, None] + opened) * take.fps)
    shown = shown_bodies(take.bodies.shape[1], take.assets)
    view = view_of(take, times, film)
    raw, name = _rendered(moments, view, shown, film)
    look = Look(**film.look.model_dump())
    frames = []
    for index, (picture, depth) in enumerate(raw):
        frame = developed(
            picture.astype(np.float32) / 255.0,
            depth.astype(np.float64),
            float(view.distances[index]),
            look,
            seed=film.grain_seed,
            frame=index,
        )
        frames.append(_lettered(frame, take, float(times[index])))
    return frames, name


def write_film(folder: Path, frames: list[np.ndarray], fps: float) -> None:
    """Writes the film, and six frames of it as one picture."""
    with atomic_write(folder / FILM) as file:
        file.write(mp4_bytes(frames, fps))
    chosen = [frames[place] for place in np.linspace(0, len(frames) - 1, _SHEET).round().astype(int)]
    sheet = np.concatenate([np.concatenate(chosen[row : row + 3], axis=1) for row in (0, 3)], axis=0)
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "PNG")
    with atomic_write(folder / POSTER) as file:
        file.write(content.getvalue())


def times_of(take: Take, film: FilmSettings) -> np.ndarray:
    """Seconds at which the frames are taken."""
    return np.arange(int(take.seconds * film.fps) + 1) / film.fps


def poses_between(poses: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Poses [..., B, 7] at places [...] between recorded ones [T, B, 7]: straight ways, shortest turns."""
    places = np.clip(places, 0, len(poses) - 1)
    low = np.minimum(places.astype(int), max(len(poses) - 2, 0))
    high = np.minimum(low + 1, len(poses) - 1)
    share = (places - low)[..., None, None]
    before, after = poses[low], poses[high].copy()
    opposite = (before[..., 3:] * after[..., 3:]).sum(-1, keepdims=True) < 0
    after[..., 3:] = np.where(opposite, -after[..., 3:], after[..., 3:])
    mixed = before + share * (after - before)
    mixed[..., 3:] /= np.linalg.norm(mixed[..., 3:], axis=-1, keepdims=True)
    return mixed


def view_of(take: Take, times: np.ndarray, film: FilmSettings) -> View:
    """The camera at some times."""
    shown = poses_between(take.poses, times * take.fps)
    sizes = np.array([asset.size_m for asset in take.assets]).reshape(-1, 3) / 2
    places = shown[..., :3]
    things = places[:, places.shape[1] - len(sizes) :]
    points = np.concatenate((places, things - sizes, things + sizes), axis=1)
    actor = places[:, 0] if take.bodies.shape[1] else places.mean(axis=1)
    return make_view(film.camera, points, actor, film.fps, film.width / film.height)


def _rendered(
    moments: np.ndarray, view: View, shown: list[Any], film: FilmSettings
) -> tuple[Iterator[tuple[np.ndarray, np.ndarray]], str]:
    """Pictures with depths, and the renderer's name."""
    if film.renderer in ("auto", "mujoco"):
        found = _offscreen(moments, view, film_xml(shown, film.width, film.height, FIELD_DEG), film)
        if found is not None:
            return iter(zip(*found, strict=True)), "mujoco"
        if film.renderer == "mujoco":
            raise UserError(
                f"renderer mujoco: no GL library works here (tried {', '.join(_backends())}); install libegl1 and "
                "libgl1-mesa-dri, or give --renderer tiny"
            )
    return _tiny(moments, view, shown, film), "tiny"


def _tiny(
    moments: np.ndarray, view: View, shown: list[Any], film: FilmSettings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    renderer = TinyRenderer(shown, film.width, film.height, FIELD_DEG)
    for bodies, eye, target in zip(moments, view.eyes, view.targets, strict=True):
        taken = [renderer.render(one, eye, target) for one in bodies]
        yield motion_blur(np.stack([picture for picture, _ in taken])), taken[len(taken) // 2][1]
    renderer.close()


def _backends() -> tuple[str, ...]:
    return (os.environ["MUJOCO_GL"],) if "MUJOCO_GL" in os.environ else _BACKENDS


def _offscreen(moments: np.ndarray, view: View, model: str, film: FilmSettings) -> tuple[np.ndarray, np.ndarray] | None:
    """Pictures [T, H, W, 3] and depths [T, H, W] by MuJoCo in a process of its own; None if no GL library works."""
    with tempfile.TemporaryDirectory() as scratch:
        task, pictures = Path(scratch) / "task.npz", Path(scratch) / "pictures.npz"
        size = np.array((film.width, film.height))
        np.savez(
            task,
            allow_pickle=False,
            **{"model": np.array(model), "poses": moments, "eyes": view.eyes, "targets": view.targets, "size": size},
        )
        for backend in _backends():
            try:
                subprocess.run(
                    [sys.executable, "-m", "jobs.scenes.offscreen", str(task), str(pictures)],
                    cwd=Path(__file__).parent.parent.parent,
                    env={**os.environ, "MUJOCO_GL": backend},
                    capture_output=True,
                    timeout=_TIMEOUT_S,
                    check=True,
                )
            except subprocess.SubprocessError:
                continue  # A library may fail or hang; the next one may work.
            with np.load(pictures) as content:
                return content["pictures"], content["depths"]
    return None


def _lettered(frame: np.ndarray, take: Take, time: float) -> np.ndarray:
    """The frame with the time, and for every humanoid the help that held it: a bar for the share of the limit."""
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture, "RGBA")
    scale = picture.height / 360
    font = ImageFont.load_default(round(11 * scale))
    limits = take.numbers["help_limits"]
    step = min(int(time * take.fps), len(take.wrench) - 1)
    lines: list[tuple[str, float | None]] = [(f"{time:4.1f} s", None)]
    for place, name in enumerate(take.numbers["actors"]):
        force, torque = np.linalg.norm(take.wrench[step, place].reshape(2, 3), axis=1)
        most_n, most_nm = limits["force_n"], limits["torque_nm"]
        text = f"{name}: held by {force:.0f} of {most_n:.0f} N, {torque:.0f} of {most_nm:.0f} N m"
        lines.append((text, float(force) / most_n if most_n else 0.0))
    top = picture.height - (8 + 16 * len(lines)) * scale
    draw.rectangle((0, top, picture.width, picture.height), fill=(20, 20, 20, 130))
    for number, (text, share) in enumerate(lines):
        y = top + (4 + 16 * number) * scale
        draw.text((8 * scale, y), text, fill=(245, 245, 245, 255), font=font)
        if share is not None:
            left, right = picture.width - 108 * scale, picture.width - 8 * scale
            high, low, used = y + 3 * scale, y + 11 * scale, left + share * (right - left)
            draw.rectangle((left, high, right, low), outline=(245, 245, 245, 255))
            draw.rectangle((left, high, used, low), fill=(225, 120, 60, 255))
    return np.asarray(picture)
