"""Converts BVH recordings to clips of HumanML3D's 22 joints: resampled, upright, in metres.

A BVH file states neither its up axis (`motions.bvh.up_axis`) nor its unit, which is taken as the common one that gives
legs of human length. Both are reported and can be given instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from motions.bvh.caption_table import CaptionedStretch
from motions.bvh.hierarchy import BvhError
from motions.bvh.joints import JointMap
from motions.bvh.reader import Bvh
from motions.bvh.rest_pose import MotionRange
from motions.bvh.settings import ShortClips
from motions.skeleton.skeletons import HUMANML3D

MIN_FRAMES = 40
"""HumanML3D's shortest clip, 2 seconds in frames; data loaders skip shorter ones."""

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254, "CMU units": 0.056444}
"""Metres per unit of the units that BVH files commonly use; the CMU database's unit is 1 / 0.45 inches."""

_LEG_METRES = (0.55, 1.15)
"""Shortest and longest leg (hip to ankle, metres) accepted as human; within it no two of the units can be confused."""
_NEIGHBOURS = 10
"""Stretches that are at most this many frames apart are neighbours."""
_HUMAN_LEG = float(np.abs(HUMANML3D.target_offsets[[4, 5, 7, 8]]).sum() / 2)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A captioned stretch of a recording."""

    captions: tuple[str, ...]
    frames: range
    """Frames of the joints; the last one only serves to compute velocities. Those behind the end of `available` repeat
    the last pose there is."""
    available: int
    """End of the frames that the stretch itself has."""
    line: int
    """Line of the caption table."""
    mirrored: tuple[bool, ...]
    """For each caption, whether the mirrored copy of the clip has it, too."""


def sample_joints(bvh: Bvh, joint_map: JointMap, fps: float, motion: MotionRange) -> np.ndarray:
    """Joints [F, 22, 3] of a file's motion, resampled to `fps`, in the file's units and axes."""
    start, end = (frame * bvh.frame_time for frame in (motion.first, motion.last))
    # Frame times in files are rounded: 360 frames of .0083333 s are 3 s.
    count = int(np.floor((end - start) * fps + 1e-2)) + 1
    return joint_map.apply(bvh.positions(start + np.arange(count) / fps))


def find_stretches(
    bvh: Bvh, rows: Sequence[CaptionedStretch], num_frames: int, motion: MotionRange, short: ShortClips
) -> tuple[tuple[Stretch, ...], list[str]]:
    """The frames that captions describe, of `num_frames` joints, and what is wrong with the others, one line each.

    Args:
        short: what becomes of a stretch below `MIN_FRAMES`: `pad` holds its last pose, `join` joins it with a
            neighbour in the same file ("a, then b").
    """
    stretches, problems = [], []
    for row in rows:
        try:
            frames = range(*_take_frames(bvh, row, motion).indices(num_frames))
        except BvhError as error:
            problems.append(str(error))
            continue
        stretches.append(Stretch(row.captions, frames, frames.stop, row.line, row.mirrored))
    if short == "join":
        stretches = _joined(stretches)
    found = []
    for stretch in stretches:
        count = max(len(stretch.frames) - 1, 0)
        if count >= MIN_FRAMES:
            found.append(stretch)
        elif short == "pad" and count > 0:
            longer = range(stretch.frames.start, stretch.frames.start + MIN_FRAMES + 1)
            found.append(replace(stretch, frames=longer))
        else:
            hint = {
                "refuse": "--short_clips pads or joins it",
                "pad": "nothing to hold",
                "join": "no neighbour is near",
            }
            problems.append(
                f"{bvh.name} (line {stretch.line} of the captions): the clip has {count} frames at "
                f"{HUMANML3D.fps:g} per second; {MIN_FRAMES} are the least ({hint[short]})"
            )
    return tuple(found), problems


def parts(stretch: Stretch, max_frames: int) -> list[slice]:
    """Equal parts of a stretch with at most `max_frames` features; each part's last frame is the next one's first."""
    count = math.ceil((len(stretch.frames) - 1) / max_frames)
    edges = np.linspace(stretch.frames.start, stretch.frames.stop - 1, count + 1).round().astype(int).tolist()
    return [slice(start, end + 1) for start, end in pairwise(edges)]


def cut(joints: np.ndarray, part: slice, available: int) -> np.ndarray:
    """Joints [F, 22, 3] of a part; from the frame `available` on, the last pose before it is held."""
    return joints[np.minimum(np.arange(part.start, part.stop), available - 1)]


def _take_frames(bvh: Bvh, row: CaptionedStretch, motion: MotionRange) -> slice:
    begin, finish = (frame * bvh.frame_time for frame in (motion.first, motion.last))
    start = begin if row.start is None else row.start
    end = finish if row.end is None else row.end
    # Times in a table are rounded to what a person types.
    if not 0.0 <= start < end <= bvh.duration + max(bvh.frame_time, 0.05):
        raise BvhError(
            f"{bvh.name}: {start:g} to {end:g} s is no stretch of this file, which is {bvh.duration:.2f} s long"
        )
    first, last = (round((time - begin) * HUMANML3D.fps) for time in (start, end))
    return slice(max(first, 0), max(last, -1) + 1)


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Each short stretch joined with the one that follows it, or else with the one before it."""
    ordered = sorted(stretches, key=lambda stretch: (stretch.frames.start, stretch.line))
    joined: list[Stretch] = []
    for stretch in ordered:
        before = joined[-1] if joined else None
        near = before is not None and abs(stretch.frames.start - before.frames.stop) <= _NEIGHBOURS
        if before is not None and near and min(len(before.frames), len(stretch.frames)) - 1 < MIN_FRAMES:
            joined[-1] = _join(before, stretch)
        else:
            joined.append(stretch)
    return joined


