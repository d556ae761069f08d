"""The configuration of `jobs.import_motion`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.bvh.settings import BvhSettings
from motions.settings import Settings


class ImportSettings(Settings):
    """What to import, and into which splits."""

    bvh_dir: Path
    """Folder of .bvh files, searched with its subfolders."""

    captions: Path
    """CSV table with the columns file, caption and optionally start, end (seconds), split (train, val, test) and mirror
    (no for captions whose left and right are no sides)."""

    save_dir: Path
    """Folder of the new dataset; it must not exist or be empty."""

    skip_uncaptioned: bool = False
    """Leave out files without a row in the table instead of stopping."""

    skip_bad: bool = False
    """Leave out files and stretches that cannot be imported, and count them, instead of stopping. All that is wrong is
    listed in either case."""

    val_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the files for the validation split of `val.txt`, on which `jobs.pretrain` measures the loss that
    chooses `best/`. Shares are of the files whose split the table leaves open."""

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


class ImportConfig(Settings):
    """A folder of BVH files as a dataset."""

    files: ImportSettings
    bvh: BvhSettings = BvhSettings()
