"""Reads motions of every kind of file that kinetune reads or writes.

.bvh   recordings, by the same rules as the import (motions.bvh), at HumanML3D's frame rate, on the floor
.npy   features [T, 263] or [T, 251] of HumanML3D or KIT, or joints [T, J, 3] of 22, 21 or 18 points
.pth   rotations of SMPL's joints, as MotionCritic and MDM on HumanAct12 have them (also .pt, and .npy [25, 6, T])
.npz   `results.npz` of jobs.generate, samples of a run, imitations of a character, and SMPL parameters (AMASS)
.txt   clips of the DeepMimic humanoid

A folder gives the motions of the run, the results or the dataset that it is, or else all its motion files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from motions.base.errors import UserError
from motions.base.foreign_files import foreign_kind, read_text
from motions.base.safe_files import read_array_file, read_npy, read_tensor_file
from motions.bvh.caption_table import CaptionedStretch
from motions.bvh.importer import read_recordings
from motions.bvh.plausibility import Check
from motions.bvh.settings import BvhFileSettings, BvhSettings
from motions.data.prompts import load_prompts
from motions.files.motion import Motion, file_name
from motions.files.smpl import read_smpl
from motions.files.smpl_rotations import are_rotations, read_rotations
from motions.humanoid.mocap import read_clip
from motions.humanoid.points import POINT_NAMES, humanoid_skeleton, pose_points
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton

_CLIP_FPS = 30.0
"""Clips of the humanoid have key frames at uneven times."""
_METRES_BELOW = 50.0
"""No joint in metres has a coordinate this large, and every motion in KIT's units has one."""
_VECTORS = "new_joint_vecs"
_STATISTICS = ("Mean.npy", "Std.npy")


