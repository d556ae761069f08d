"""Turns captioned BVH files into clips of HumanML3D features, and measures what became of each file.

The up axis of a file whose own cues disagree is that of other files of its rig, so no file is finished before all are
read; until then their joints lie in a folder, and memory does not grow with their number. What is wrong with a file or
a stretch is collected, so that one pass finds all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.bvh import clips as bvh_clips
from motions.bvh import plausibility, up_axis
from motions.bvh.caption_table import CaptionedStretch
from motions.bvh.clips import Stretch
from motions.bvh.hierarchy import BvhError
from motions.bvh.joints import load_mapping, map_joints
from motions.bvh.plausibility import Finding
from motions.bvh.reader import Bvh, read_bvh
from motions.bvh.rest_pose import MotionRange, has_motion, motion_range
from motions.bvh.settings import BvhSettings
from motions.bvh.up_axis import UpCues
from motions.data.folder_writer import FolderClip
from motions.skeleton.features import check_joints, extract_features, retarget_uniform
from motions.skeleton.figures import Figures, measure
from motions.skeleton.mirroring import mirror_caption, mirror_joints
from motions.skeleton.skeletons import HUMANML3D


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a file's coordinates become upright metres."""

    up_axis: str
    negate_x: bool
    unit: str
    """Name of the file's unit."""
    metres: float
    """Metres per unit."""
    root_ratio: float = 1.0
    """How many times larger the unit of the root's translation is."""

    def apply(self, joints: np.ndarray) -> np.ndarray:
        """Joints [F, 22, 3] in the file's axes and units as upright ones in metres."""
        return _upright(joints, self.up_axis, self.negate_x, self.root_ratio) * self.metres


@dataclass(frozen=True, eq=False)
class Recording:
    """One file: where its joints lie, its captioned stretches, and what is to be said about it."""

    file: str
    """Path within the imported folder."""
    path: str
    """Full path, for messages."""
    spool: Path
    """NumPy file of the joints [F, 22, 3], at HumanML3D's frame rate, in the file's axes and units."""
    stretches: tuple[Stretch, ...]
    mapping: str
    """Report of the joints that were mapped, placed and left out."""
    fps: float
    """Frames per second of the file."""
    first_time: float
    """Seconds from the file's first frame to that of the joints; above 0 where the file starts with a rest pose."""
    rotation_degrees: float
    """Largest absolute number in its rotation channels."""
    cues: UpCues
    notes: tuple[str, ...]
    """What was peculiar about the file and what was left out of it."""
    conversion: Conversion | None = None
    """None until all files are read."""
    figures: Figures | None = None
    warnings: tuple[str, ...] = ()

    def joints(self) -> np.ndarray:
        """Joints [F, 22, 3], upright, in metres."""
        assert self.conversion is not None
        return self.conversion.apply(np.load(self.spool))


@dataclass(frozen=True, eq=False)
class Import:
    """All recordings of an import that can be used, and what is wrong with the others."""

    recordings: tuple[Recording, ...]
    problems: tuple[str, ...]
    """One line for each file or stretch that cannot be used."""
    num_bad_files: int
    """Files of which nothing can be used."""


def read_recordings(
    folder: Path,
    stretches: Iterable[tuple[str, Sequence[CaptionedStretch]]],
    settings: BvhSettings,
    spool: Path,
) -> Import:
    """Reads and measures files of a folder, given by their paths within it, with the stretches of each that have
    captions.

    A file is a problem if it is malformed, a joint is not found, it has several people, its up axis is not clear, a
    given scale gives no human leg length, its joints make no skeleton, or its figures are not those of a human motion;
    a stretch if it lies outside the file or is too short.

    Args:
        spool: an existing folder for the joints of all files, to be removed when the import is done.

    Raises:
        UserError: the mapping cannot be read, or no file has the joint `settings.root`.
    """
    mapping = load_mapping(settings.mapping) if settings.mapping else {}
    raw: list[Recording] = []
    problems: list[str] = []
    num_files, root_found = 0, False
    for number, (file, rows) in enumerate(stretches):
        num_files += 1
        try:
            bvh = read_bvh(folder / file)
            root_found |= settings.root in bvh.joint_names
            recording, bad = _read(bvh, file, rows, settings, mapping, spool / f"{number}.npy")
        except BvhError as error:
            problems.append(str(error))
            continue
        problems += bad
        if recording.stretches:
            raw.append(recording)
    if settings.root is not None and num_files and not root_found:
        raise UserError(f"root {settings.root}: no file in {folder} has a joint of this name")
    axes = up_axis.settle([recording.cues for recording in raw])
    recordings = []
    for recording, axis in zip(raw, axes, strict=True):
        try:
            recordings.append(_finish(recording, axis, settings))
        except BvhError as error:
            problems.append(str(error))
    return Import(tuple(recordings), tuple(problems), num_files - len(recordings))


def make_clips(
    recordings: Iterable[Recording], splits: Mapping[str, str], settings: BvhSettings
) -> Iterator[FolderClip]:
    """The clips of all stretches, one after the other; `splits` gives the split of each file.

    Stretches longer than `max_frames` become several clips with the same captions.
    """
    for recording in recordings:
        joints = recording.joints()
        joints = retarget_uniform(joints, HUMANML3D) if settings.retarget else joints
        floor = float(joints[..., 1].min()) if settings.floor == "file" else None
        for stretch in recording.stretches:
            for part in bvh_clips.parts(stretch, settings.max_frames):
                yield _clip(recording, stretch, part, joints, splits[recording.file], floor, settings)


