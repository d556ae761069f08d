"""The clips that a character imitates: built-in ones, and motions of somebody's own from any file that kinetune reads.

    walk                                 a built-in clip
    dance.txt                            a DeepMimic motion file
    dance.bvh, features.npy, amass.npz   the motion of a person, fitted to the humanoid and put on the floor
    results.npz#sample00_rep01           one of several motions of a file or a folder
    results.npz#best                     of several motions the one in which feet slide least

What is fitted does not repeat. See `motions.humanoid.fit` for what joint positions do not say about rotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from envs.body.frames import rotations_to_z_up, to_z_up
from envs.body.lowest_points import lowest_points
from envs.settings import BODY_NAMES
from envs.task.falls import FEET
from motions.base.errors import UserError
from motions.bvh.plausibility import findings
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.humanoid.fit import fit_clip
from motions.humanoid.kinematics import forward_kinematics
from motions.humanoid.mocap import CLIP_NAMES, MocapClip, Pose, load_clip, read_clip
from motions.humanoid.plausibility import check_clip
from motions.humanoid.retarget import leg_scale, retarget
from motions.skeleton.figures import Figures, measure
from motions.skeleton.skeletons import HUMANML3D

BEST = "best"
FLOOR_QUANTILE = 0.05
"""The floor is at this quantile, over the frames, of the height of the lowest point."""
TOUCHING_M = 0.02
"""A body whose lowest point is lower than this touches the floor."""
FULL_TURN_DEG = 360.0

FileVersion = tuple[int, int] | None
"""Time of the last change, nanoseconds, and size of a file; None for what is no file."""


@dataclass(frozen=True, eq=False)
class OwnMotion:
    """A motion from a file, on the humanoid."""

    name: str
    """As it was asked for."""
    clip: MocapClip
    heights: np.ndarray
    """Height [F, 15] of the lowest point of each body of `BODY_NAMES` above the floor, in every key frame."""
    source: Motion | None = None
    """As it was read; None for a DeepMimic motion file, which holds the humanoid's own rotations."""
    notes: tuple[str, ...] = ()
    """What is peculiar about the file, a line each, with options of `jobs.import_motion`."""
    raised_m: float = 0.0
    """By how much it was raised to the floor."""
    misfit_m: float = 0.0
    """Mean distance of the 22 joints, moved back from the humanoid to the person, from those of the file."""

    @property
    def depth_m(self) -> float:
        """How far the lowest point is below the floor."""
        return max(0.0, -float(self.heights.min()))

    @property
    def on_the_floor(self) -> tuple[str, ...]:
        """Bodies other than the feet that touch the floor at some time."""
        lowest = self.heights.min(axis=0).tolist()
        names = (name for name, height in zip(BODY_NAMES, lowest, strict=True) if height < TOUCHING_M)
        return tuple(name for name in names if name not in FEET)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.clip.duration:.2f} s, {self.clip.num_frames} key frames"]
        if self.source is not None:
            lines.append(f"  as read: {_words(_figures(self.source))}")
            lines.append(
                f"  on the humanoid: joints {100 * self.misfit_m:.1f} cm from the file's, raised by "
                f"{100 * self.raised_m:.1f} cm to the floor, at most {100 * self.depth_m:.1f} cm in it"
            )
        if self.on_the_floor:
            lines.append(
                f"  also touch the floor: {', '.join(self.on_the_floor)}; that is a fall unless --ground_bodies "
                "names them"
            )
        return "\n".join([*lines, *(f"  as jobs.import_motion says: {note}" for note in self.notes)])


def open_clip(name: str, seam_blend_s: float = 0.0) -> MocapClip:
    """A clip by name or path, its seam blended over `seam_blend_s` (at most a quarter of the cycle).

    Raises:
        ClipError: it is unknown or malformed, or a file's motion is implausible.
        UserError: for the reasons of `own_motion`.
    """
    clip = own_motion(name).clip if is_file(name) else load_clip(name)
    seconds = min(seam_blend_s, clip.duration / 4)
    return clip.with_blended_seam(seconds) if clip.cyclic and seconds > 0.0 else clip


def is_file(name: str) -> bool:
    """Whether a name means a file or a folder, not a built-in clip."""
    return name not in CLIP_NAMES and (bool(Path(_split(name)[0]).suffix) or "/" in name or "#" in name)


def file_version(name: str) -> FileVersion:
    """Tells whether the file that a name means has changed."""
    path = Path(_split(name)[0])
    if not is_file(name) or not path.exists():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def own_motion(name: str) -> OwnMotion:
    """The motion that a path means, with `#NAME` behind it where there are several; a file is read once per process.

    Raises:
        ClipError: a DeepMimic motion file is malformed, or the motion implausible.
        UserError: it is no motion file, has several motions and none is named, or another skeleton than HumanML3D's.
    """
    return _read(name, file_version(name))


