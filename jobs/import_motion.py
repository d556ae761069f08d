"""Turns a folder of BVH files and a table of captions into a dataset in HumanML3D's layout.

    python -m jobs.import_motion --bvh_dir mocap --captions captions.csv --save_dir datasets/mine --dry_run
    python -m jobs.import_motion --bvh_dir mocap --captions captions.csv --save_dir datasets/mine
    python -m jobs.pretrain --dataset datasets/mine --save_dir runs/mine

The table has the columns `file, caption` and, optionally, `start, end` (seconds from the file's first frame): several
rows for one stretch are several captions of one clip. The joints of any common rig are recognised by name; `--mapping`
names them where they are not. `--dry_run` reads everything and reports what would be mapped, placed between neighbours,
left out and written. Nothing is overwritten: the folder appears when it is complete.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from jobs.command_line import main as cli
from motions.base.errors import UserError
from motions.bvh.caption_table import CaptionedStretch, read_caption_table
from motions.bvh.settings import BvhSettings

if TYPE_CHECKING:
    from motions.data.folder_writer import FolderClip


class ImportConfig(BvhSettings):
    """What to import, and into which splits."""

    bvh_dir: Path
    """Folder of .bvh files, searched with its subfolders."""

    captions: Path
    """CSV table with the columns file, caption and optionally start, end (seconds)."""

    save_dir: Path
    """Folder of the new dataset; it must not exist or be empty."""

    skip_uncaptioned: bool = False
    """Leave out files without a row in the table instead of stopping."""

    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the files for the validation split of `val.txt`, which other tools use."""

    test_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the files that are held out from training. Clips of one file stay in one split."""

    seed: int = Field(default=10, ge=0, lt=2**63)
    """Seed of the splits."""

    @field_validator("bvh_dir")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        if not value.is_dir():
            raise UserError("no such folder")
        return value

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise UserError(
                f"val_share {self.val_share:g} and test_share {self.test_share:g} leave nothing to train on"
            )
        return self


def run(config: ImportConfig) -> None:
    """Imports a folder and prints the report, which is also `import_report.txt` in the dataset."""
    from motions.data.folder_writer import write_dataset
    from motions.skeleton.skeletons import HUMANML3D

    clips, report = _read(config)
    write_dataset(config.save_dir, HUMANML3D, clips, report)
    print(report)
    print(f"dataset in {config.save_dir}: python -m jobs.pretrain --dataset {config.save_dir} --save_dir ...")


def plan(config: ImportConfig) -> None:
    """Reads and checks everything, and prints what would be written."""
    _, report = _read(config)
    print(report)
    print(f"nothing was written; the dataset would be in {config.save_dir}")


def match_captions(config: ImportConfig) -> dict[str, list[CaptionedStretch]]:
    """The stretches of each file, by its path within the folder, sorted.

    Raises ValueError naming captions whose file is missing (and the nearest one) and files without captions.
    """
    files = sorted(
        path.relative_to(config.bvh_dir).as_posix()
        for path in config.bvh_dir.rglob("*")
        if path.suffix.lower() == ".bvh" and path.is_file()
    )
    if not files:
        raise UserError(f"bvh_dir {config.bvh_dir}: no .bvh files in it")
    by_name = {name: file for file in files for name in (file, file[: -len(".bvh")])}
    stretches: dict[str, list[CaptionedStretch]] = {}
    for row in read_caption_table(config.captions):
        if row.file not in by_name:
            close = difflib.get_close_matches(row.file, by_name, n=1)
            hint = f", the nearest is {by_name[close[0]]!r}" if close else ""
            raise UserError(f"{config.captions}:{row.line}: no file {row.file!r} in {config.bvh_dir}{hint}")
        stretches.setdefault(by_name[row.file], []).append(row)
    silent = [file for file in files if file not in stretches]
    if silent and not config.skip_uncaptioned:
        shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
        raise UserError(f"{config.captions}: no caption for {shown}; --skip_uncaptioned true leaves them out")
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
    from tqdm import tqdm

    from motions.bvh.importer import describe, make_clips, read_recordings
    from motions.data.folder_writer import check_target

    check_target(config.save_dir)
    stretches = match_captions(config)
    splits = choose_splits(list(stretches), config.val_share, config.test_share, config.seed)
    # No bars where nobody looks (disable=None).
    files = tqdm(stretches.items(), desc="reading", unit="file", disable=None, leave=False)
    imported = read_recordings(config.bvh_dir, files, config)
    recordings = tqdm(imported.recordings, desc="features", unit="file", disable=None, leave=False)
    clips = list(make_clips(recordings, splits, config))
    return clips, describe(imported, clips)


if __name__ == "__main__":
    sys.exit(cli.main(ImportConfig, run, __doc__, job="jobs.import_motion", plan=plan))
