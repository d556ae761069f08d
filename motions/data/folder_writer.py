"""Writes a dataset folder in HumanML3D's layout; it appears complete or not at all.

    new_joint_vecs/000000.npy    features [T, D] float32, physical; M000000.npy is the mirrored copy
    new_joints/000000.npy        joints [T, J, 3] float32
    texts/000000.txt             one line per caption: caption#word/POS ...#0.0#0.0
    Mean.npy, Std.npy            statistics of the training split, std averaged in feature groups
    train.txt, val.txt, test.txt, train_val.txt, all.txt    (no list for an empty split)
    index.csv                    source file of each clip, and which seconds of it
    import_report.txt            what was done to the source files
    dataset.json                 {"skeleton": "humanml3d"}

Part-of-speech tags would need a tagger and are all OTHER; only the evaluators of Guo et al. (2022) read them.
"""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from motions.base.errors import UserError
from motions.data.text_motion import SPLITS
from motions.skeleton.features import recover_joints
from motions.skeleton.normalization import Normalizer, RunningStatistics
from motions.skeleton.skeletons import Skeleton


@dataclass(frozen=True, eq=False)
class FolderClip:
    """One clip to write, with its mirrored copy if it has one."""

    features: np.ndarray
    """[T, D] float32."""
    captions: tuple[str, ...]
    split: str
    source: str
    """File it comes from."""
    start: float
    """Seconds from that file's first frame."""
    mirrored: tuple[np.ndarray, tuple[str, ...]] | None = None
    """Features and captions of the mirrored copy."""


def write_dataset(
    folder: str | Path, skeleton: Skeleton, clips: Iterable[FolderClip], report: str | Callable[[], str]
) -> None:
    """Writes a dataset into a folder that does not exist yet or is empty.

    Clips are written as they come, so an iterator of any length needs memory for one. Everything is written to a
    temporary folder beside it and takes its place with one rename.

    Args:
        report: the text of `import_report.txt`; a function is called when all clips have passed.

    Raises:
        UserError: no training clips, a feature that never changes, or a folder that is not empty.
        OSError: the folder cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    check_target(folder)
    statistics = _TrainingStatistics(skeleton)
    with _temporary_folder(folder) as temporary:
        for name in ("new_joint_vecs", "new_joints", "texts"):
            (temporary / name).mkdir()
        ids: dict[str, list[str]] = {split: [] for split in SPLITS}
        with (temporary / "index.csv").open("w", encoding="utf-8", newline="") as file:
            index = csv.writer(file)
            index.writerow(("new_name", "source_path", "start", "end", "num_frames"))
            for number, clip in enumerate(clips):
                statistics.add(clip)
                for clip_id, features, captions in _copies(number, clip):
                    _write_clip(temporary, clip_id, features, captions, skeleton)
                    ids[clip.split].append(clip_id)
                    end = clip.start + len(features) / skeleton.fps
                    index.writerow((clip_id, clip.source, f"{clip.start:.3f}", f"{end:.3f}", len(features)))
        statistics.normalizer().save(temporary)
        lists = {split: clip_ids for split, clip_ids in ids.items() if clip_ids}
        lists["train_val"] = ids["train"] + ids["val"]
        lists["all"] = [clip_id for split in SPLITS for clip_id in ids[split]]
        for name, clip_ids in lists.items():
            (temporary / f"{name}.txt").write_text("".join(f"{clip_id}\n" for clip_id in clip_ids), encoding="utf-8")
        (temporary / "dataset.json").write_text(json.dumps({"skeleton": skeleton.name}) + "\n", encoding="utf-8")
        text = report if isinstance(report, str) else report()
        (temporary / "import_report.txt").write_text(text + "\n", encoding="utf-8")


def check_clips(skeleton: Skeleton, clips: Iterable[FolderClip]) -> None:
    """Raises UserError where `write_dataset` would refuse the clips; nothing is written."""
    statistics = _TrainingStatistics(skeleton)
    for clip in clips:
        statistics.add(clip)
    statistics.normalizer()


def check_target(folder: Path) -> None:
    """Raises UserError where a dataset cannot be written to `folder` because something is there already."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"save_dir {folder} is a file")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"save_dir {folder} is not empty; nothing is overwritten, name another folder")


class _TrainingStatistics:
    """Statistics of the training clips that pass by, and the files they come from."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._statistics = RunningStatistics(skeleton)
        self._sources: set[str] = set()

    def add(self, clip: FolderClip) -> None:
        """Adds a training clip with its mirrored copy; others are left out."""
        if clip.split == "train":
            self._sources.add(clip.source)
            for _, features, _ in _copies(0, clip):
                self._statistics.add(features)

    def normalizer(self) -> Normalizer:
        """The statistics. Raises UserError where there are no clips, or naming the files if a feature never changes."""
        if not self._sources:
            raise UserError("there are no clips to train on")
        try:
            return self._statistics.normalizer()
        except UserError as error:
            files = sorted(self._sources)
            names = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
            raise UserError(f"{names}: {error}") from error


def _copies(number: int, clip: FolderClip) -> Iterator[tuple[str, np.ndarray, tuple[str, ...]]]:
    yield f"{number:06d}", clip.features, clip.captions
    if clip.mirrored is not None:
        yield f"M{number:06d}", *clip.mirrored


def _write_clip(folder: Path, clip_id: str, features: np.ndarray, captions: Iterable[str], skeleton: Skeleton) -> None:
    np.save(folder / "new_joint_vecs" / f"{clip_id}.npy", features)
    joints = recover_joints(torch.from_numpy(features), skeleton).numpy()
    np.save(folder / "new_joints" / f"{clip_id}.npy", joints)
    lines = []
    for caption in captions:
        tokens = " ".join(f"{word}/OTHER" for word in re.findall(r"[a-z]+", caption.lower()))
        lines.append(f"{caption}#{tokens}#0.0#0.0\n")
    (folder / "texts" / f"{clip_id}.txt").write_text("".join(lines), encoding="utf-8")


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `target` when the block ends normally and removed when it raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
