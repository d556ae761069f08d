"""Options of the cluster and of the run directory; imports neither torch nor ray.

`ClusterSettings` (with `ConnectionSettings`) says on what a run runs and, apart from `threads_per_actor` and
`deterministic`, changes no bit of its result; `RunSettings` says what every run keeps and who is told, and its
subclasses how long it goes on; `WorkerSettings` is for trainings on Ray Train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings, redeclared

TrackerName = Literal["NoPlatform", "TensorboardPlatform", "WandBPlatform"]
PlacementStrategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


class ConnectionSettings(Settings):
    """Ray cluster."""

    affects: ClassVar[Affects] = "speed"

    runtime: Literal["ray", "local"] = "ray"
    """`ray`: on a cluster. `local`: in this process, without Ray, for debugging and notebooks. Both compute the same
    thing."""

    ray_address: str = "auto"
    """Where the cluster is. `auto`: the cluster of the job this runs in, or the one `RAY_ADDRESS` names, else a cluster
    of its own. `local`: a cluster of its own, always. Otherwise an address such as `10.0.0.1:6379`."""

    object_store_mb: int | None = Field(default=None, ge=80)
    """Object store of a cluster of its own, in MB. Default: Ray's, 30 % of the memory."""

    dashboard: bool = True
    """Start the dashboard with a cluster of its own. Metrics can be scraped with and without it."""

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


class ClusterSettings(ConnectionSettings):
    """Actors."""

    affects: ClassVar[Affects] = "speed"

    num_rollout_actors: int = Field(default=1, ge=1)
    """Actors that sample motions. More are faster and change no bit."""

    num_reward_actors: int = Field(default=1, ge=1)
    """Actors of each reward."""

    cpus_per_rollout_actor: float = Field(default=0.5, ge=0)
    """CPUs reserved by a rollout actor. Fractions share a core: rollouts and learner take turns, so half a core each is
    a whole one for whoever computes."""

    cpus_per_reward_actor: float = Field(default=0.25, ge=0)
    """CPUs reserved by a reward actor."""

    cpus_per_learner: float = Field(default=0.5, ge=0)
    """CPUs reserved by the learner."""

    gpus_per_rollout_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved by a rollout actor; a fraction below 1 shares one card."""

    gpus_per_reward_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved by a reward actor."""

    gpus_per_learner: float = Field(default=0.0, ge=0)
    """GPUs reserved by the learner."""

    threads_per_actor: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Threads of the numeric libraries in every actor. A fixed number, since sums in another order are other bits."""

    deterministic: Annotated[bool, Effect("results")] = True
    """Ask PyTorch for deterministic kernels, in every actor."""

    placement_strategy: PlacementStrategy = "PACK"
    """How Ray spreads the actors over nodes: close together, apart, or strictly so."""

    max_in_flight: int = Field(default=2, ge=1)
    """Calls given to one rollout actor at a time: one runs, the others wait on the spot. Fewer lose less when an actor
    dies, more hide the way to the controller and back."""

    max_attempts: int = Field(default=3, ge=1)
    """Times a call is tried before the run gives up: its actor died, hung, or (rewards only) the call raised."""

    call_timeout_s: float = Field(default=600.0, gt=0)
    """An actor that has work and finishes nothing for so long is killed and named; its call is tried again
    elsewhere."""

    learner_timeout_s: float = Field(default=3600.0, gt=0)
    """The same for one call of the learner."""

    start_timeout_s: float = Field(default=300.0, gt=0)
    """Time for an actor to be placed and built (it loads models)."""

    stall_timeout_s: float = Field(default=120.0, gt=0)
    """When nothing finishes anywhere for so long, the log says which actor works on what and how much is queued."""

    resource_wait_s: float = Field(default=0.0, ge=0)
    """Time for missing resources to appear before the preflight fails; above 0 only for clusters that grow on
    demand."""

    @field_validator("gpus_per_rollout_actor", "gpus_per_reward_actor", "gpus_per_learner")
    @classmethod
    def _whole_cards(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise UserError(f"{value} GPUs: above 1 only whole numbers, below 1 any fraction")
        return value


class WorkerSettings(Settings):
    """Ray Train workers."""

    affects: ClassVar[Affects] = "speed"

    num_workers: int = Field(default=1, ge=1)
    """Processes that share data collection and training. For the same data, more of them change the result by rounding
    only."""

    cpus_per_worker: float = Field(default=1.0, ge=0)
    """CPUs reserved by each."""

    gpus_per_worker: Annotated[float, Effect("results")] = Field(default=0.0, ge=0)
    """GPUs reserved by each."""

    threads_per_worker: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Threads of the numeric libraries in each."""

    max_failures: int = Field(default=1, ge=0)
    """Times that the workers are started again from their last checkpoint after one of them died."""


