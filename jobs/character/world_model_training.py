"""What `jobs.world_model` does: a world model's training, with or without Ray, in the training loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cluster.records.opening import inspect
from cluster.run.training_loop import to_arrays, to_tensors, train
from envs.mujoco.vector_environment import make_vector_env
from jobs.character import control_training
from jobs.character.control_training import (
    Iterations,
    first_controller,
    opened_training,
    report_on,
)
from jobs.character.own_motions import describe_own_motions
from jobs.command_line import main as cli
from jobs.configs.trpo import OWN_ENVIRONMENTS
from jobs.configs.world_model import WorldModelJobConfig
from jobs.report.from_control import world_model_charts
from learners.rollout_training import LocalTraining, RolloutTraining
from learners.world_model.imagination import require_imaginable
from learners.world_model.learner import WorldModelLearner, sampler_options
from rewards.evaluation.character import controller_policy, fixed_phases, imitation_episodes, judged
from rollouts.control.actor_critic import ActorCritic, load_actor_critic_arrays
from rollouts.control.vector_sampler import VectorSampler, spaces_of

CURVES = ("rollout/length", "rollout/reward", "imagined/reward", "imagined/alive", "model/loss")
SHOWN = ("rollout/length", "rollout/reward", "imagined/reward", "model/loss")
EVALUATED_S = 20.0
ENVIRONMENT = "DeepMimic"


def run(config: WorldModelJobConfig) -> None:
    """Starts or resumes a training, which writes the best `controller.safetensors` into the run's folder.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: the controller to start from was made for other observations, or the task cannot be imagined.
    """
    torch.set_num_threads(config.processes.threads)
    inspect(config.opened_run, config=config)
    schema, network = prepare(config)

    def build() -> RolloutTraining:
        return local_training(config, network) if config.cluster.runtime == "local" else rllib_training(config)

    with opened_training(config, schema, iterations_of(config), build, SHOWN) as (opened, algorithm):
        training = WorldModelIterations(config, algorithm, network, schema)
        train(
            *(opened, training, config.run.save_interval),
            curves=CURVES,
            evaluate=training.evaluate,
            axis="timesteps",
            phase="rollout",
        )
        title = f"A controller for {', '.join(config.character.motion)}, trained by a world model"
        report_on(opened, algorithm, title, SHOWN, world_model_charts)


class WorldModelIterations(Iterations):
    """Iterations that are evaluated; the best controller so far is what is exported."""

    def __init__(
        self, config: WorldModelJobConfig, algorithm: RolloutTraining, network: ActorCritic, schema: Mapping[str, Any]
    ) -> None:
        about = {"env_id": ENVIRONMENT, "task": config.character.model_dump(mode="json"), "seed": config.run.seed}
        super().__init__(algorithm, network, config.run.num_steps, schema, about)
        self._config = config
        self._best: dict[str, Any] | None = None

    def evaluate(self) -> dict[str, float]:
        """Episodes of the present controller, without and with pushes, from phases of their own; remembers its weights
        if none were better."""
        weights = self.algorithm.weights()
        load_actor_critic_arrays(self.network, weights)
        choice, task = self._config.choice, judged(self._config.character)
        phases = fixed_phases(choice.eval_episodes) + 0.5 / choice.eval_episodes
        figures: dict[str, list[float]] = {}
        for clip in range(len(task.motion)):
            for force, prefix in ((0.0, ""), (choice.eval_push_force, "pushed_")):
                given = task.model_copy(update={"push_force": force})
                steps = round(EVALUATED_S * task.control_hz)
                episodes = imitation_episodes(given, controller_policy(self.network), phases, steps, clip=clip)
                for name, value in episodes.mean().items():
                    figures.setdefault(prefix + name, []).append(value)
        means = {name: sum(values) / len(values) for name, values in figures.items()}
        means["score"] = (means["normalised_return"] + means["pushed_normalised_return"]) / 2
        if self._best is None or means["score"] > self._best["score"]:
            self._best = {"score": means["score"], "weights": weights}
        return means

    def state(self) -> dict[str, Any]:
        """See `Iterations.state`; with the best weights."""
        return {**super().state(), "best": to_tensors(self._best)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over `state()`."""
        super().load(state)
        self._best = to_arrays(state["best"])

    def export(self, folder: Path) -> Path:
        """Writes the best controller, or before the first evaluation the present one; returns its path."""
        return self.write(folder, self.algorithm.weights() if self._best is None else self._best["weights"])


def iterations_of(config: WorldModelJobConfig) -> int:
    """Approximate number of iterations."""
    return config.processes.iterations(config.run.num_steps, config.world_model.steps_per_batch)


def prepare(config: WorldModelJobConfig) -> tuple[dict[str, Any], ActorCritic]:
    """The environment's schema, and the controller that training starts from.

    Raises:
        UserError: the task cannot be imagined, or the controller to start from does not fit it.
    """
    require_imaginable(config.character)
    env = make_vector_env(config.character, 1, seed=0)
    schema, spaces = env.observation_schema, spaces_of(env)
    env.close()
    return schema, first_controller(config, schema, spaces)


def local_training(config: WorldModelJobConfig, network: ActorCritic) -> RolloutTraining:
    """A training in one process, without Ray."""
    seed = config.run.seed
    env = make_vector_env(config.character, config.processes.num_envs, seed=0)
    learner = WorldModelLearner(
        copy.deepcopy(network).train(), env.task, config.world_model, seed, iterations_of(config)
    )
    return LocalTraining(learner, VectorSampler(env, seed, **sampler_options(config.world_model)))


def rllib_training(config: WorldModelJobConfig) -> RolloutTraining:
    """A training by RLlib's algorithm."""
    from cluster.rllib.world_model import WorldModel, WorldModelConfig

    options = WorldModelConfig().training(**config.world_model.model_dump())
    options.num_iterations = iterations_of(config)
    built = control_training.shared_rllib_config(
        options, config, OWN_ENVIRONMENTS[ENVIRONMENT], config.character.model_dump()
    ).build_algo()
    assert isinstance(built, WorldModel)
    return built


def plan(config: WorldModelJobConfig) -> None:
    """For `--dry_run`: prints the settings and `describe`."""
    print(cli.settings_yaml(config) + "\n\n" + describe(config))


def describe(config: WorldModelJobConfig) -> str:
    """Description of the training, for `--dry_run`.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: the task cannot be imagined, or the controller does not fit it.
    """
    opening = inspect(config.opened_run, config=config)
    _, network = prepare(config)
    options, processes = config.world_model, config.processes
    steps = processes.steps_each(options.steps_per_batch)
    policy = sum(parameter.numel() for parameter in network.policy.parameters())
    runners = processes.num_env_runners or "the driver as"
    return "\n".join(
        [
            f"folder {config.folder}: {opening}",
            f"character: {', '.join(config.character.motion)}, {network.config.observation_dim} observed numbers",
            *filter(None, [describe_own_motions(config.character)]),
            f"controller: {policy / 1e3:.1f} k parameters"
            + (f", from {config.run.load_sft_pretrain}" if config.run.load_sft_pretrain else ""),
            f"iteration: {steps} steps of {processes.num_envs} environments, {options.model_updates} updates of the "
            f"model, {options.policy_updates} of the policy; about {iterations_of(config)} iterations",
            f"processes: {runners} runner; {processes.needed_cpus:g} CPUs reserved",
        ]
    )
