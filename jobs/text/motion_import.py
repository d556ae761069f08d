"""The import of `jobs.import_motion`: files and captions are matched, read, split and written."""

from __future__ import annotations

import difflib

import numpy as np
from tqdm import tqdm

from jobs.configs.import_motion import ImportConfig, ImportSettings
from motions.base.errors import UserError
from motions.bvh.caption_table import CaptionedStretch, read_caption_table
from motions.bvh.importer import describe, make_clips, read_recordings
from motions.data.folder_writer import FolderClip, check_target, write_dataset
from motions.skeleton.skeletons import HUMANML3D


def run(config: ImportConfig) -> None:
    """Imports a folder and prints the report, which is also `import_report.txt` in the dataset."""
    clips, report = _read(config)
    write_dataset(config.files.save_dir, HUMANML3D, clips, report)
    print(report)
    print(
        f"dataset in {config.files.save_dir}: python -m jobs.pretrain --dataset {config.files.save_dir} --save_dir ..."
    )


def plan(config: ImportConfig) -> None:
    """Reads and checks everything, and prints what would be written."""
    _, report = _read(config)
    print(report)
    print(f"nothing was written; the dataset would be in {config.files.save_dir}")


def match_captions(settings: ImportSettings) -> dict[str, list[CaptionedStretch]]:
    """The stretches of each file, by its path within the folder, sorted.

    Raises ValueError naming captions whose file is missing (and the nearest one) and files without captions.
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
    for row in read_caption_table(settings.captions):
        if row.file not in by_name:
            close = difflib.get_close_matches(row.file, by_name, n=1)
            hint = f", the nearest is {by_name[close[0]]!r}" if close else ""
            raise UserError(f"{settings.captions}:{row.line}: no file {row.file!r} in {settings.bvh_dir}{hint}")
        stretches.setdefault(by_name[row.file], []).append(row)
    silent = [file for file in files if file not in stretches]
    if silent and not settings.skip_uncaptioned:
        shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
        raise UserError(f"{settings.captions}: no caption for {shown}; --skip_uncaptioned true leaves them out")
    return {file: stretches[file] for file in files if file in stretches}


def choose_splits(files: list[str], val_share: float, test_share: float, seed: int) -> dict[str, str]:
    """A split for each file: shares rounded, but at least one file where a share is above 0, and one for training.

    Raises ValueError where there are too few files for that.
    """
    sizes = {"test": test_share, "val": val_share}
    counts = {split: max(round(share * len(files)), 1) if share else 0 for split, share in sizes.items()}
    if sum(counts.values()) >= len(files):
        raise UserError(
            f"{len(files)} files do not fill the splits train, {', '.join(name for name in counts if counts[name])}; "
            "set --val_share or --test_share to 0"
        )
    order = np.random.default_rng(seed).permutation(len(files))
    splits = dict.fromkeys(files, "train")
    start = 0
    for split, count in counts.items():
        for index in order[start : start + count]:
            splits[files[int(index)]] = split
        start += count
    return splits


def _read(config: ImportConfig) -> tuple[list[FolderClip], str]:
    settings = config.files
    check_target(settings.save_dir)
    stretches = match_captions(settings)
    splits = choose_splits(list(stretches), settings.val_share, settings.test_share, settings.seed)
    # No bars where nobody looks (disable=None).
    files = tqdm(stretches.items(), desc="reading", unit="file", disable=None, leave=False)
    imported = read_recordings(settings.bvh_dir, files, config.bvh)
    recordings = tqdm(imported.recordings, desc="features", unit="file", disable=None, leave=False)
    clips = list(make_clips(recordings, splits, config.bvh))
    return clips, describe(imported, clips)
