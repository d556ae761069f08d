"""Reads datasets on disk in the layout of HumanML3D and KIT-ML.

    Mean.npy Std.npy              statistics of the training features
    new_joint_vecs/<id>.npy       [T, 263] or [T, 251] features
    texts/<id>.txt                one caption a line: caption#word/POS word/POS#start#end (seconds; 0.0#0.0: whole clip)
    train.txt val.txt test.txt    one id a line; train.txt is required
    dataset.json                  optional: {"skeleton": "humanml3d"} or "kit"; by default the features' width decides

As in MDM's data loader (Tevet et al. 2023), clips shorter than 40 frames (KIT: 24) or longer than 199 frames are left
out, and a caption with times becomes a motion of its own, cut at int(seconds * fps). Clips that a split list names but
that are not on disk are counted. `motions.data.folder_writer` writes such folders.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.data.text_motion import TextMotion
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton, get_skeleton

SPLITS = ("train", "val", "test")
TOO_LONG = 200
_TOO_SHORT = {HUMANML3D.name: 40, KIT.name: 24}


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What reading one split list found."""

    num_listed: int
    num_missing: int
    """Ids without features or without captions on disk."""
    num_unusual: int
    """Clips and cut-outs that were left out because they are too short or too long."""
    num_motions: int


@dataclass(frozen=True, slots=True)
class Caption:
    """One line of a texts file; `start` and `end` in seconds, both 0 for the whole clip."""

    text: str
    tokens: str
    start: float
    end: float

    @property
    def is_whole(self) -> bool:
        """Whether the caption describes the whole clip."""
        return self.start == 0.0 and self.end == 0.0


class MotionFolder:
    """A dataset folder. The statistics are read at construction, splits when they are asked for.

    Raises UserError, naming the file, where the folder, its statistics, its training list or its `dataset.json` is
    missing or wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"dataset {str(path)!r} is neither 'builtin' nor a folder")
        if not (self.path / "train.txt").is_file() or not (self.path / "new_joint_vecs").is_dir():
            raise UserError(f"{self.path} is not a motion dataset: it needs train.txt, new_joint_vecs/ and texts/")
        self.skeleton = self._read_skeleton()
        self.normalizer = Normalizer.load(
            self.path / "Mean.npy", self.path / "Std.npy", num_features=self.skeleton.num_features
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a list."""
        return tuple(name for name in SPLITS if (self.path / f"{name}.txt").is_file())

    def read(self, split: str) -> tuple[tuple[TextMotion, ...], SplitReport]:
        """All motions of a split, in the order of its list, and what was left out.

        Raises UserError, naming the file, for a split without a list, features of a wrong shape or that are not
        finite, a malformed line of captions, or where nothing is left of the split.
        """
        if split not in self.splits:
            raise UserError(f"split {split!r}: dataset {self.path} has {', '.join(self.splits)}")
        lines = _lines(self.path / f"{split}.txt")
        ids = dict.fromkeys(line.strip() for line in lines if line.strip())
        motions: list[TextMotion] = []
        num_missing = num_unusual = 0
        for clip_id in ids:
            features_path = self.path / "new_joint_vecs" / f"{clip_id}.npy"
            texts_path = self.path / "texts" / f"{clip_id}.txt"
            if not features_path.is_file() or not texts_path.is_file():
                num_missing += 1
                continue
            found, left_out = self._cut(clip_id, self._features(features_path), read_captions(texts_path))
            motions += found
            num_unusual += left_out
        report = SplitReport(len(ids), num_missing, num_unusual, len(motions))
        if not motions:
            raise UserError(
                f"{self.path}/{split}.txt lists {report.num_listed} clips: {num_missing} are not on disk, "
                f"{num_unusual} motions have under {self._shortest} or at least {TOO_LONG} frames; none is left"
            )
        return tuple(motions), report

    @property
    def _shortest(self) -> int:
        return _TOO_SHORT[self.skeleton.name]

    def _cut(self, clip_id: str, features: np.ndarray, captions: list[Caption]) -> tuple[list[TextMotion], int]:
        """The whole clip with its captions, one cut-out per caption with times, and the number of those left out."""
        motions, left_out = [], 0
        if not self._shortest <= len(features) < TOO_LONG:
            return [], 1
        # The mirrored copy of a clip, M<id>, comes from the same recording.
        source = clip_id.removeprefix("M")
        whole = tuple(caption.text for caption in captions if caption.is_whole)
        if whole:
            motions.append(TextMotion(clip_id, source, features, whole))
        for number, caption in enumerate(captions):
            if caption.is_whole:
                continue
            piece = features[int(caption.start * self.skeleton.fps) : int(caption.end * self.skeleton.fps)]
            if self._shortest <= len(piece) < TOO_LONG:
                name = f"{clip_id}@{caption.start:g}-{caption.end:g}.{number}"
                motions.append(TextMotion(name, source, piece, (caption.text,)))
            else:
                left_out += 1
        return motions, left_out

    def _features(self, path: Path) -> np.ndarray:
        try:
            features = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} is not a plain NumPy array: {error}") from error
        if features.ndim != 2 or features.shape[1] != self.skeleton.num_features:
            expected = self.skeleton.num_features
            raise UserError(f"{path} has shape {features.shape}; expected [T, {expected}] for {self.skeleton.name}")
        if not np.isfinite(features).all():
            frame = int(np.argwhere(~np.isfinite(features))[0, 0])
            raise UserError(f"{path}: frame {frame} is not finite; remove the clip or its id from the split lists")
        return features.astype(np.float32)

    def _read_skeleton(self) -> Skeleton:
        path = self.path / "dataset.json"
        if path.is_file():
            try:
                content = json.loads(path.read_text())
            except json.JSONDecodeError as error:
                raise UserError(f"{path} is not JSON: {error}") from error
            if not isinstance(content, dict) or not isinstance(content.get("skeleton"), str):
                raise UserError(f"{path} has no text 'skeleton'; legal: {HUMANML3D.name}, {KIT.name}")
            return get_skeleton(content["skeleton"])
        width = Normalizer.load(self.path / "Mean.npy", self.path / "Std.npy").num_features
        for skeleton in (HUMANML3D, KIT):
            if skeleton.num_features == width:
                return skeleton
        known = f"{HUMANML3D.num_features} (HumanML3D) or {KIT.num_features} (KIT)"
        raise UserError(f"{self.path}/Mean.npy has {width} numbers; {known} are expected")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a UTF-8 text file: {error}") from error


def read_captions(path: Path) -> list[Caption]:
    """The captions of one texts file. A time that is nan counts as 0, as in MDM's data loader.

    Raises UserError naming file and line where a line is not `caption#tokens#start#end` or a caption is empty, or
    where there is no caption at all.
    """
    captions = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        parts = line.strip().split("#")
        try:
            text, tokens, start, end = parts[0].strip(), parts[1], float(parts[2]), float(parts[3])
        except (IndexError, ValueError):
            raise UserError(f"{path}, line {number}: {line!r:.80} is not caption#tokens#start#end") from None
        start, end = (0.0 if math.isnan(time) else time for time in (start, end))
        if not text:
            raise UserError(f"{path}, line {number}: the caption is empty")
        captions.append(Caption(text, tokens, start, end))
    if not captions:
        raise UserError(f"{path} holds no caption")
    return captions
