"""The configuration of each job: one flat model made of the layers' settings groups and the job's own.

Imports neither torch nor ray: a laptop without either validates a command line, and `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import BUILTIN, Settings

MDM_DATASETS = {"humanml": "dataset/HumanML3D", "kit": "dataset/KIT-ML"}
"""MDM's dataset names and the folders it reads them from."""


class DataSettings(Settings):
    """Motions and captions."""

    dataset: str = BUILTIN
    """`builtin` (real mocap that ships with pybullet, retargeted), a folder in HumanML3D's layout, or MDM's names
    `humanml` and `kit`, whose folder is `data_dir`."""

    data_dir: Path | None = None
    """Folder of `--dataset humanml` or `kit`; by default the one MDM uses, `dataset/HumanML3D` or `dataset/KIT-ML`."""

    @field_validator("data_dir", mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        """MDM's command line says '' for the default."""
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
        """What `motions.data.dataset.load_dataset` reads."""
        if self.dataset not in MDM_DATASETS:
            return self.dataset
        return str(self.data_dir or MDM_DATASETS[self.dataset])
