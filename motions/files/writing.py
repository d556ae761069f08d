"""Writes motions as files of the chosen kinds into a folder; nothing is ever overwritten."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.drawing import draw_frames, save_gif, video_frames
from motions.files.bvh import bvh_text
from motions.files.glb import glb_bytes
from motions.files.motion import Motion
from motions.files.mp4 import mp4_bytes
from motions.files.settings import Format
from motions.files.smpl import smpl_distance, smpl_poses

_MOST_GIF_FPS = 50.0
"""Viewers slow down GIFs with shorter delays."""
_VIDEO_SIZE = (640, 480)
_FAR_M = 3.0
"""The camera of an animation follows whoever goes farther than this from the start."""
ENDINGS: dict[Format, str] = {"gif": ".gif", "mp4": ".mp4", "bvh": ".bvh", "npz": "_smpl_approximate.npz"}
"""What files of one motion are called, behind its name."""
PAGE = "index.html"


def planned_files(motions: Sequence[Motion], formats: Sequence[Format]) -> list[str]:
    """Names of the files that motions become, in the order of the formats."""
    names: list[str] = []
    for kind in formats:
        if kind == "html":
            names.append(PAGE)
        elif kind == "glb":
            names += [name for name, _ in _animated(motions)]
        else:
            names += [f"{motion.name}{ENDINGS[kind]}" for motion in motions]
    return names


def check_free(folder: Path, names: Sequence[str]) -> None:
    """Raises UserError where a file exists already or two motions have one name."""
    for name in names:
        if (folder / name).exists():
            raise UserError(f"{folder / name} exists, and nothing is overwritten; give another folder")
    if len(set(names)) < len(names):
        raise UserError(f"two motions would be {next(name for name in names if names.count(name) > 1)}")


@dataclass(frozen=True, slots=True)
class Written:
    """The files of one format."""

    kind: Format
    paths: tuple[Path, ...]
    seconds: float

    def __str__(self) -> str:
        """Where they are, their size, and how long they took."""
        size = sum(path.stat().st_size for path in self.paths) / 1e6
        many = f"{len(self.paths)} files in {self.paths[0].parent}"
        return f"{self.kind}: {self.paths[0] if len(self.paths) == 1 else many}, {size:.2f} MB, {self.seconds:.1f} s"


def write_motions(
    folder: Path, motions: Sequence[Motion], formats: Sequence[Format], page: Callable[[], str]
) -> list[Written]:
    """Writes the files into an existing folder and returns what was written, format by format.

    Args:
        page: makes the HTML page, which is the viewer's.

    Raises:
        UserError: a file exists.
    """
    check_free(folder, planned_files(motions, formats))
    written = []
    for kind in formats:
        start = time.perf_counter()
        if kind == "html":
            _save(folder / PAGE, page().encode())
        elif kind == "glb":
            for name, group in _animated(motions):
                _save(folder / name, glb_bytes(group))
        else:
            for motion in motions:
                _WRITERS[kind](motion, folder / f"{motion.name}{ENDINGS[kind]}")
        paths = tuple(folder / name for name in planned_files(motions, [kind]))
        written.append(Written(kind, paths, time.perf_counter() - start))
    return written


def unique_names(motions: Sequence[Motion]) -> list[Motion]:
    """The motions, with a number behind names that were taken before."""
    taken: set[str] = set()
    renamed = []
    for motion in motions:
        name, number = motion.name, 1
        while name in taken:
            number += 1
            name = f"{motion.name}_{number}"
        taken.add(name)
        renamed.append(replace(motion, name=name))
    return renamed


def smpl_note(motions: Sequence[Motion]) -> str:
    """How far the approximate SMPL bodies are from the motions, as a line for a person."""
    distances = [smpl_distance(motion, smpl_poses(motion)) for motion in motions]
    return (
        "the SMPL parameters (npz) are approximate: joints of SMPL's mean body lie "
        f"{100 * float(np.mean(distances)):.1f} cm from the motion's on average, {100 * max(distances):.1f} cm in the "
        "worst motion; the shape is the mean one, twists of limbs are guessed"
    )


def _animated(motions: Sequence[Motion]) -> list[tuple[str, list[Motion]]]:
    """Names and motions of the GLB files: one for each skeleton."""
    ordered = sorted(motions, key=lambda motion: motion.skeleton.name)
    groups = {name: list(group) for name, group in groupby(ordered, key=lambda motion: motion.skeleton.name)}
    return [("motions.glb" if len(groups) == 1 else f"motions_{name}.glb", group) for name, group in groups.items()]


def _save(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _goes_far(motion: Motion) -> bool:
    """Whether a camera that shows the whole path would show a small figure."""
    root = motion.joints[:, 0, [0, 2]]
    return bool((np.linalg.norm(root - root[0], axis=-1) > _FAR_M).any())


def _write_gif(motion: Motion, path: Path) -> None:
    step = math.ceil(motion.fps / _MOST_GIF_FPS)
    joints = motion.joints[::step] / motion.skeleton.metres_per_unit
    pictures = draw_frames(joints, motion.skeleton, captions=motion.captions[::step], follow=_goes_far(motion))
    save_gif(pictures, path, motion.fps / step)


def _write_mp4(motion: Motion, path: Path) -> None:
    joints = motion.joints / motion.skeleton.metres_per_unit
    pictures = video_frames(joints, motion.skeleton, motion.captions, _VIDEO_SIZE, follow=_goes_far(motion))
    _save(path, mp4_bytes(map(np.asarray, pictures), motion.fps))


def _write_bvh(motion: Motion, path: Path) -> None:
    _save(path, bvh_text(motion).encode())


def _write_npz(motion: Motion, path: Path) -> None:
    with atomic_write(path) as file:
        np.savez_compressed(file, allow_pickle=False, **smpl_poses(motion).arrays())


_WRITERS: dict[Format, Callable[[Motion, Path], None]] = {
    "gif": _write_gif,
    "mp4": _write_mp4,
    "bvh": _write_bvh,
    "npz": _write_npz,
}
"""How a file of one motion is written."""
