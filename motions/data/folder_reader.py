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
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motions.base.errors import MistakesError, UserError
from motions.base.foreign_files import read_text
from motions.base.safe_files import read_npy
from motions.data.plausibility import SplitFigures
from motions.data.text_motion import SPLITS, StoredFrames, TextMotion
from motions.skeleton.features import FeatureLayout
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton, get_skeleton

logger = logging.getLogger(__name__)

TOO_LONG = 200
MOST_HELD_MB = 256
"""Features of a split that are held in memory; those of further clips are read again whenever a batch needs them, so
that the memory of a training does not depend on the size of its data set."""
_MOST_SHOWN = 20
"""Bad clips that a message names."""
_ROUNDING = 0.02
"""Deviation of a foot contact, which is 0 or 1, that rounding and normalising leave."""
_LEAST_CONTACT, _MOST_CONTACT = -0.5, 1.5
"""Beyond these no foot contact is, not even a network's."""
TOO_SHORT = {HUMANML3D.name: 40, KIT.name: 24}
"""Fewest frames of a clip, by skeleton."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What reading one split list found."""

    num_listed: int
    num_missing: int
    """Ids without features or without captions on disk."""
    num_unusual: int
    """Clips and cut-outs that were left out because they are too short or too long."""
    num_motions: int
    bad: tuple[str, ...] = ()
    """What is wrong with clips that were left out on request, one line each."""

    def __str__(self) -> str:
        bad = f"{len(self.bad)} are broken (first {self.bad[0]}), " if self.bad else ""
        return (
            f"{self.num_listed} clips: {self.num_missing} are not on disk, {bad}{self.num_unusual} motions are too "
            f"short or too long; {self.num_motions} are left"
        )


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

    With `skip_bad`, clips that are broken (not finite, cut off, of a wrong shape, without a readable caption) are left
    out and reported; otherwise they are an error.

    Raises UserError, naming the file, where the folder, its statistics, its training list or its `dataset.json` is
    missing or wrong.
    """

    def __init__(self, path: str | Path, *, skip_bad: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.skip_bad = skip_bad
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

        Raises UserError, naming the file, for a split without a list, features that are normalised already, or where
        nothing is left of the split; MistakesError with a line for each clip that is broken, unless they are skipped.
        """
        if split not in self.splits:
            raise UserError(f"split {split!r}: dataset {self.path} has {', '.join(self.splits)}")
        lines = read_text(self.path / f"{split}.txt").split("\n")
        ids = dict.fromkeys(self._clip_id(line.strip()) for line in lines if line.strip())
        motions: list[TextMotion] = []
        bad: list[str] = []
        missing: list[str] = []
        figures = SplitFigures(self.skeleton, len(ids))
        num_unusual = num_odd = held = 0
        for clip_id in ids:
            features_path = self.path / "new_joint_vecs" / f"{clip_id}.npy"
            texts_path = self.path / "texts" / f"{clip_id}.txt"
            if not features_path.is_file() or not texts_path.is_file():
                missing.append(clip_id)
                continue
            try:
                features, captions = read_features(features_path, self.skeleton), read_captions(texts_path)
                check_spans(captions, len(features) / self.skeleton.fps, texts_path)
            except UserError as error:
                bad.append(str(error))
                continue
            num_odd += self._has_odd_contacts(features, features_path)
            figures.add(clip_id, features)
            held += features.nbytes
            stored = features_path if held > MOST_HELD_MB * 10**6 else None
            found, left_out = self._cut(clip_id, features, captions, stored)
            motions += found
            num_unusual += left_out
        if bad and not self.skip_bad:
            raise _mistakes(bad)
        if num_odd:
            logger.warning(
                "%s/%s.txt: the foot contacts of %d clips are far from 0 and 1: their features are normalised already, "
                "by other statistics than Mean.npy and Std.npy, or have another layout",
                *(self.path, split, num_odd),
            )
        for oddity in figures.oddities(self.normalizer):
            logger.warning("%s/%s.txt: %s", self.path, split, oddity)
        report = SplitReport(len(ids), len(missing), num_unusual, len(motions), tuple(bad))
        if not motions:
            broken = f"{len(bad)} are broken (first {bad[0]}), " if bad else ""
            gone = f"{len(missing)} are not on disk" + (f" (first {missing[0]!r:.80})" if missing else "")
            raise UserError(
                f"{self.path}/{split}.txt lists {report.num_listed} clips: {gone}, {broken}"
                f"{num_unusual} motions have under {self._shortest} or at least {TOO_LONG} frames; none is left"
            )
        return tuple(motions), report

    def _clip_id(self, listed: str) -> str:
        """The id of a line of a split list, which may have the ending of the clip's files."""
        if (self.path / "new_joint_vecs" / f"{listed}.npy").is_file():
            return listed
        return listed.removesuffix(".npy").removesuffix(".txt")

    def _has_odd_contacts(self, features: np.ndarray, path: Path) -> bool:
        """Whether foot contacts are far from 0 and 1. Raises UserError where they are those of normalised features."""
        part = FeatureLayout(self.skeleton.num_joints).contacts
        contacts = features[:, part]
        if _are_contacts(contacts):
            return False
        if _are_contacts(contacts * self.normalizer.std[part] + self.normalizer.mean[part]):
            raise UserError(
                f"{path}: the features are normalised already: foot contacts are {contacts.min():.3g} to "
                f"{contacts.max():.3g}, and 0 or 1 once multiplied by Std.npy and added to Mean.npy; store features * "
                "Std + Mean, training normalises them"
            )
        return bool(contacts.min() < _LEAST_CONTACT or contacts.max() > _MOST_CONTACT)

    @property
    def _shortest(self) -> int:
        return TOO_SHORT[self.skeleton.name]

    def _cut(
        self, clip_id: str, features: np.ndarray, captions: list[Caption], stored: Path | None
    ) -> tuple[list[TextMotion], int]:
        """The whole clip with its captions, one cut-out per caption with times, and the number of those left out.

        Args:
            stored: the clip's file, if its features are not to be held in memory.
        """
        motions, left_out = [], 0
        if not self._shortest <= len(features) < TOO_LONG:
            return [], 1
        # The mirrored copy of a clip, M<id>, comes from the same recording.
        source = clip_id.removeprefix("M")

        def frames(start: int, stop: int) -> np.ndarray | StoredFrames:
            if stored is None:
                return features[start:stop]
            return StoredFrames(stored, len(features), *slice(start, stop).indices(len(features))[:2])

        whole = tuple(caption.text for caption in captions if caption.is_whole)
        if whole:
            motions.append(TextMotion(clip_id, source, frames(0, len(features)), whole))
        for number, caption in enumerate(captions):
            if caption.is_whole:
                continue
            piece = frames(int(caption.start * self.skeleton.fps), int(caption.end * self.skeleton.fps))
            if self._shortest <= len(piece) < TOO_LONG:
                name = f"{clip_id}@{caption.start:g}-{caption.end:g}.{number}"
                motions.append(TextMotion(name, source, piece, (caption.text,)))
            else:
                left_out += 1
        return motions, left_out

    def _read_skeleton(self) -> Skeleton:
        path = self.path / "dataset.json"
        if path.is_file():
            try:
                content = json.loads(read_text(path))
            except json.JSONDecodeError as error:
                raise UserError(f"{path} is not JSON: {error}") from error
            if not isinstance(content, dict) or not isinstance(content.get("skeleton"), str):
                raise UserError(f"{path} has no text 'skeleton'; legal: {HUMANML3D.name}, {KIT.name}")
            if unknown := sorted(content.keys() - {"skeleton", "fps"}):
                raise UserError(f"{path}: {unknown[0]!r} is unknown; legal: skeleton, fps")
            try:
                skeleton = get_skeleton(content["skeleton"])
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            fps = content.get("fps", skeleton.fps)
            if isinstance(fps, bool) or fps != skeleton.fps:
                raise UserError(
                    f"{path}: fps is {fps!r}; features of {skeleton.name} are of {skeleton.fps:g} frames per second, "
                    "their velocities are per frame: resample the joints and make the features again"
                )
            return skeleton
        width = Normalizer.load(self.path / "Mean.npy", self.path / "Std.npy").num_features
        for skeleton in (HUMANML3D, KIT):
            if skeleton.num_features == width:
                return skeleton
        known = f"{HUMANML3D.num_features} (HumanML3D) or {KIT.num_features} (KIT)"
        raise UserError(f"{self.path}/Mean.npy has {width} numbers; {known} are expected")


