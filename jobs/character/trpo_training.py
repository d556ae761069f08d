"""The task `train` of `jobs.trpo`: an algorithm, with or without Ray, in the training loop."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from cluster.records.opening import inspect
from cluster.records.run import cluster_of, open_run
from cluster.run.training_loop import to_arrays, to_tensors, train
from jobs.configs.trpo import ActorCriticSettings, SamplingProcessSettings, TRPOJobConfig
from jobs.report import write_training_report
from jobs.report.from_control import trpo_charts
from learners.trpo.learner import TRPOLearner
from learners.trpo.training import ControlTraining
from rollouts.control.actor_critic import (
    CONTROLLER_FILE,
    ActorCritic,
    ActorCriticConfig,
    load_controller,
    save_controller,
)
from rollouts.control.environments import make_control_env, observation_schema
from rollouts.control.vector_sampler import VectorSampler, spaces_of

CURVES = ("rollout/return", "rollout/length", "rollout/reward", "policy/kl", "critic/explained_variance")
SHOWN = ("rollout/return", "rollout/length", "rollout/reward", "policy/kl")


class ControlAlgorithm(Protocol):
    """Interface of a training: `cluster.rllib.trpo.TRPO`, or `learners.trpo.training.ControlTraining` without Ray."""

    last_metrics: dict[str, float]

    @property
    def num_steps(self) -> int: ...

    @property
    def finished_iterations(self) -> int: ...

    @property
    def restorable(self) -> bool: ...

    def train(self) -> Any: ...

    def weights(self) -> dict[str, np.ndarray]: ...

    def reset_environments(self) -> None: ...

    def progress(self) -> dict[str, Any]: ...

    def load_progress(self, progress: dict[str, Any], /) -> None: ...

    def learner_state(self) -> dict[str, Any]: ...

    def load_learner_state(self, state: dict[str, Any], /) -> None: ...

    def stop(self) -> None: ...


def run(config: TRPOJobConfig) -> None:
    """Starts or resumes a training, which writes `controller.safetensors` into the run's folder.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: the controller to start from was made for other observations, or options contradict each other.
    """
    torch.set_num_threads(config.processes.threads)
    settings = config.opened_run
    inspect(settings)
    schema, network = prepare(config)
    fingerprint = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        stack.enter_context(cluster_of(config.cluster, needed_cpus(config.processes)))
        opened = stack.enter_context(open_run(settings, config, fingerprint, num_iterations(config), shown=SHOWN))
        with opened.telemetry.phase("start"):
            algorithm = stack.enter_context(open_algorithm(config, network))
        # The loop's steps are iterations, each of which begins with a rollout.
        training = Iterations(config, algorithm, schema, network)
        train(opened, training, settings.save_interval, curves=CURVES, axis="timesteps", phase="rollout")
        title = f"A controller for {config.environment.env_id}, trained by TRPO"
        report = write_training_report(opened.path, title, SHOWN, trpo_charts)
        iterations, file = algorithm.finished_iterations, opened.path / CONTROLLER_FILE
        print(f"{algorithm.num_steps} steps, {iterations} iterations: {file}\nreport: {report}")


class Iterations:
    """Iterations of an algorithm as the loop's steps (`cluster.run.training_loop.Training`)."""

    def __init__(
        self, config: TRPOJobConfig, algorithm: ControlAlgorithm, schema: dict[str, Any], network: ActorCritic
    ) -> None:
        """`network` has the shape of the trained controller; it is used to write weights to files."""
        self._config = config
        self._algorithm = algorithm
        self._schema = schema
        self._network = network

    @property
    def finished_steps(self) -> int:
        """Number of iterations so far."""
        return self._algorithm.finished_iterations

    @property
    def num_steps(self) -> int:
        """Iterations of the whole training, if those to come are as long as those until now."""
        made, wanted, iterations = self._algorithm.num_steps, self._config.run.num_steps, self.finished_steps
        return iterations + math.ceil(max(0, wanted - made) * iterations / max(1, made))

    @property
    def done(self) -> bool:
        """Whether `num_timesteps` environment steps were made."""
        return self._algorithm.num_steps >= self._config.run.num_steps

    def step(self) -> dict[str, float]:
        """Makes one iteration; returns its metrics."""
        self._algorithm.train()
        return {"timesteps": float(self._algorithm.num_steps), **self._algorithm.last_metrics}

    def state(self) -> dict[str, Any]:
        """Learner, counters and environments; those that cannot be saved start new episodes here."""
        if not self._algorithm.restorable:
            self._algorithm.reset_environments()
        return {"learner": self._algorithm.learner_state(), "progress": to_tensors(self._algorithm.progress())}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`."""
        self._algorithm.load_learner_state(state["learner"])
        self._algorithm.load_progress(to_arrays(state["progress"]))

    def export(self, folder: Path) -> Path:
        """Writes the present controller; returns its path."""
        load_weights(self._network, self._algorithm.weights())
        about = {
            "env_id": self._config.environment.env_id,
            "timesteps": self._algorithm.num_steps,
            "task": self._config.environment_options,
            "seed": self._config.run.seed,
        }
        return save_controller(folder, self._network, self._schema, json.loads(json.dumps(about, default=str)))


def load_weights(network: ActorCritic, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads the result of `ControlAlgorithm.weights` into a network of the same shape."""
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})


def num_iterations(config: TRPOJobConfig) -> int:
    """Approximate number of iterations: steps that only reset environments do not count as steps."""
    num_envs = config.processes.num_envs
    return math.ceil(config.run.num_steps / (-(-config.trpo.steps_per_batch // num_envs) * num_envs))


def needed_cpus(processes: SamplingProcessSettings) -> float:
    """CPUs that the actors reserve."""
    learners = processes.num_learners * processes.cpus_per_learner
    return processes.num_env_runners * processes.cpus_per_env_runner + learners


def prepare(config: TRPOJobConfig) -> tuple[dict[str, Any], ActorCritic]:
    """The environment's schema, and the controller that training starts from.

    Raises:
        UserError: there is no such environment, or the controller to start from does not fit it.
    """
    env = make_control_env(config.environment.gymnasium_id, 1, config.environment_options)
    schema = observation_schema(env)
    if config.run.load_sft_pretrain is not None:
        network = load_controller(config.run.load_sft_pretrain, schema).controller
    else:
        network = new_actor_critic(config, env)
    env.close()
    return schema, network


def new_actor_critic(config: TRPOJobConfig, env: VectorEnv) -> ActorCritic:
    """A controller with random weights."""
    return ActorCritic(ActorCriticConfig(*spaces_of(env), **controller_shape(config.network)), config.run.seed)


def controller_shape(network: ActorCriticSettings) -> dict[str, Any]:
    """Fields of `ActorCriticConfig` for a new controller."""
    return {
        "hidden_sizes": (network.hidden_size,) * network.num_layers,
        **network.model_dump(include={"activation", "initial_log_std", "normalize_observations"}),
    }


@contextmanager
def open_algorithm(config: TRPOJobConfig, network: ActorCritic) -> Iterator[ControlAlgorithm]:
    """Builds the training, and stops it when the block ends."""
    algorithm = local_training(config, network) if config.cluster.runtime == "local" else rllib_training(config)
    try:
        yield algorithm
    finally:
        algorithm.stop()


def local_training(config: TRPOJobConfig, network: ActorCritic) -> ControlAlgorithm:
    """A training in one process, without Ray."""
    seed = config.run.seed
    env = make_control_env(config.environment.gymnasium_id, config.processes.num_envs, config.environment_options)
    learner = TRPOLearner(copy.deepcopy(network).train(), config.trpo, seed)
    return ControlTraining(learner, VectorSampler(env, seed, record_expert=config.trpo.cloning_weight > 0))


def rllib_training(config: TRPOJobConfig) -> ControlAlgorithm:
    """A training by RLlib's algorithm."""
    from cluster.rllib.trpo import TRPO

    built = rllib_config(config).build_algo()
    assert isinstance(built, TRPO)
    return built


def rllib_config(config: TRPOJobConfig) -> Any:
    """The job's options for RLlib, and for Tune: `tune.Tuner(TRPO, param_space=rllib_config(config).training(...))`."""
    from cluster.rllib.module import LOAD_PATH, SEED
    from cluster.rllib.trpo import TRPOConfig

    start, processes, seed = config.run.load_sft_pretrain, config.processes, config.run.seed
    load_path = None if start is None else str(start.absolute())
    runners: dict[str, Any] = {
        "num_env_runners": processes.num_env_runners,
        "num_envs_per_env_runner": processes.num_envs // max(1, processes.num_env_runners),
        "num_cpus_per_env_runner": processes.cpus_per_env_runner,
    }
    return (
        TRPOConfig()
        .environment(config.environment.gymnasium_id, env_config=config.environment_options)
        .env_runners(**runners)
        .learners(
            num_learners=processes.num_learners,
            num_cpus_per_learner=processes.cpus_per_learner if processes.num_learners else "auto",
            num_gpus_per_learner=processes.gpus_per_learner,
        )
        .fault_tolerance(restart_failed_env_runners=True, max_num_env_runner_restarts=processes.max_runner_restarts)
        .rl_module(model_config={**controller_shape(config.network), SEED: seed, LOAD_PATH: load_path})
        .debugging(seed=seed, log_level="ERROR")
        .training(**config.trpo.model_dump(), runner_timeout_s=processes.runner_timeout_s)
    )


def describe(config: TRPOJobConfig) -> str:
    """Description of the training, for `--dry_run`.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: there is no such environment, or the controller does not fit it.
    """
    opening = inspect(config.opened_run, config=config)
    schema, network = prepare(config)
    processes, start = config.processes, config.run.load_sft_pretrain
    steps = -(-config.trpo.steps_per_batch // processes.num_envs)
    policy = sum(parameter.numel() for parameter in network.policy_parameters())
    critic = sum(parameter.numel() for parameter in network.critic_parameters())
    width = network.config.observation_dim + 2 * network.config.action_dim + 4
    runners, learners = processes.num_env_runners or "the driver as", processes.num_learners or "the driver as"
    return "\n".join(
        [
            f"folder {config.folder}: {opening}",
            f"environment {config.environment.gymnasium_id}: {network.config.observation_dim} observed numbers, "
            f"{network.config.action_dim} actions",
            f"controller: {policy / 1e3:.1f} k parameters of the policy, {critic / 1e3:.1f} k of the critic"
            + (f", from {start}" if start else ""),
            f"batch: {steps} steps of {processes.num_envs} environments = {steps * processes.num_envs}, "
            f"{steps * processes.num_envs * width * 4 / 1e6:.1f} MB; about {num_iterations(config)} iterations",
            f"processes: {runners} runner, {learners} learner; {needed_cpus(config.processes):g} CPUs reserved",
            f"observations: {', '.join(schema) if schema else 'no schema'}",
        ]
    )
