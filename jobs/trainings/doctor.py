"""The configuration of `jobs.doctor`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from cluster.settings import AddressSettings
from jobs.trainings.training_jobs import TrainingJob
from motions.settings import Settings


class DoctorConfig(Settings):
    """What a machine or a cluster lacks."""

    job: TrainingJob = "grpo"
    """The training of `preset` and `config`, `python -m jobs.NAME`."""

    preset: str | None = None
    """Also check whether a run with this preset could start here, by name or path."""

    config: Path | None = None
    """The same for a file of options."""

    save_dir: Path = Path("runs")
    """Folder in which runs would be kept: its disk and rights are checked."""

    check_data: Path | None = None
    """Check this data folder in the layout of HumanML3D or KIT-ML (or MDM's names `humanml` and `kit`) instead of the
    machine: all that is missing or malformed is reported in one pass."""

    cluster: AddressSettings = AddressSettings()

    important: ClassVar[tuple[str, ...]] = ("job", "preset", "config", "save_dir", "check_data", "ray_address")
