"""Options of the cluster and of the run directory; imports neither torch nor ray.

`ClusterSettings` (with `ActorSettings`, `SupervisionSettings`, `ConnectionSettings` and `AddressSettings`) says on what
a run runs and, apart from `threads_per_actor` and `deterministic`, changes no bit of its result; `RunSettings` says
what every run keeps and who is told, `SteppedRunSettings` also how long it goes on; `WorkerSettings` is for trainings
on Ray Train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings, redeclared

TrackerName = Literal["NoPlatform", "TensorboardPlatform", "WandBPlatform"]
PlacementStrategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


class AddressSettings(Settings):
    """Which Ray cluster is used."""

    affects: ClassVar[Affects] = "speed"

    ray_address: str = "auto"
    """Address of the cluster. `auto`: the cluster of the job that this runs in, or the one that `RAY_ADDRESS` names,
    otherwise a new one on this machine. `local`: always a new one on this machine. Otherwise an address such as
    `10.0.0.1:6379`."""

    object_store_mb: int | None = Field(default=None, ge=80)
    """Size in MB of the object store of a new cluster; by default Ray's, 30 % of the memory."""

    dashboard: bool = True
    """Start the dashboard with a new cluster. Metrics can be scraped with and without it."""

    @field_validator("ray_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if value in ("auto", "local"):
            return value
        if value.startswith("ray://"):
            raise UserError(
                f"ray_address is {value!r}: Ray's client is not supported; send the run with ray job submit"
            )
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(f"ray_address is {value!r}: expected auto, local or host:port")
        return value


class ConnectionSettings(AddressSettings):
    """Connection to a Ray cluster."""

    affects: ClassVar[Affects] = "speed"

    runtime: Literal["ray", "local"] = "ray"
    """`ray`: run on a cluster. `local`: run in this process without Ray, for debugging and notebooks. Both give the
    same results."""


class SupervisionSettings(ConnectionSettings):
    """What all actors have in common: threads, places, and how long they are waited for."""

    affects: ClassVar[Affects] = "speed"

    threads_per_actor: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Threads of the numeric libraries in every actor. Sums in another order give other bits, so results depend on
    it."""

    deterministic: Annotated[bool, Effect("results")] = True
    """Use PyTorch's deterministic kernels in every actor."""

    placement_strategy: PlacementStrategy = "PACK"
    """Ray's placement strategy: actors close together (PACK), spread over nodes (SPREAD), or strictly so."""

    max_in_flight: int = Field(default=2, ge=1)
    """Calls assigned to one actor at a time: one runs, the others wait there. With fewer calls less is lost
    when an actor dies; with more the actor does not wait for the controller."""

    max_attempts: int = Field(default=3, ge=1)
    """How often a call is tried before the run fails: its actor died, hung, or (rewards only) the call raised an
    error."""

    call_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds without progress after which an actor with work is killed and named in the log; its call is tried again
    elsewhere."""

    start_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds allowed for an actor to be placed and built (it loads models)."""

    stall_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds without progress of any actor after which the log says what each one does and how much is queued."""

    resource_wait_s: float = Field(default=0.0, ge=0)
    """Seconds to wait for missing resources before the run fails; above 0 only for clusters that grow on demand."""


class ActorSettings(SupervisionSettings):
    """Actors that generate and score motions, and their resources."""

    affects: ClassVar[Affects] = "speed"

    num_rollout_actors: int = Field(default=1, ge=1)
    """Number of actors that generate motions. More are faster and do not change results."""

    num_reward_actors: int = Field(default=1, ge=1)
    """Number of actors per reward."""

    cpus_per_rollout_actor: float = Field(default=0.5, ge=0)
    """CPUs reserved by each rollout actor. Rollouts and learner take turns, so half a core each is enough."""

    cpus_per_reward_actor: float = Field(default=0.25, ge=0)
    """CPUs reserved by each reward actor."""

    gpus_per_rollout_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved by each rollout actor; a fraction below 1 shares one GPU."""

    gpus_per_reward_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved by each reward actor."""

    @field_validator("gpus_per_rollout_actor", "gpus_per_reward_actor", "gpus_per_learner", check_fields=False)
    @classmethod
    def _whole_cards(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise UserError(f"{value} GPUs: above 1 only whole numbers, below 1 any fraction")
        return value


class ClusterSettings(ActorSettings):
    """Actors of the run and their resources."""

    affects: ClassVar[Affects] = "speed"

    num_learners: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Number of learners that make each update together, every one with its share of the micro-batches. Sums in another
    order give other bits, so results differ by rounding. Several need `runtime` `ray`."""

    cpus_per_learner: float = Field(default=0.5, ge=0)
    """CPUs reserved by each learner."""

    gpus_per_learner: float = Field(default=0.0, ge=0)
    """GPUs reserved by each learner."""

    learner_timeout_s: float = Field(default=3600.0, gt=0)
    """The time limit of `call_timeout_s` for a call of a learner."""

    peak_tflops: float | None = Field(default=None, gt=0)
    """Speed of one actor's processor in 10^12 floating-point operations a second, as its maker states it for the type
    that is used: `cluster/rollout_mfu` and `cluster/update_mfu` are shares of it. By default what a float32 matrix
    product reaches where the job runs."""

    @model_validator(mode="after")
    def _learners_have_processes(self) -> Self:
        if self.num_learners > 1 and self.runtime == "local":
            raise UserError(
                f"num_learners is {self.num_learners} and runtime local: learners that train together are processes of "
                "a cluster; give --runtime ray, or --num_learners 1"
            )
        if self.num_learners > 1 and 0 < self.gpus_per_learner < 1:
            raise UserError(
                f"gpus_per_learner is {self.gpus_per_learner:g} and num_learners {self.num_learners}: learners that "
                "train together need a GPU each; give 1, or 0 to train on the CPU"
            )
        return self


class WorkerSettings(Settings):
    """Processes of a training on Ray Train."""

    affects: ClassVar[Affects] = "speed"

    num_workers: int = Field(default=1, ge=1)
    """Number of processes that share data collection and training. With the same data they change results by rounding
    only."""

    cpus_per_worker: float = Field(default=1.0, ge=0)
    """CPUs reserved by each."""

    gpus_per_worker: Annotated[float, Effect("results")] = Field(default=0.0, ge=0)
    """GPUs reserved by each."""

    threads_per_worker: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Threads of the numeric libraries in each worker."""

    max_failures: int = Field(default=1, ge=0)
    """How often the workers are restarted from their last checkpoint after one has died."""


class TrackerSettings(Settings):
    """TensorBoard and Weights & Biases."""

    affects: ClassVar[Affects] = "records"

    train_platform_type: TrackerName = Field(
        default="NoPlatform", validation_alias=AliasChoices("train_platform_type", "tracker")
    )
    """Tracker that receives metrics, besides `metrics.jsonl` and the cluster's metrics endpoint."""

    wandb_project: str = Field(default="kinetune", min_length=1)
    """Project of the Weights & Biases run."""

    wandb_mode: Literal["online", "offline"] = "online"
    """`offline` writes the Weights & Biases run below `save_dir`, for a later `wandb sync`."""


class RunSettings(TrackerSettings):
    """Run directory, checkpoints and progress."""

    affects: ClassVar[Affects] = "records"

    save_dir: Path
    """Directory of the run: configuration, metrics, checkpoints, samples, report. Inside a submitted Ray job the path
    must be absolute, because the job's working copy is deleted."""

    resume: bool = False
    """Continue the run in `save_dir` from its last checkpoint, bit for bit; an empty directory starts a new run, so a
    retried job may always set this."""

    overwrite: bool = False
    """If `save_dir` holds a run, move it aside to `save_dir.old-1` (`-2`, ...) and start a new one. Nothing is
    deleted."""

    allow_changed: tuple[str, ...] = ()
    """Options that may differ from the run being resumed; otherwise a change that affects results is an error. `data`
    stands for the data set."""

    seed: Annotated[int, Effect("results")] = Field(default=10, ge=0, lt=2**63)
    """Seed of all random numbers of the run."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep."""

    best_metric: str | None = None
    """Metric of `metrics.jsonl` (for an evaluation `evaluation/NAME`) by which the best checkpoint is kept as well, in
    `best/`, whatever `keep_checkpoints` says. It must have been measured at the step of the checkpoint."""

    best_mode: Literal["max", "min"] = "max"
    """Whether the largest or the smallest value of `best_metric` is the best."""

    log_interval: int = Field(default=1, ge=1)
    """Steps between lines of text if the output is no terminal. Metrics are recorded at every step."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite are both set: continue the run in save_dir, or start anew?")
        return self


class SteppedRunSettings(RunSettings):
    """A run of a given length, with checkpoints between its steps."""

    affects: ClassVar[Affects] = "records"

    num_steps: Annotated[int, Effect("length")] = Field(default=100, ge=1)
    """Steps of the run."""

    save_interval: int = Field(default=10, ge=1)
    """Steps between checkpoints; there is always one after the last step."""


class RolloutRunSettings(SteppedRunSettings):
    """Run directory, length and evaluation; a step is rollouts, rewards and one update."""

    affects: ClassVar[Affects] = "records"

    best_metric: str | None = redeclared(RunSettings, "best_metric", "evaluation/total")

    eval_every: int = Field(default=10, ge=0)
    """Steps between evaluations with fixed prompts and seeds; there is always one before the first and one after the
    last step. 0: only those two."""

    trace: bool = False
    """Write `trace.json`, every call of every actor as Chrome trace events (chrome://tracing, ui.perfetto.dev)."""


class TrainingRunSettings(SteppedRunSettings):
    """Run directory of a supervised training, which is the trained model's folder as well."""

    save_interval: int = redeclared(SteppedRunSettings, "save_interval", 1000)
    keep_checkpoints: int = redeclared(RunSettings, "keep_checkpoints", 1)
    log_interval: int = redeclared(RunSettings, "log_interval", 100)

    weights_dtype: Literal["float32", "float16"] = "float32"
    """Type of the saved weights; float16 halves the size of the files."""