def _read(
    bvh: Bvh,
    file: str,
    rows: Sequence[CaptionedStretch],
    settings: BvhSettings,
    mapping: Mapping[str, str | None],
    spool: Path,
) -> tuple[Recording, list[str]]:
    """A file's recording before its axes are known, and what is wrong with its stretches."""
    if settings.fps is not None:
        bvh = replace(bvh, frame_time=1.0 / settings.fps)
    elif (fault := plausibility.frame_rate_fault(bvh.frame_time)) is not None:
        raise BvhError(f"{bvh.name}: {fault}")
    if settings.rotation_unit == "radians":
        bvh = bvh.with_radians()
    joint_map = map_joints(bvh, mapping, settings.root)
    motion = motion_range(bvh, joint_map)
    joints = bvh_clips.sample_joints(bvh, joint_map, HUMANML3D.fps, motion)
    found, problems = bvh_clips.find_stretches(bvh, rows, len(joints), motion, settings.short_clips)
    if found and not has_motion(bvh, joint_map):
        raise BvhError(f"{bvh.name}: no joint is ever rotated: it shows the rest pose and no motion")
    np.save(spool, joints)
    recording = Recording(
        file=file,
        path=bvh.name,
        spool=spool,
        stretches=found,
        mapping=joint_map.report(),
        fps=1.0 / bvh.frame_time,
        first_time=motion.first * bvh.frame_time,
        rotation_degrees=bvh.largest_rotation(),
        cues=up_axis.up_cues(bvh, joint_map, joints),
        notes=(*bvh.notes, *_left_out(bvh, motion)),
    )
    return recording, problems


def _finish(recording: Recording, axis: tuple[str | None, bool], settings: BvhSettings) -> Recording:
    """A recording with its conversion, figures and warnings. Raises BvhError for one that is refused."""
    found: list[Finding] = []
    up, by_others = axis
    if settings.up_axis != "auto":
        up = settings.up_axis
    elif up is None:
        raise BvhError(
            f"{recording.path}: which axis is up is not clear: {recording.cues}; --up_axis gives the axis of all files"
        )
    elif by_others:
        found.append(Finding("up_axis", False, f"{up} is up as in other files of its rig; alone: {recording.cues}"))
    raw = np.load(recording.spool)
    joints = _upright(raw, up, settings.negate_x)
    unit, metres = bvh_clips.find_unit(recording.path, joints)
    if settings.scale is not None:
        bvh_clips.check_scale(recording.path, joints, settings.scale)
        unit, metres = "as given", settings.scale
    conversion = Conversion(up, settings.negate_x, unit, metres)
    if (misfit := plausibility.root_unit_misfit(joints * metres)) is not None:
        ratio, text = misfit
        conversion = replace(conversion, root_ratio=ratio)
        found.append(Finding("root_unit", False, text))
    joints = conversion.apply(raw)
    try:
        check_joints(joints, HUMANML3D)
    except UserError as error:
        raise BvhError(f"{recording.path}: {error}") from error
    # What no caption describes is not converted, so nothing in it matters.
    first = min(stretch.frames.start for stretch in recording.stretches)
    last = max(stretch.available for stretch in recording.stretches)
    figures = measure(
        joints[first:last],
        source_fps=recording.fps,
        rotation_degrees=recording.rotation_degrees,
        start_s=recording.first_time + first / HUMANML3D.fps,
    )
    for finding in plausibility.findings(figures):
        if finding.check == "rotations" and settings.rotation_unit != "auto":
            continue
        found.append(finding)
    refused = [finding for finding in found if finding.refuses and finding.check not in settings.accept]
    if refused:
        texts = "; ".join(f"{finding.text} [{finding.check}]" for finding in refused)
        raise BvhError(f"{recording.path}: {texts}")
    warnings = tuple(f"{finding.text} [{finding.check}]" for finding in found)
    return replace(recording, conversion=conversion, figures=figures, warnings=warnings)


def _upright(joints: np.ndarray, up: str, negate_x: bool, root_ratio: float = 1.0) -> np.ndarray:
    """Joints [F, 22, 3] turned upright, with the root's translation times `root_ratio`."""
    joints = up_axis.turn_upright(joints, up)
    if negate_x:
        joints = joints * np.array([-1.0, 1.0, 1.0])
    return joints if root_ratio == 1.0 else joints + joints[:, :1] * (root_ratio - 1.0)


def _left_out(bvh: Bvh, motion: MotionRange) -> Iterator[str]:
    for count, place in ((motion.first, "first"), (bvh.num_frames - 1 - motion.last, "last")):
        if count:
            frames = f"{place} frame" if count == 1 else f"{place} {count} frames"
            yield f"{frames} left out, a rest pose ({count * bvh.frame_time:.2f} s)"


def _clip(
    recording: Recording,
    stretch: Stretch,
    part: slice,
    joints: np.ndarray,
    split: str,
    floor: float | None,
    settings: BvhSettings,
) -> FolderClip:
    piece = bvh_clips.cut(joints, part, stretch.available)
    mirrored = None
    if settings.mirror and any(stretch.mirrored):
        captions = tuple(mirror_caption(caption) for caption in itertools.compress(stretch.captions, stretch.mirrored))
        mirrored = (_features(mirror_joints(piece, HUMANML3D), floor, settings), captions)
    return FolderClip(
        features=_features(piece, floor, settings),
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