class TrackerSettings(Settings):
    """Trackers."""

    affects: ClassVar[Affects] = "records"

    train_platform_type: TrackerName = Field(
        default="NoPlatform", validation_alias=AliasChoices("train_platform_type", "tracker")
    )
    """Where metrics go besides `metrics.jsonl` and the cluster's metrics endpoint."""

    wandb_project: str = Field(default="kinetune", min_length=1)
    """Project of the Weights & Biases run."""

    wandb_mode: Literal["online", "offline"] = "online"
    """`offline` writes the Weights & Biases run below `save_dir`, for `wandb sync` later."""


class RunSettings(TrackerSettings):
    """Run directory, checkpoints and progress."""

    affects: ClassVar[Affects] = "records"

    save_dir: Path
    """Directory of the run: configuration, metrics, checkpoints, samples, report. Inside a submitted Ray job it must be
    absolute, because the job's working copy is thrown away."""

    resume: bool = False
    """Continue the run found in `save_dir` from its last checkpoint, to the same bits; an empty directory starts a new
    run, so a retried job may always say this."""

    overwrite: bool = False
    """If `save_dir` holds a run, move it aside to `save_dir.old-1` (`-2`, ...) and start anew. Nothing is deleted."""

    allow_changed: tuple[str, ...] = ()
    """Options that may differ from the run being resumed; without it a change that affects results is refused. `data`
    stands for the data set."""

    seed: Annotated[int, Effect("results")] = Field(default=10, ge=0, lt=2**63)
    """Seed of everything random in the run."""

    save_interval: int = Field(default=10, ge=1)
    """Steps between checkpoints; there is one after the last step in any case."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept."""

    best_metric: str | None = None
    """Metric of `metrics.jsonl` (for an evaluation `evaluation/NAME`) by which the best checkpoint is kept as well, in
    `best/`, whatever `keep_checkpoints` says. It must have been measured at the step of the checkpoint."""

    best_mode: Literal["max", "min"] = "max"
    """Whether the largest or the smallest value of `best_metric` is the best."""

    log_interval: int = Field(default=1, ge=1)
    """Steps between lines of text when the output is no terminal. Metrics are recorded at every step."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.resume and self.overwrite:
            raise UserError("resume and overwrite are both set: continue the run in save_dir, or start anew?")
        return self


class SteppedRunSettings(RunSettings):
    """A run of a given length."""

    num_steps: Annotated[int, Effect("length")] = Field(default=100, ge=1)
    """Steps of the run."""


class RolloutRunSettings(SteppedRunSettings):
    """Run directory, length and evaluation; a step is rollouts, rewards and one update."""

    affects: ClassVar[Affects] = "records"

    best_metric: str | None = redeclared(RunSettings, "best_metric", "evaluation/total")

    eval_every: int = Field(default=10, ge=0)
    """Steps between evaluations with fixed prompts and seeds; there is one before the first step and one after the last
    in any case. 0: only those two."""

    trace: bool = False
    """Write `trace.json`, every call of every actor as Chrome trace events (chrome://tracing, ui.perfetto.dev)."""


class TrainingRunSettings(RunSettings):
    """Run directory of a supervised training, which is the trained model's folder as well."""

    save_interval: int = redeclared(RunSettings, "save_interval", 1000)
    keep_checkpoints: int = redeclared(RunSettings, "keep_checkpoints", 1)
    log_interval: int = redeclared(RunSettings, "log_interval", 100)

    weights_dtype: Literal["float32", "float16"] = "float32"
    """Storage of the written weights; float16 halves the files."""

    max_frames: int = Field(default=196, ge=4)
    """Longer clips are cropped to this many frames, at a random place."""
