"""Turns captioned BVH files into clips of HumanML3D features, and reports what was done to them.

The up axis is found over all files together, because a single clip (of somebody lying, say) may not show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from motions.bvh import clips as bvh_clips
from motions.bvh.caption_table import CaptionedStretch
from motions.bvh.clips import Take
from motions.bvh.joints import load_mapping, map_joints
from motions.bvh.reader import Bvh, BvhError, read_bvh
from motions.bvh.settings import BvhSettings
from motions.data.folder_writer import FolderClip
from motions.skeleton.features import extract_features, retarget_uniform
from motions.skeleton.mirroring import mirror_caption, mirror_joints
from motions.skeleton.skeletons import HUMANML3D

MIN_FRAMES = 40
"""HumanML3D's shortest clip, 2 seconds in frames; data loaders skip shorter ones."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One file's 22 joints and its captioned stretches."""

    file: str
    """Path within the imported folder."""
    path: str
    """Full path, for messages."""
    joints: np.ndarray
    """[F, 22, 3] at HumanML3D's frame rate, upright, in metres."""
    stretches: tuple[tuple[CaptionedStretch, range], ...]
    """Captioned stretches with their frames of `joints`; a stretch's last frame only serves to compute velocities."""
    mapping: str
    """Report of the joints that were mapped, placed and left out."""
    unit: str
    frame_time: float
    """Frame time of the file, seconds."""
    first_time: float
    """Seconds from the file's first frame to that of `joints`; above 0 where the file starts with a rest pose."""


@dataclass(frozen=True, eq=False)
class Import:
    """All recordings of an import and the `up_axis` found for their files."""

    recordings: tuple[Recording, ...]
    up_axis: str


def read_recordings(
    folder: Path, stretches: Iterable[tuple[str, Sequence[CaptionedStretch]]], settings: BvhSettings
) -> Import:
    """Reads files of a folder, given by their paths within it, with the stretches of each that have captions.

    Raises BvhError naming the file if it is malformed, a joint is not found, a stretch lies outside the file or has too
    few frames, a given scale gives no human leg length, or the feet point backwards.
    """
    mapping = load_mapping(settings.mapping) if settings.mapping else None
    raw = []
    for file, rows in stretches:
        bvh = read_bvh(folder / file)
        joint_map = map_joints(bvh, mapping)
        joints = bvh_clips.sample_joints(bvh, joint_map, HUMANML3D.fps)
        frames = tuple((row, _frames(bvh, row, len(joints))) for row in rows)
        start = bvh_clips.first_time(bvh)
        raw.append(Recording(file, bvh.name, joints, frames, joint_map.report(), "", bvh.frame_time, start))
    up_axis = settings.up_axis
    if up_axis == "auto":
        up_axis = bvh_clips.find_up_axis([recording.joints for recording in raw])
    return Import(tuple(_in_metres(recording, up_axis, settings) for recording in raw), up_axis)


def make_clips(
    recordings: Iterable[Recording], splits: Mapping[str, str], settings: BvhSettings
) -> Iterator[FolderClip]:
    """The clips of all stretches; `splits` gives the split of each file.

    Stretches longer than `max_frames` become several clips with the same captions. Raises BvhError naming the file for
    joints that make no skeleton (a bone of zero length).
    """
    for recording in recordings:
        try:
            joints = retarget_uniform(recording.joints, HUMANML3D) if settings.retarget else recording.joints
            floor = float(joints[..., 1].min()) if settings.floor == "file" else None
            for stretch, frames in recording.stretches:
                for part in _parts(frames, settings.max_frames):
                    yield _clip(recording, stretch, part, joints[part], splits[recording.file], floor, settings)
        except ValueError as error:
            raise BvhError(f"{recording.path}: {error}") from error