def read_features(path: Path, skeleton: Skeleton) -> np.ndarray:
    """The features [T, D] float32 of one clip.

    Raises UserError, naming the file, for another shape or type, or numbers that are not finite.
    """
    features = read_npy(path)
    if features.ndim != 2 or features.shape[1] != skeleton.num_features:
        expected = skeleton.num_features
        raise UserError(f"{path} has shape {features.shape}; expected [T, {expected}] for {skeleton.name}")
    if not np.issubdtype(features.dtype, np.floating) and not np.issubdtype(features.dtype, np.integer):
        raise UserError(f"{path} holds values of type {features.dtype}; expected numbers")
    if not np.isfinite(features).all():
        frame = int(np.argwhere(~np.isfinite(features))[0, 0])
        raise UserError(f"{path}: frame {frame} is not finite; mend the clip, or leave out such clips with --skip_bad")
    return features.astype(np.float32, copy=False)


def check_spans(captions: list[Caption], seconds: float, path: Path) -> None:
    """Raises UserError, naming the file, where a caption is of times after the end of a clip of so many seconds.

    One that begins within the clip and ends after it is of the clip's rest, as in MDM's data loader.
    """
    for number, caption in enumerate(captions, start=1):
        if caption.start >= seconds and not caption.is_whole:
            raise UserError(
                f"{path}: caption {number} is of {caption.start:g} to {caption.end:g} s, and the clip lasts "
                f"{seconds:g} s"
            )