def _join(first: Stretch, second: Stretch) -> Stretch:
    number = max(len(first.captions), len(second.captions))
    pairs = [(index % len(first.captions), index % len(second.captions)) for index in range(number)]
    return Stretch(
        tuple(f"{first.captions[one]}, then {second.captions[other]}" for one, other in pairs),
        range(first.frames.start, second.frames.stop),
        second.available,
        first.line,
        tuple(first.mirrored[one] and second.mirrored[other] for one, other in pairs),
    )


def find_unit(name: str, joints: np.ndarray) -> tuple[str, float]:
    """Unit and metres per unit of a clip [F, 22, 3], by the length of its legs; `name` is the file's.

    Where no common unit gives legs of human length, the clip is scaled to HumanML3D's leg length. Raises BvhError for
    legs without length.
    """
    leg = leg_length(joints)
    if leg == 0.0:
        raise BvhError(f"{name}: hips, knees and ankles are in one place: the file's OFFSETs are missing")
    for unit, metres in UNITS.items():
        if _LEG_METRES[0] <= leg * metres <= _LEG_METRES[1]:
            return unit, metres
    return "unknown, scaled to HumanML3D's legs", _HUMAN_LEG / leg


def check_scale(name: str, joints: np.ndarray, metres_per_unit: float) -> None:
    """Raises BvhError where a scale given by the user gives legs of no human length; `name` is the file's."""
    leg = leg_length(joints) * metres_per_unit
    if not 0.5 * _LEG_METRES[0] <= leg <= 2.0 * _LEG_METRES[1]:
        unit, metres = find_unit(name, joints)
        raise BvhError(
            f"{name}: scale={metres_per_unit:g} makes legs {leg:.3g} m long; by their length the unit is {unit} "
            f"(scale={metres:.4g})"
        )


def leg_length(joints: np.ndarray) -> float:
    """Mean length of the two legs, hip to knee to ankle, in the first frame of a clip [F, 22, 3], in its units."""
    parents = HUMANML3D.parents
    bones = [HUMANML3D.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    return float(sum(np.linalg.norm(joints[0, bone] - joints[0, parents[bone]]) for bone in bones) / 2)