def describe(imported: Import, clips: Sequence[FolderClip]) -> str:
    """What was mapped, placed and left out, the units and frame rates, and what the dataset holds."""
    lines = []
    for mapping, files in _grouped(imported.recordings):
        lines += [f"skeleton of {_some(files)}:", *(f"  {line}" for line in mapping.splitlines())]
    rates = sorted({f"{1.0 / recording.frame_time:.4g}" for recording in imported.recordings}, key=float)
    units = sorted({recording.unit for recording in imported.recordings})
    lines.append(f"up axis: {imported.up_axis}; unit: {', '.join(units)}")
    lines.append(f"frames per second: {', '.join(rates)}, resampled to {HUMANML3D.fps:g}")
    rest = [recording.file for recording in imported.recordings if recording.first_time > 0]
    if rest:
        lines.append(f"first frame left out, it is the rest pose: {_some(rest)}")
    num_stretches = sum(len(recording.stretches) for recording in imported.recordings)
    if len(clips) > num_stretches:
        lines.append(f"longer than max_frames, cut into parts: {num_stretches} stretches became {len(clips)} clips")
    for split in dict.fromkeys(clip.split for clip in clips):
        part = [clip for clip in clips if clip.split == split]
        captions = sum(len(clip.captions) for clip in part)
        frames = sum(len(clip.features) for clip in part)
        files = len({clip.source for clip in part})
        lines.append(
            f"{split}: {len(part)} clips of {files} files, {captions} captions, {frames / HUMANML3D.fps:.1f} s"
            + (", and their mirrored copies" if any(clip.mirrored for clip in part) else "")
        )
    return "\n".join(lines)


def _in_metres(recording: Recording, up_axis: str, settings: BvhSettings) -> Recording:
    joints = bvh_clips.turn_upright(recording.joints, up_axis)
    if settings.negate_x:
        joints = joints * np.array([-1.0, 1.0, 1.0])
    bvh_clips.check_sides(recording.path, joints)
    unit, metres = bvh_clips.find_unit(joints)
    if settings.scale is not None:
        bvh_clips.check_scale(recording.path, joints, settings.scale)
        unit, metres = "as given", settings.scale
    return replace(recording, joints=joints * metres, unit=f"{unit} ({metres:.4g} m)")


def _frames(bvh: Bvh, stretch: CaptionedStretch, num_frames: int) -> range:
    frames = bvh_clips.take_frames(bvh, Take(stretch.start, stretch.end), HUMANML3D.fps)
    numbers = range(*frames.indices(num_frames))
    if len(numbers) - 1 < MIN_FRAMES:
        raise BvhError(
            f"{bvh.name} (line {stretch.line} of the captions): the clip has {max(len(numbers) - 1, 0)} frames at "
            f"{HUMANML3D.fps:g} per second; {MIN_FRAMES} are the least"
        )
    return numbers


def _parts(frames: range, max_frames: int) -> list[slice]:
    """Equal parts with at most `max_frames` features; each part's last frame is the next one's first."""
    count = math.ceil((len(frames) - 1) / max_frames)
    edges = np.linspace(frames.start, frames.stop - 1, count + 1).round().astype(int).tolist()
    return [slice(start, end + 1) for start, end in pairwise(edges)]


def _clip(
    recording: Recording,
    stretch: CaptionedStretch,
    part: slice,
    joints: np.ndarray,
    split: str,
    floor: float | None,
    settings: BvhSettings,
) -> FolderClip:
    mirrored = None
    if settings.mirror:
        captions = tuple(mirror_caption(caption) for caption in stretch.captions)
        mirrored = (_features(mirror_joints(joints, HUMANML3D), floor, settings), captions)
    return FolderClip(
        features=_features(joints, floor, settings),
        captions=stretch.captions,
        split=split,
        source=recording.file,
        start=recording.first_time + part.start / HUMANML3D.fps,
        mirrored=mirrored,
    )


def _features(joints: np.ndarray, floor: float | None, settings: BvhSettings) -> np.ndarray:
    return extract_features(
        joints, HUMANML3D, retarget=False, floor=floor, continuous_heading=not settings.official_heading
    )


def _grouped(recordings: Sequence[Recording]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for recording in recordings:
        groups.setdefault(recording.mapping, []).append(recording.file)
    return list(groups.items())


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
