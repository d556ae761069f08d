"""The import of `jobs.import_motion`: files and captions are matched, read, split and written."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from jobs.configs.import_motion import ImportConfig, ImportSettings
from motions.base.errors import MistakesError, UserError
from motions.bvh.caption_table import CaptionedStretch, read_caption_table
from motions.bvh.importer import Import, make_clips, read_recordings
from motions.bvh.report import ClipCounts, describe
from motions.data.folder_writer import FolderClip, check_clips, check_target, write_dataset
from motions.skeleton.skeletons import HUMANML3D


def run(config: ImportConfig) -> None:
    """Imports a folder and prints the report, which is also `import_report.txt` in the dataset."""
    folder = config.files.save_dir
    with _read(config) as (imported, clips, counts):
        write_dataset(folder, HUMANML3D, clips, lambda: describe(imported, counts))
        print(describe(imported, counts))
    print(f"dataset in {folder}: python -m jobs.pretrain --dataset {folder} --save_dir ...")


def plan(config: ImportConfig) -> None:
    """Reads, converts and checks everything, and prints what would be written."""
    with _read(config) as (imported, clips, counts):
        check_clips(HUMANML3D, clips)
        print(describe(imported, counts))
    print(f"nothing was written; the dataset would be in {config.files.save_dir}")


def match_captions(settings: ImportSettings) -> tuple[dict[str, list[CaptionedStretch]], list[str]]:
    """The stretches of each file, by its path within the folder, sorted; and what is wrong with others, one line each:
    captions whose file is missing (with the nearest one), and files without captions.

    Raises UserError for a folder without BVH files and what `read_caption_table` raises.
    """
    files = sorted(
        path.relative_to(settings.bvh_dir).as_posix()
        for path in settings.bvh_dir.rglob("*")
        if path.suffix.lower() == ".bvh" and path.is_file()
    )
    if not files:
        raise UserError(f"bvh_dir {settings.bvh_dir}: no .bvh files in it")
    by_name = {name: file for file in files for name in (file, file[: -len(".bvh")])}
    stretches: dict[str, list[CaptionedStretch]] = {}
    problems = []
    for row in read_caption_table(settings.captions):
        if row.file not in by_name:
            close = difflib.get_close_matches(row.file, by_name, n=1)
            hint = f", the nearest is {by_name[close[0]]!r}" if close else ""
            problems.append(f"{settings.captions}:{row.line}: no file {row.file!r} in {settings.bvh_dir}{hint}")
        else:
            stretches.setdefault(by_name[row.file], []).append(row)
    silent = [file for file in files if file not in stretches]
    if silent and not settings.skip_uncaptioned and not problems:
        shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
        problems.append(f"{settings.captions}: no caption for {shown}; --skip_uncaptioned true leaves them out")
    return {file: stretches[file] for file in files if file in stretches}, problems


def choose_splits(
    files: list[str], val_share: float, test_share: float, seed: int, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A split for each file: shares rounded, but at least one file where a share is above 0, and one for training.

    Args:
        given: splits that the caption table names; the shares are those of the other files.

    Raises UserError where there are too few files for that.
    """
    given = given or {}
    open_files = [file for file in files if file not in given]
    splits = dict.fromkeys(files, "train") | {file: given[file] for file in files if file in given}
    if open_files:
        sizes = {"test": test_share, "val": val_share}
        counts = {split: max(round(share * len(open_files)), 1) if share else 0 for split, share in sizes.items()}
        if sum(counts.values()) >= len(open_files) and "train" not in given.values():
            raise UserError(
                f"{len(open_files)} files do not fill the splits train, "
                f"{', '.join(name for name in counts if counts[name])}; set --val_share or --test_share to 0"
            )
        order = np.random.default_rng(seed).permutation(len(open_files))
        start = 0
        for split, count in counts.items():
            for index in order[start : start + count]:
                splits[open_files[int(index)]] = split
            start += count
    if files and "train" not in splits.values():
        raise UserError("no file is in the split train")
    return splits


@contextmanager
def _read(config: ImportConfig) -> Iterator[tuple[Import, Iterator[FolderClip], ClipCounts]]:
    """What was read, the clips to come, and their counts; in a block, because the joints lie in a temporary folder."""
    settings = config.files
    check_target(settings.save_dir)
    stretches, problems = match_captions(settings)
    given = {file: rows[0].split for file, rows in stretches.items() if rows[0].split is not None}

    def splits_of(files: list[str]) -> dict[str, str]:
        return choose_splits(files, settings.val_share, settings.test_share, settings.seed, given)

    if not problems:
        splits_of(list(stretches))
    with TemporaryDirectory(prefix="kinetune_import_") as spool:
        # No bars where nobody looks (disable=None).
        files = tqdm(stretches.items(), desc="reading", unit="file", disable=None, leave=False)
        imported = read_recordings(settings.bvh_dir, files, config.bvh, Path(spool))
        imported = replace(imported, problems=(*problems, *imported.problems))
        _tell(imported, settings, len(stretches))
        splits = splits_of([recording.file for recording in imported.recordings])
        recordings = tqdm(imported.recordings, desc="features", unit="file", disable=None, leave=False)
        counts = ClipCounts()
        yield imported, counts.watch(make_clips(recordings, splits, config.bvh)), counts


def _tell(imported: Import, settings: ImportSettings, num_files: int) -> None:
    """Prints warnings, and everything that is wrong. Raises MistakesError where that stops the import."""
    for recording in imported.recordings:
        for warning in recording.warnings:
            print(f"warning: {recording.path}: {warning}", file=sys.stderr)
    if not imported.problems:
        return
    if not imported.recordings:
        raise MistakesError(imported.problems)
    if not settings.skip_bad:
        advice = (
            f"{imported.num_bad_files} of {num_files} files and {len(imported.problems)} stretches or files in all "
            "cannot be imported; --skip_bad true leaves them out"
        )
        raise MistakesError([*imported.problems, advice] if len(imported.problems) > 1 else imported.problems)
    for problem in imported.problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(
        f"warning: {imported.num_bad_files} of {num_files} files are left out ({len(imported.problems)} problems)",
        file=sys.stderr,
    )
