"""What the trainings of controllers on rollouts have in common: an algorithm, with or without Ray, as a `Training`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cluster.records.run import Run, cluster_of, open_run
from cluster.run.training_loop import to_arrays, to_tensors
from jobs.character.own_motions import show_own_motions
from jobs.configs.trpo import ActorCriticSettings, TRPOJobConfig
from jobs.configs.world_model import WorldModelJobConfig
from jobs.report.from_training import ChartsOf, write_training_report
from learners.rollout_training import RolloutTraining
from rollouts.control.actor_critic import (
    CONTROLLER_FILE,
    ActorCritic,
    ActorCriticConfig,
    load_actor_critic_arrays,
    load_controller,
    save_controller,
)


class Iterations:
    """Iterations of an algorithm as the loop's steps (`cluster.run.training_loop.Training`).

    Args:
        algorithm: which is trained.
        network: of the trained controller's shape; it is used to write weights to files.
        wanted_steps: environment steps of the training.
        schema: of the environment's observations, for the controller's file.
        about: further entries of the controller's file.
    """

    def __init__(
        self,
        algorithm: RolloutTraining,
        network: ActorCritic,
        wanted_steps: int,
        schema: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        self.algorithm = algorithm
        self.network = network
        self._wanted_steps = wanted_steps
        self._schema = schema
        self._about = about

    @property
    def finished_steps(self) -> int:
        """Number of iterations so far."""
        return self.algorithm.finished_iterations

    @property
    def num_steps(self) -> int:
        """Iterations of the whole training, if those to come are as long as those until now."""
        made, iterations = self.algorithm.num_steps, self.finished_steps
        return iterations + math.ceil(max(0, self._wanted_steps - made) * iterations / max(1, made))

    @property
    def done(self) -> bool:
        """Whether all environment steps were made."""
        return self.algorithm.num_steps >= self._wanted_steps

    @property
    def saves_anywhere(self) -> bool:
        """Whether the environments can be saved; otherwise a checkpoint starts new episodes."""
        return self.algorithm.restorable

    def step(self) -> dict[str, float]:
        """Makes one iteration; returns its metrics."""
        self.algorithm.train()
        return {"timesteps": float(self.algorithm.num_steps), **self.algorithm.last_metrics}

    def state(self) -> dict[str, Any]:
        """Learner, counters and environments; those that cannot be saved start new episodes here."""
        if not self.algorithm.restorable:
            self.algorithm.reset_environments()
        return {"learner": self.algorithm.learner_state(), "progress": to_tensors(self.algorithm.progress())}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`."""
        self.algorithm.load_learner_state(state["learner"])
        self.algorithm.load_progress(to_arrays(state["progress"]))

    def export(self, folder: Path) -> Path:
        """Writes the present controller; returns its path."""
        return self.write(folder, self.algorithm.weights())

    def write(self, folder: Path, weights: Mapping[str, np.ndarray]) -> Path:
        """Writes a controller with these weights; returns its path."""
        load_actor_critic_arrays(self.network, weights)
        about = {**self._about, "timesteps": self.algorithm.num_steps}
        return save_controller(folder, self.network, self._schema, json.loads(json.dumps(about, default=str)))


def first_controller(
    config: TRPOJobConfig | WorldModelJobConfig, schema: Mapping[str, Any], spaces: tuple[int, int]
) -> ActorCritic:
    """The controller that training starts from: that of a file, or one with random weights.

    Args:
        schema: of the environment's observations, which the file's has to equal.
        spaces: numbers of observations and of actions.

    Raises:
        UserError: the file is no controller, or was made for other observations.
    """
    if config.run.load_sft_pretrain is not None:
        return load_controller(config.run.load_sft_pretrain, schema).controller
    return ActorCritic(ActorCriticConfig(*spaces, **controller_shape(config.network)), config.run.seed)


@contextmanager
def opened_training(
    config: TRPOJobConfig | WorldModelJobConfig,
    schema: Mapping[str, Any],
    iterations: int,
    build: Callable[[], RolloutTraining],
    shown: Sequence[str],
) -> Iterator[tuple[Run, RolloutTraining]]:
    """The run's directory, opened, and the algorithm, on the cluster that the options name; ended with the block.

    Args:
        schema: of the environment's observations; a resumed run must have the same.
        iterations: approximate number of iterations, for the progress.
        shown: metrics beside the progress.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
    """
    fingerprint = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
    with ExitStack() as stack:
        stack.enter_context(cluster_of(config.cluster, config.processes.needed_cpus))
        opened = stack.enter_context(open_run(config.opened_run, config, fingerprint, iterations, shown=shown))
        with opened.telemetry.phase("start"):
            show_own_motions(config.character, opened.path)
            algorithm = build()
            stack.callback(algorithm.stop)
        yield opened, algorithm


def report_on(
    opened: Run,
    algorithm: RolloutTraining,
    title: str,
    shown: Sequence[str],
    charts: ChartsOf,
) -> None:
    """Writes the report of a finished training and says where its files are."""
    report = write_training_report(opened.path, title, shown, charts)
    iterations, file = algorithm.finished_iterations, opened.path / CONTROLLER_FILE
    print(f"{algorithm.num_steps} steps, {iterations} iterations: {file}\nreport: {report}")


def controller_shape(network: ActorCriticSettings) -> dict[str, Any]:
    """Fields of `ActorCriticConfig` for a new controller."""
    return {
        "hidden_sizes": (network.hidden_size,) * network.num_layers,
        **network.model_dump(include={"activation", "initial_log_std", "normalize_observations"}),
    }


def shared_rllib_config(
    options: Any, config: TRPOJobConfig | WorldModelJobConfig, env_id: str, env_options: Mapping[str, Any]
) -> Any:
    """RLlib's options of a job.

    Args:
        options: a `cluster.rllib.control.ControlConfig` with the learner's options; environment, processes and first
            controller are added.
    """
    from cluster.rllib.module import LOAD_PATH, SEED

    processes, start, seed = config.processes, config.run.load_sft_pretrain, config.run.seed
    load_path = None if start is None else str(start.absolute())
    runners: dict[str, Any] = {
        "num_env_runners": processes.num_env_runners,
        "num_envs_per_env_runner": processes.num_envs // max(1, processes.num_env_runners),
        "num_cpus_per_env_runner": processes.cpus_per_env_runner,
    }
    return (
        options.environment(env_id, env_config=dict(env_options))
        .env_runners(**runners)
        .fault_tolerance(restart_failed_env_runners=True, max_num_env_runner_restarts=processes.max_runner_restarts)
        .rl_module(model_config={**controller_shape(config.network), SEED: seed, LOAD_PATH: load_path})
        .debugging(seed=seed, log_level="ERROR")
        .training(runner_timeout_s=processes.runner_timeout_s)
    )
