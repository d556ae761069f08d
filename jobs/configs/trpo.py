"""Configuration of `jobs.trpo`; imports neither torch, ray nor a physics engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import AliasChoices, Field, field_validator, model_validator

from cluster.settings import ClusterSettings, ConnectionSettings, RunSettings, SteppedRunSettings
from envs.settings import DeepMimicSettings
from learners.trpo.settings import TRPOSettings
from motions.base.errors import UserError
from motions.settings import Affects, Effect, Settings, redeclared

OWN_ENVIRONMENTS = {"DeepMimic": "kinetune/DeepMimic-v0", "DeepMimicBullet": "kinetune/DeepMimicBullet-v0"}
"""Short names of kinetune's own environments."""


class ControlRunSettings(SteppedRunSettings):
    """Run directory and length of a controller's training; a step of the run is an iteration."""

    save_dir: Path | None = redeclared(RunSettings, "save_dir", None)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Directory of the run; by default `runs/trpo-<clip or environment>-<seed>`. Inside a submitted Ray job the path
    must be absolute."""

    seed: int = redeclared(RunSettings, "seed", 0, below=2**31)
    """Seed of weights, data, environments and noise."""

    num_steps: int = redeclared(SteppedRunSettings, "num_steps", 5_000_000, spellings=("num_timesteps", "num_steps"))
    """Environment steps of the training, over all environments together."""

    save_interval: int = redeclared(
        SteppedRunSettings, "save_interval", 100, spellings=("save_per_iter", "save_interval"), affects="results"
    )
    """Iterations between checkpoints; there is always one at the end. Environments whose state cannot be saved (all but
    `DeepMimic` and `DeepMimicBullet`) start new episodes there, so that a resumed run equals an uninterrupted one."""

    best_metric: str | None = redeclared(RunSettings, "best_metric", "rollout/return")


class TRPORunSettings(ControlRunSettings):
    """Task and run directory."""

    affects: ClassVar[Affects] = "records"

    task: Literal["train", "evaluate", "sample"] = "train"
    """`train` a controller; `evaluate` one: returns and lengths of whole episodes; `sample`: the same, and write all
    their steps to `samples.npz`."""

    load_sft_pretrain: Annotated[Path | None, Effect("results")] = Field(
        default=None, validation_alias=AliasChoices("load_sft_pretrain", "pretrained_weight_path")
    )
    """Controller to start from: the result of `jobs.sft` or of an earlier training. Its shape, statistics and standard
    deviation are kept."""

    load_model_path: Path | None = Field(
        default=None, validation_alias=AliasChoices("load_model_path", "controller", "model_path")
    )
    """Controller to evaluate or sample; by default the one in `save_dir`."""


class EnvironmentSettings(Settings):
    """Which environment is acted in."""

    env_id: str = Field(default="DeepMimic", min_length=1, validation_alias=AliasChoices("env_id", "env"))
    """`DeepMimic` (MuJoCo), `DeepMimicBullet`, a gymnasium id such as `Hopper-v5`, or `package.module:id` where
    importing the module registers the id."""

    env_options: tuple[str, ...] = ()
    """Options of an environment other than DeepMimic, each as `name=value` (YAML): `frame_skip=2`."""

    @field_validator("env_options")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pair in value:
            if "=" not in pair or not pair.partition("=")[0]:
                raise UserError(f"env_options has {pair!r}; each is name=value")
        return value

    @model_validator(mode="after")
    def _others_have_options(self) -> Self:
        if self.is_own and self.env_options:
            raise UserError(f"env_options are for other environments; the options of {self.env_id} are flags")
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is one of kinetune's."""
        return self.env_id in OWN_ENVIRONMENTS

    @property
    def gymnasium_id(self) -> str:
        """Its id in gymnasium."""
        return OWN_ENVIRONMENTS.get(self.env_id, self.env_id)