@lru_cache(maxsize=16)
def _read(name: str, version: FileVersion) -> OwnMotion:
    place, wanted = _split(name)
    path = Path(place)
    if path.suffix.lower() == ".txt":
        if wanted is not None:
            raise UserError(f"motion {name}: a DeepMimic motion file holds one motion; leave out #{wanted}")
        clip = read_clip(path)
        check_clip(clip, name)
        return OwnMotion(name, clip, _heights(clip))
    reader = MotionReader()
    motion = _chosen(reader.read(path), wanted, place)
    if motion.skeleton != HUMANML3D:
        raise UserError(
            f"motion {name}: its skeleton is {motion.skeleton.name}; legal: {HUMANML3D.name}, as of BVH files, SMPL "
            "parameters and generated motions, or a DeepMimic motion file"
        )
    # Near the floor, soles are level: where it is has to be known first.
    low = float(np.quantile(motion.joints[..., 1].min(axis=1), FLOOR_QUANTILE))
    fitted = fit_clip(motion.joints - np.array([0.0, low, 0.0]), motion.fps, motion.name)
    back = retarget(Pose(fitted.root_positions, fitted.ball_rotations, fitted.hinge_angles)).numpy()
    clip, heights, raised = _on_floor(fitted)
    check_clip(clip, name)
    # Of a BVH file they are among the reader's notes.
    found = () if path.suffix.lower() == ".bvh" else tuple(finding.text for finding in findings(_figures(motion)))
    misfit = float(np.linalg.norm(back + np.array([0.0, low, 0.0]) - motion.joints, axis=-1).mean())
    return OwnMotion(name, clip, heights, motion, (*reader.notes, *found), raised - low / leg_scale(), misfit)


def _split(name: str) -> tuple[str, str | None]:
    """Path and name of the motion behind `#`."""
    path, mark, motion = name.rpartition("#")
    return (path, motion) if mark else (name, None)


def _chosen(motions: Sequence[Motion], wanted: str | None, path: str) -> Motion:
    if wanted == BEST:
        return min(motions, key=lambda motion: _figures(motion).slide_mps)
    if wanted is None and len(motions) == 1:
        return motions[0]
    named = [motion for motion in motions if motion.name == wanted]
    if not named:
        names = ", ".join(motion.name for motion in motions[:12]) + (", ..." if len(motions) > 12 else "")
        said = f"holds {len(motions)} motions" if wanted is None else f"has no motion {wanted}"
        raise UserError(
            f"motion {path} {said}; name one of them, as in {path}#{motions[0].name}: {names}; or take {path}#{BEST}, "
            "the one in which feet slide least"
        )
    return named[0]


def _words(figures: Figures) -> str:
    """The figures that a reader can judge without the file."""
    gait = figures.gait
    steps = f", steps of {gait.step_m:.2f} m in {gait.step_s:.2f} s" if gait else ""
    return (
        f"{figures.seconds:.2f} s at {figures.source_fps:.4g} frames per second, pelvis "
        f"{figures.pelvis_height_m:.2f} m high, path {figures.path_m:.2f} m, {figures.speed_mps:.2f} m/s (top "
        f"{figures.top_speed_mps:.1f}), feet slide {figures.slide_mps:.2f} m/s{steps}"
    )


def _figures(motion: Motion) -> Figures:
    """Figures of a motion of HumanML3D's joints; they are defined at its frame rate."""
    frames = np.arange((len(motion.joints) - 1) / motion.fps * HUMANML3D.fps + 1e-6)
    near = np.round(frames * motion.fps / HUMANML3D.fps).astype(np.int64).clip(0, len(motion.joints) - 1)
    joints = motion.joints[near] if motion.fps != HUMANML3D.fps else motion.joints
    return measure(joints.astype(np.float64), source_fps=motion.fps, rotation_degrees=FULL_TURN_DEG)


def _on_floor(clip: MocapClip) -> tuple[MocapClip, np.ndarray, float]:
    """A clip, raised or lowered so that its lowest points are on the floor; the heights [F, 15] of its bodies' lowest
    points then, and by how much it was raised."""
    heights = _heights(clip)
    shift = -float(np.quantile(heights.min(axis=1), FLOOR_QUANTILE))
    raised = clip.root_positions + clip.root_positions.new_tensor([0.0, shift, 0.0])
    return replace(clip, root_positions=raised), heights + shift, shift


def _heights(clip: MocapClip) -> np.ndarray:
    """Height [F, 15] of every body's lowest point above the floor at 0 in the key frames."""
    positions, turns = forward_kinematics(clip.root_positions, clip.ball_rotations, clip.hinge_angles)
    return lowest_points(to_z_up(positions.numpy()), rotations_to_z_up(turns.numpy()))
