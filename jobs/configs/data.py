"""Options of the data; each job's configuration combines the layers' settings groups with its own.

Imports neither torch nor ray, so a machine without them can check a command line, and `--help` is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings

MDM_DATASETS = {"humanml": "dataset/HumanML3D", "kit": "dataset/KIT-ML"}
"""MDM's dataset names and the folders that it reads them from."""


class DataSettings(Settings):
    """Motions and captions."""

    dataset: str = BUILTIN
    """`builtin` (motion capture that comes with pybullet, retargeted), a folder in HumanML3D's layout, or MDM's names
    `humanml` and `kit`, whose folder is `data_dir`."""

    data_dir: Path | None = None
    """Folder of `--dataset humanml` or `kit`; by default MDM's, `dataset/HumanML3D` or `dataset/KIT-ML`."""

    skip_bad: bool = False
    """Leave out clips whose files are broken or hold numbers that are not finite, and say how many they are. By default
    they are an error that lists them."""

    @field_validator("data_dir", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """On MDM's command line '' means the default."""
        return None if value == "" else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset in ("humanact12", "uestc"):
            raise UserError(f"dataset {self.dataset} is labelled with actions; only datasets with captions are read")
        if self.data_dir is not None and self.dataset not in MDM_DATASETS:
            raise UserError(f"data_dir belongs to --dataset humanml or kit; dataset is {self.dataset}")
        return self

    @property
    def data_source(self) -> str:
        """Argument for `motions.data.dataset.load_dataset`."""
        if self.dataset not in MDM_DATASETS:
            return self.dataset
        return str(self.data_dir or MDM_DATASETS[self.dataset])


class TrainingDataSettings(DataSettings):
    """Motions of a supervised training."""

    max_frames: int = Field(default=196, ge=4)
    """Longer clips are cropped to this many frames, at a random place."""
