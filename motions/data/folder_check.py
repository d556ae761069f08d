"""Checks a data folder in HumanML3D's or KIT-ML's layout as a whole: all that is missing or malformed, in one pass.

A training reads the splits that it needs and stops at what is wrong with them; this looks at everything and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.data.folder_reader import TOO_LONG, TOO_SHORT, read_captions, read_features
from motions.data.text_motion import SPLITS
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton

LISTS = (*SPLITS, "train_val", "all")
"""Lists of clips that such folders have; only that of the training is required."""
_STATISTICS = ("Mean.npy", "Std.npy")
_ACTIONS = ("humanact12poses.pkl", "vibe_cache_refined.pkl")
"""Files of HumanAct12 and UESTC as MDM has them, whose motions are labelled with actions."""


@dataclass(frozen=True, slots=True)
class FolderFinding:
    """One thing about a folder; `remedy` is empty where it is right."""

    what: str
    found: str
    remedy: str = ""


def check_folder(path: str | Path) -> Iterator[FolderFinding]:
    """Everything about a data folder, what is wrong and what is right, file by file.

    Example:
        for finding in check_folder("dataset/HumanML3D"):
            print(finding.what, finding.found, finding.remedy)
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        yield FolderFinding(str(folder), "no such folder", "Give the folder that holds train.txt and new_joint_vecs/")
        return
    if actions := [name for name in _ACTIONS if any(folder.rglob(name))]:
        yield FolderFinding(
            actions[0],
            "motions labelled with actions",
            "Give a folder whose motions have captions; others are not read",
        )
        return
    for name in ("new_joint_vecs", "texts"):
        if not (folder / name).is_dir():
            yield FolderFinding(f"{name}/", "no such folder", "Download or make the whole data set")
    width, mistakes = _statistics(folder)
    yield from mistakes
    skeleton = _skeleton(folder, width)
    if skeleton is None:
        yield FolderFinding(
            "features",
            "neither statistics nor a clip has the width of HumanML3D (263) or KIT-ML (251)",
            "Make features as those data sets have them",
        )
    listed: dict[str, list[str]] = {}
    for name in LISTS:
        if (folder / f"{name}.txt").is_file():
            listed[name], mistakes = _list(folder / f"{name}.txt")
            yield from mistakes
        elif name == "train":
            yield FolderFinding("train.txt", "no such file", "Write the ids of the training clips into it, one a line")
    yield from _overlaps(listed)
    ids = dict.fromkeys(clip_id for own in listed.values() for clip_id in own)
    yield from _clips(folder, ids, skeleton)
    yield from _unlisted(folder, ids)


def _statistics(folder: Path) -> tuple[int | None, list[FolderFinding]]:
    """Number of features of the statistics, None where they cannot be read, and what is said of them."""
    remedy = "Copy the statistics of the data set's features"
    if lacking := [name for name in _STATISTICS if not (folder / name).is_file()]:
        return None, [FolderFinding(name, "no such file", remedy) for name in lacking]
    try:
        width = Normalizer.load(*(folder / name for name in _STATISTICS)).num_features
    except UserError as error:
        return None, [FolderFinding("statistics", str(error), remedy)]
    return width, [FolderFinding("statistics", f"{width} features")]


def _skeleton(folder: Path, width: int | None) -> Skeleton | None:
    """The skeleton whose features the statistics have, or else the first of a few clips that is a clip of one."""
    known = (HUMANML3D, KIT)
    if width is not None:
        return next((skeleton for skeleton in known if skeleton.num_features == width), None)
    clips = sorted((folder / "new_joint_vecs").glob("*.npy"))[:20]
    return next((skeleton for path in clips for skeleton in known if _features_of(path, skeleton) is None), None)


def _features_of(path: Path, skeleton: Skeleton) -> str | None:
    """What is wrong with a file of features; None where nothing is."""
    try:
        read_features(path, skeleton)
    except UserError as error:
        return str(error)
    return None