@dataclass(slots=True)
class MotionReader:
    """Reads files and folders, one after the other."""

    files: BvhFileSettings = field(default_factory=BvhFileSettings)
    """How BVH files are read, and the frames per second of all files, instead of what they say or their kind has."""
    max_motions: int = 1000
    """Largest number of motions from one folder."""
    notes: list[str] = field(default_factory=list)
    """What was peculiar, and which files of a folder were left out, one line each."""

    def read(self, path: Path) -> list[Motion]:
        """The motions of a file or a folder.

        Raises:
            UserError: naming the file and what is wrong with it; there is none, or no motion in the folder.
        """
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return self._read_folder(path) if path.is_dir() else self._read_file(path)

    def _read_folder(self, folder: Path) -> list[Motion]:
        samples = [folder / "samples" / f"{name}.npz" for name in ("before", "after")]
        if all(path.is_file() for path in samples):
            pairs = zip(*(self._read_file(path) for path in samples), strict=False)
            return self._first([motion for pair in pairs for motion in pair], folder)
        for name in ("imitations.npz", "results.npz"):
            if (folder / name).is_file():
                return self._first(self._read_file(folder / name), folder)
        inner = folder / _VECTORS if (folder / _VECTORS).is_dir() else folder
        files = sorted(path for path in inner.rglob("*") if path.is_file() and self._may_hold_motion(path))
        motions: list[Motion] = []
        for number, path in enumerate(files):
            if len(motions) >= self.max_motions:
                self.notes.append(f"{len(files) - number} more files of {folder} are left out")
                break
            try:
                found = self._read_file(path)
            except UserError as error:
                self.notes.append(f"left out: {error}")
                continue
            place = file_name("_".join(path.relative_to(inner).with_suffix("").parts))
            motions += [replace(motion, name=motion.name.replace(file_name(path.stem), place, 1)) for motion in found]
        if not motions:
            hint = f" ({self.notes[0]})" if self.notes else ""
            raise UserError(f"{folder} holds no motion: no {', '.join(_READERS)} file of a kind that is read{hint}")
        return self._first(motions, folder)

    def _first(self, motions: list[Motion], folder: Path) -> list[Motion]:
        if len(motions) > self.max_motions:
            self.notes.append(f"the first {self.max_motions} of {len(motions)} motions of {folder} are taken")
        return motions[: self.max_motions]

    def _may_hold_motion(self, path: Path) -> bool:
        """Text files of a folder are mostly none: clips of the humanoid are JSON objects."""
        if path.suffix.lower() != ".txt":
            return path.suffix.lower() in _READERS and path.name not in _STATISTICS
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")

    def _read_file(self, path: Path) -> list[Motion]:
        read = _READERS.get(path.suffix.lower())
        if read is None:
            raise UserError(f"{path} is no motion file; read are {', '.join(_READERS)}")
        if (kind := foreign_kind(path, zip_is_right=path.suffix.lower() in _ZIPPED)) is not None:
            raise UserError(f"{path} is {kind}")
        try:
            motions = list(read(self, path))
        except UserError as error:
            # Lines of errors about the content name the motion, which is called after the file.
            raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
        if not motions:
            raise UserError(f"{path} holds no motion")
        if self.files.fps is None or path.suffix.lower() == ".bvh":
            return motions
        return [replace(motion, fps=self.files.fps) for motion in motions]

    def read_bvh(self, path: Path) -> Iterator[Motion]:
        """The motion of a BVH file; for what an import would refuse by its figures there is a note."""
        settings = BvhSettings(**self.files.model_dump(), accept=get_args(Check), short_clips="pad")
        whole = CaptionedStretch(path.name, None, None, (path.stem,), 0, (False,))
        with tempfile.TemporaryDirectory() as spool:
            found = read_recordings(path.parent, [(path.name, [whole])], settings, Path(spool))
            if not found.recordings:
                raise UserError("; ".join(found.problems))
            recording = found.recordings[0]
            joints = recording.joints()
        self.notes += [f"{path}: {note}" for note in (*recording.notes, *recording.warnings)]
        joints = joints - np.array([joints[0, 0, 0], joints[..., 1].min(), joints[0, 0, 2]])
        # They are resampled, whatever the frame rate of the file.
        yield Motion(file_name(path.stem), joints.astype(np.float32), HUMANML3D, HUMANML3D.fps)

    def read_npy(self, path: Path) -> Iterator[Motion]:
        """The motion of an array of features or joints, with the captions of the dataset that it lies in."""
        array = read_npy(path)
        if are_rotations(array.shape) and array.dtype.kind == "f":
            yield from read_rotations(array, file_name(path.stem), self.files.up_axis)
            return
        skeleton = _skeleton_of(array.shape)
        if skeleton is None or array.dtype.kind != "f":
            raise UserError(
                f"{path} is an array {list(array.shape)} of {array.dtype}; a motion is [T, 263] or [T, 251] "
                "features, [T, 22], [T, 21] or [T, 18] joints of 3 numbers, or SMPL's rotations [25, 6, T]"
            )
        joints = recover_joints(torch.from_numpy(array), skeleton).numpy() if array.ndim == 2 else array
        if array.ndim == 2 or (skeleton == KIT and np.abs(joints).max(initial=0.0) > _METRES_BELOW):
            joints = joints * skeleton.metres_per_unit
        captions = path.parent.parent / "texts" / f"{path.stem}.txt"
        text = read_text(captions).partition("#")[0].strip() if captions.is_file() else ""
        spans = ((text, 0, len(joints)),) if text else ()
        yield Motion(file_name(path.stem), joints.astype(np.float32), skeleton, skeleton.fps, spans)

    def read_npz(self, path: Path) -> Iterator[Motion]:
        """The motions of an archive of arrays that kinetune writes, or of SMPL parameters."""
        arrays = read_array_file(path)
        for needed, read in _ARCHIVES.items():
            if set(needed) <= arrays.keys():
                yield from read(self, path, arrays)
                return
        raise UserError(f"{path} holds no motion: its arrays are {', '.join(sorted(arrays)) or 'none'}")

    def read_results(self, path: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[Motion]:
        """Motions [M, J, 3, T] of `results.npz`."""
        _require_shapes(path, arrays, {"motion": 4, "text": 1, "lengths": 1}, {"num_samples"})
        count = int(arrays["num_samples"])
        for index, (motion, text, length) in enumerate(zip(*(arrays[k] for k in _RESULTS[:3]), strict=True)):
            joints = motion.transpose(2, 0, 1)[: int(length)]
            skeleton = _joints_skeleton(joints.shape, path)
            name = f"sample{index % count:02d}_rep{index // count:02d}"
            yield Motion(name, joints, skeleton, skeleton.fps, ((str(text), 0, len(joints)),))

    def read_samples(self, path: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[Motion]:
        """Motions [M, T, J, 3] of a run's samples, with the prompts beside them."""
        _require_shapes(path, arrays, {"joints": 4, "lengths": 1, "prompt_index": 1, "sample_index": 1})
        joints, lengths = arrays["joints"], arrays["lengths"]
        skeleton = _joints_skeleton(joints.shape[1:], path)
        prompts_file = path.parent / "prompts.jsonl"
        prompts = load_prompts(prompts_file, skeleton.fps) if prompts_file.is_file() else []
        for index, (motion, length) in enumerate(zip(joints, lengths, strict=True)):
            number = int(arrays["prompt_index"][index])
            spans: tuple[tuple[str, int, int], ...] = ()
            if number < len(prompts):
                edges = zip(prompts[number].segments, prompts[number].boundaries, strict=True)
                spans = tuple((segment.text, start, end) for segment, (start, end) in edges)
            name = f"{path.stem}_{number:03d}_{int(arrays['sample_index'][index])}"
            yield Motion(file_name(name), motion[: int(length)], skeleton, skeleton.fps, spans)

    def read_imitations(self, path: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[Motion]:
        """The reference and the policy from some starts."""
        _require_shapes(path, arrays, {"phases": 1}, {"control_hz"})
        names = {f"{name}{index}" for name in ("reference", "policy") for index in range(len(arrays["phases"]))}
        if missing := sorted(names - arrays.keys()):
            raise UserError(f"{path} has no array {missing[0]}, though phases says that it was recorded")
        fps = float(arrays["control_hz"])
        for index, phase in enumerate(arrays["phases"]):
            for name in ("reference", "policy"):
                joints = arrays[f"{name}{index}"]
                spans = ((f"{name} from phase {phase:.2f}", 0, len(joints)),)
                yield Motion(f"{name}{index}", joints, humanoid_skeleton(fps), fps, spans)

    def read_amass(self, path: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[Motion]:
        """Approximate joints of SMPL parameters."""
        self.notes.append(f"{path}: approximate joints, of SMPL's mean body")
        yield read_smpl(arrays, file_name(path.stem))

    def read_torch(self, path: Path) -> Iterator[Motion]:
        """Motions as rotations of SMPL's joints."""
        yield from read_rotations(read_tensor_file(path), file_name(path.stem), self.files.up_axis)

    def read_txt(self, path: Path) -> Iterator[Motion]:
        """One cycle of a clip of the humanoid."""
        clip = read_clip(path)
        fps = self.files.fps or _CLIP_FPS
        times = torch.arange(int(clip.duration * fps + 1e-6) + 1, dtype=torch.float64) / fps
        # The last frame of a clip that repeats is the first of the next cycle.
        times = times[times < clip.duration] if clip.cyclic else times
        yield Motion(file_name(path.stem), pose_points(clip.pose(times)), humanoid_skeleton(fps), fps)


_READERS: dict[str, Callable[[MotionReader, Path], Iterator[Motion]]] = {
    ".bvh": MotionReader.read_bvh,
    ".npy": MotionReader.read_npy,
    ".npz": MotionReader.read_npz,
    ".txt": MotionReader.read_txt,
    ".pth": MotionReader.read_torch,
    ".pt": MotionReader.read_torch,
}
_ZIPPED = (".npz", ".pth", ".pt")
_RESULTS = ("motion", "text", "lengths", "num_samples")
_ARCHIVES: dict[tuple[str, ...], Callable[[MotionReader, Path, Mapping[str, np.ndarray]], Iterator[Motion]]] = {
    _RESULTS: MotionReader.read_results,
    ("joints", "lengths", "prompt_index", "sample_index"): MotionReader.read_samples,
    ("phases", "control_hz"): MotionReader.read_imitations,
    ("poses", "trans"): MotionReader.read_amass,
}
"""Arrays that an archive of a kind has, and how it is read."""


def _require_shapes(
    path: Path, arrays: Mapping[str, np.ndarray], dimensions: Mapping[str, int], positive: Collection[str] = ()
) -> None:
    """Checks that arrays have so many dimensions and one length, and that others are single numbers above 0.

    Raises:
        UserError: they are not, naming their shapes.
    """
    fits = all(arrays[name].ndim == number for name, number in dimensions.items())
    fits = fits and len({len(arrays[name]) for name in dimensions}) == 1
    if not fits or any(arrays[name].ndim or not arrays[name] > 0 for name in positive):
        shapes = ", ".join(f"{name} {list(arrays[name].shape)}" for name in (*dimensions, *positive))
        raise UserError(f"{path}: its arrays do not fit together: {shapes}")


def _skeleton_of(shape: tuple[int, ...]) -> Skeleton | None:
    """The skeleton of features [T, D] or joints [T, J, 3]; None for other arrays."""
    by_width = {skeleton.num_features: skeleton for skeleton in (HUMANML3D, KIT)}
    if len(shape) == 2:
        return by_width.get(shape[1])
    if len(shape) != 3 or shape[2] != 3:
        return None
    by_joints = {skeleton.num_joints: skeleton for skeleton in (HUMANML3D, KIT)}
    return by_joints.get(shape[1]) or (humanoid_skeleton(_CLIP_FPS) if shape[1] == len(POINT_NAMES) else None)


def _joints_skeleton(shape: tuple[int, ...], path: Path) -> Skeleton:
    skeleton = _skeleton_of(shape)
    if skeleton is None or len(shape) != 3:
        raise UserError(f"{path}: motions are {list(shape)}; joints are [T, 22, 3], [T, 21, 3] or [T, 18, 3]")
    return skeleton