class EpisodeEvaluationSettings(Settings):
    """Episodes of the tasks `evaluate` and `sample`."""

    affects: ClassVar[Affects] = "evaluation"

    num_eval_episodes: int = Field(
        default=10, ge=1, validation_alias=AliasChoices("num_eval_episodes", "eval_episodes")
    )
    """Number of episodes, each in an environment of its own."""

    max_episode_steps: int = Field(default=2048, ge=1)
    """Largest number of steps of an episode."""

    stochastic_policy: bool = False
    """Sample actions, as in training; otherwise use the mean action."""

    save_sample: bool = False
    """Write `samples.npz` also with the task `evaluate`."""


class ActorCriticSettings(Settings):
    """Shape of a new controller; not used with `load_sft_pretrain`."""

    hidden_size: int = Field(
        default=128, ge=1, le=4096, validation_alias=AliasChoices("hidden_size", "policy_hidden_size")
    )
    """Width of the hidden layers of policy and critic."""

    num_layers: int = Field(default=2, ge=1, le=16)
    """Number of hidden layers of policy and critic."""

    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Activation of the hidden layers."""

    initial_log_std: float = Field(default=-1.0, ge=-5, le=2)
    """Initial log of the standard deviation of actions."""

    normalize_observations: bool = True
    """Normalise observations by their running mean and standard deviation, clamped to +-5. Turn it off for observations
    that are small and of similar size."""


def require_one_shape(network: ActorCriticSettings, start: Path | None) -> None:
    """Checks that no shape is asked for beside that of the controller to start from.

    Raises:
        UserError: an option of the shape has another value than its default, which every `config.yaml` lists.
    """
    fields = type(network).model_fields
    shape = [f"{name} {value}" for name in fields if (value := getattr(network, name)) != fields[name].default]
    if start is not None and shape:
        raise UserError(
            f"{', '.join(shape)}: of a new controller, but {start} brings its own; leave it out, or leave out "
            "load_sft_pretrain"
        )


class RunnerSettings(Settings):
    """Environments of a training, and the processes that step them."""

    affects: ClassVar[Affects] = "speed"

    num_envs: Annotated[int, Effect("results")] = Field(default=32, ge=1)
    """Number of environments, over all runners together."""

    num_env_runners: Annotated[int, Effect("results")] = Field(default=0, ge=0)
    """Number of RLlib env runners, the processes that sample; 0 samples in the driver. A runner that dies is replaced.
    `num_envs` must be a multiple of it."""

    cpus_per_env_runner: float = Field(default=0.5, ge=0)
    """CPUs reserved by each env runner. Sampling and training take turns, so that half a core each is enough."""

    max_runner_restarts: int = Field(default=1000, ge=0)
    """How often each env runner is restarted before the run fails."""

    runner_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds after which an env runner that still works on one rollout is replaced."""

    threads: Annotated[int, Effect("results")] = Field(default=1, ge=1)
    """Threads of the numeric libraries in each process. More threads are slower for small networks."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.num_envs % max(1, self.num_env_runners):
            raise UserError(f"num_envs is {self.num_envs}: a multiple of num_env_runners, {self.num_env_runners}")
        return self

    @property
    def needed_cpus(self) -> float:
        """CPUs that the actors reserve."""
        return self.num_env_runners * self.cpus_per_env_runner

    def steps_each(self, steps_per_batch: int) -> int:
        """Steps that each environment makes in an iteration of at least so many together."""
        return -(-steps_per_batch // self.num_envs)

    def iterations(self, wanted_steps: int, steps_per_batch: int) -> int:
        """Approximate number of iterations of a training: steps that only reset environments do not count as steps."""
        return math.ceil(wanted_steps / (self.steps_each(steps_per_batch) * self.num_envs))


class SamplingProcessSettings(RunnerSettings):
    """Processes of the training."""

    affects: ClassVar[Affects] = "speed"

    num_learners: int = Field(default=0, ge=0)
    """Number of RLlib learners, the processes that train, each on its part of the batch; 0 trains in the driver."""

    cpus_per_learner: float = redeclared(ClusterSettings, "cpus_per_learner")
    """CPUs reserved by each learner."""

    gpus_per_learner: float = redeclared(ClusterSettings, "gpus_per_learner")
    """GPUs reserved by each learner; if `num_learners` is 0 and this is above 0, the driver trains on the first GPU."""

    @model_validator(mode="after")
    def _enough_for_all(self) -> Self:
        if self.num_learners > self.num_envs:
            raise UserError(f"num_learners is {self.num_learners}: at most num_envs, {self.num_envs}")
        return self

    @property
    def needed_cpus(self) -> float:
        """CPUs that the actors reserve."""
        return super().needed_cpus + self.num_learners * self.cpus_per_learner


def require_driver_alone(cluster: ConnectionSettings, processes: RunnerSettings) -> None:
    """Raises UserError for processes beside the driver where there is no cluster that could start them."""
    known = [name for name in ("num_env_runners", "num_learners") if hasattr(processes, name)]
    given = [f"{name} is {count}" for name in known if (count := getattr(processes, name))]
    if cluster.runtime == "local" and given:
        raise UserError(f"{', '.join(given)}, but runtime local has no processes: {' and '.join(known)} must be 0")


class TRPOJobConfig(Settings):
    """Training of a controller by TRPO."""

    run: TRPORunSettings = TRPORunSettings()
    environment: EnvironmentSettings = EnvironmentSettings()
    character: DeepMimicSettings = DeepMimicSettings()
    network: ActorCriticSettings = ActorCriticSettings()
    trpo: TRPOSettings = TRPOSettings()
    processes: SamplingProcessSettings = SamplingProcessSettings()
    evaluation: EpisodeEvaluationSettings = EpisodeEvaluationSettings()
    cluster: ConnectionSettings = ConnectionSettings()

    important: ClassVar[tuple[str, ...]] = (
        *("task", "env_id", "motion", "save_dir", "load_sft_pretrain", "load_model_path", "num_timesteps"),
        *("num_envs", "num_env_runners", "resume"),
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        env_id = self.environment.env_id
        given = self.character.model_fields_set
        # The config.yaml of an earlier run lists every option; those that are not used have their defaults.
        unused = given == DeepMimicSettings.model_fields.keys() and self.character == DeepMimicSettings()
        if given and not unused and not self.environment.is_own:
            raise UserError(f"{', '.join(sorted(given)[:4])}: options of DeepMimic, but env_id is {env_id}")
        if not self.environment.is_own and self.trpo.cloning_weight:
            raise UserError(f"cloning_weight needs an environment with an expert; {env_id} has none")
        require_driver_alone(self.cluster, self.processes)
        require_one_shape(self.network, self.run.load_sft_pretrain)
        if self.run.task == "train" and self.run.load_model_path is not None:
            raise UserError("load_model_path is what evaluate plays; a training starts from load_sft_pretrain")
        return self

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """See `Settings.ignored_options`: a controller to start from brings its own shape."""
        return () if self.run.load_sft_pretrain is None else ("network",)

    @property
    def environment_options(self) -> dict[str, Any]:
        """Keyword arguments of the environment."""
        if self.environment.is_own:
            return {name: getattr(self.character, name) for name in DeepMimicSettings.model_fields}
        pairs = (pair.partition("=") for pair in self.environment.env_options)
        return {name: yaml.safe_load(value) for name, _, value in pairs}

    @property
    def folder(self) -> Path:
        """The run's directory: `save_dir`, or its default."""
        clips = "-".join(Path(clip).stem for clip in self.character.motion)
        subject = clips if self.environment.is_own else self.environment.env_id
        default = Path("runs") / f"trpo-{subject.replace('/', '-').replace(':', '-')}-{self.run.seed}"
        return self.run.save_dir or default

    @property
    def opened_run(self) -> SteppedRunSettings:
        """The options of the run, in its directory."""
        return self.run.model_copy(update={"save_dir": self.folder})
