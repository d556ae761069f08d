"""The configuration of `jobs.deploy`; imports neither torch nor ray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from jobs.trainings.training_jobs import TrainingJob
from motions.base.errors import UserError
from motions.settings import Settings


class DeployedRunSettings(Settings):
    """The run that is deployed."""

    job: TrainingJob = "grpo"
    """The training, `python -m jobs.NAME`."""

    preset: str | None = None
    """Its preset, by the name of a shipped one: it is read on the cluster too."""

    set: tuple[str, ...] = ()
    """Its further options, as `num_steps=200`."""

    save_dir: Path | None = None
    """Its run directory, an absolute path on storage that all machines share; for KubeRay by default
    `/shared/runs/NAME`."""

    code: str = "file:///shared/kinetune.zip"
    """Where KubeRay's job finds the code: address of a .zip with one folder on top (file, https, s3, gs)."""

    retries: int = Field(default=3, ge=0)
    """How often KubeRay starts a failed job again; the run goes on from its last checkpoint."""

    hours: int = Field(default=24, ge=1)
    """After how long Slurm ends the job."""


class PlaceSettings(Settings):
    """The place where it runs."""

    name: str = Field(default="kinetune", pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")
    """Name of the cluster and of the job: small letters, digits and dashes."""

    namespace: str = "default"
    """Namespace of Kubernetes."""

    image: str = "kinetune:cpu"
    """Image of machines without GPU, as docker/cpu.Dockerfile makes it."""

    gpu_image: str = "kinetune:cuda"
    """Image of machines with GPUs, as docker/cuda.Dockerfile makes it."""

    claim: str = "kinetune-runs"
    """Volume claim for run directories, mounted at /shared by all pods (ReadWriteMany)."""

    token_secret: str = "kinetune-token"
    """Secret with Ray's token under the key `auth_token`."""

    memory_gb_per_actor: int = Field(default=4, ge=1)
    """Memory of each actor, and of the head."""

    most_machines: int = Field(default=16, ge=1)
    """Largest number of machines to which the autoscaler lets a group grow."""


class DeployConfig(Settings):
    """A manifest or a script for a run."""

    positional: ClassVar[str] = "target"

    target: Literal["kuberay", "kuberay-cluster", "slurm"]
    """`kuberay`: a RayJob, which makes a cluster for the run. `kuberay-cluster`: a RayCluster of the run's size that
    stays. `slurm`: a script for sbatch. The word that stands before all options."""

    run: DeployedRunSettings = DeployedRunSettings()
    place: PlaceSettings = PlaceSettings()

    important: ClassVar[tuple[str, ...]] = ("target", "job", "preset", "set", "save_dir", "name", "image")

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        if self.run.save_dir is not None and not self.run.save_dir.is_absolute():
            raise UserError(f"save_dir {self.run.save_dir} is relative: give an absolute path that all machines share")
        if self.run.save_dir is None and self.target == "slurm":
            raise UserError("save_dir is required for slurm: an absolute path that all nodes share")
        return self