def _are_contacts(contacts: np.ndarray) -> bool:
    """Whether all numbers are 0 or 1."""
    return bool((np.minimum(np.abs(contacts), np.abs(contacts - 1.0)) < _ROUNDING).all())


def _mistakes(bad: list[str]) -> UserError:
    """The error about bad clips, of which the first are named."""
    if len(bad) == 1:
        return UserError(bad[0])
    more = f"; {len(bad) - _MOST_SHOWN} more are not shown" if len(bad) > _MOST_SHOWN else ""
    return MistakesError([*bad[:_MOST_SHOWN], f"{len(bad)} clips are broken{more}; --skip_bad leaves them out"])


def read_captions(path: Path) -> list[Caption]:
    """The captions of one texts file. A time that is nan counts as 0, as in MDM's data loader.

    Raises UserError naming file and line where a line is not `caption#tokens#start#end`, a caption is empty or a time
    negative or infinite, or where there is no caption at all.
    """
    captions = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.strip().split("#")
        try:
            text, tokens, start, end = parts[0].strip(), parts[1], float(parts[2]), float(parts[3])
        except (IndexError, ValueError):
            raise UserError(f"{path}, line {number}: {line!r:.80} is not caption#tokens#start#end") from None
        start, end = (0.0 if math.isnan(time) else time for time in (start, end))
        if not (0.0 <= start < math.inf and 0.0 <= end < math.inf):
            raise UserError(f"{path}, line {number}: {start:g} to {end:g} s; expected finite times of 0 or more")
        if not text:
            raise UserError(f"{path}, line {number}: the caption is empty")
        captions.append(Caption(text, tokens, start, end))
    if not captions:
        raise UserError(f"{path} holds no caption")
    return captions