def _list(path: Path) -> tuple[list[str], list[FolderFinding]]:
    """Ids of a list, with or without the ending of their files, and what is wrong with it."""
    try:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except UserError as error:
        return [], [FolderFinding(path.name, str(error), "Write one id a line")]
    ids = [line.removesuffix(".npy").removesuffix(".txt") for line in lines]
    repeated = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
    mistakes = []
    if not ids:
        mistakes.append(FolderFinding(path.name, "it names no clip", "Write one id a line, or delete the list"))
    if repeated:
        mistakes.append(
            FolderFinding(path.name, f"{len(repeated)} ids stand twice, such as {repeated[0]}", "Leave them once")
        )
    if not mistakes:
        mistakes.append(FolderFinding(path.name, f"{len(ids)} clips"))
    return list(dict.fromkeys(ids)), mistakes


def _overlaps(listed: dict[str, list[str]]) -> Iterator[FolderFinding]:
    """Clips that are in the training and held out. A mirrored copy, M<id>, is of the same recording."""
    train = {clip_id.removeprefix("M") for clip_id in listed.get("train", ())}
    for name in ("val", "test"):
        both = sorted(train & {clip_id.removeprefix("M") for clip_id in listed.get(name, ())})
        if both:
            yield FolderFinding(
                f"{name}.txt",
                f"{len(both)} clips, or their mirrored copies, are in train.txt too, such as {both[0]}",
                "Take them off one of the lists, or held-out figures are of motions that the training saw",
            )


def _clips(folder: Path, ids: dict[str, None], skeleton: Skeleton | None) -> Iterator[FolderFinding]:
    num_right = num_unusual = 0
    for clip_id in ids:
        mistakes = list(_clip(folder, clip_id, skeleton))
        yield from (finding for finding in mistakes if finding.remedy)
        if not any(finding.remedy for finding in mistakes):
            num_right += 1
            num_unusual += bool(mistakes)
    unusual = ""
    if num_unusual and skeleton is not None:
        shortest = TOO_SHORT[skeleton.name]
        unusual = f"; {num_unusual} are shorter than {shortest} frames or longer than {TOO_LONG - 1}, and left out"
    yield FolderFinding("clips", f"{num_right} of {len(ids)} that the lists name are whole{unusual}")


def _clip(folder: Path, clip_id: str, skeleton: Skeleton | None) -> Iterator[FolderFinding]:
    """What is wrong with a clip, and a finding without remedy for one of an unusual length."""
    features, texts = folder / "new_joint_vecs" / f"{clip_id}.npy", folder / "texts" / f"{clip_id}.txt"
    unlist = f"Restore it, or take {clip_id} off the lists"
    if not features.is_file():
        yield FolderFinding(f"new_joint_vecs/{clip_id}.npy", "no such file", unlist)
    elif skeleton is not None:
        try:
            length = len(read_features(features, skeleton))
        except UserError as error:
            yield FolderFinding(f"new_joint_vecs/{clip_id}.npy", str(error), unlist)
        else:
            if not TOO_SHORT[skeleton.name] <= length < TOO_LONG:
                yield FolderFinding(clip_id, f"{length} frames")
    if not texts.is_file():
        yield FolderFinding(f"texts/{clip_id}.txt", "no such file", unlist)
        return
    try:
        captions = read_captions(texts)
    except UserError as error:
        yield FolderFinding(f"texts/{clip_id}.txt", str(error), "Write caption#tokens#start#end on each line")
        return
    for number, caption in enumerate(captions, start=1):
        if not caption.is_whole and caption.end <= caption.start:
            yield FolderFinding(
                f"texts/{clip_id}.txt",
                f"caption {number} lasts from {caption.start:g} to {caption.end:g} s",
                "Write a later end, or 0.0#0.0 for the whole clip",
            )


def _unlisted(folder: Path, ids: dict[str, None]) -> Iterator[FolderFinding]:
    there = {path.stem for path in (folder / "new_joint_vecs").glob("*.npy")}
    if unlisted := sorted(there - ids.keys()):
        yield FolderFinding("new_joint_vecs/", f"{len(unlisted)} clips are in no list, such as {unlisted[0]}: not used")
