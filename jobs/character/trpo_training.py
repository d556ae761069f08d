"""What `jobs.trpo` does: a training, with or without Ray, in the training loop, or whole episodes of a controller."""

from __future__ import annotations

import copy
from typing import Any

import torch

from cluster.records.opening import inspect
from cluster.run.training_loop import train
from jobs.character import control_training, controller_episodes
from jobs.character.control_training import (
    Iterations,
    first_controller,
    opened_training,
    report_on,
)
from jobs.character.own_motions import describe_own_motions
from jobs.command_line import main as cli
from jobs.configs.trpo import TRPOJobConfig
from jobs.report.from_control import trpo_charts
from learners.rollout_training import LocalTraining, RolloutTraining
from learners.trpo.learner import TRPOLearner
from rollouts.control.actor_critic import ActorCritic
from rollouts.control.environments import make_control_env, observation_schema
from rollouts.control.vector_sampler import VectorSampler, spaces_of

CURVES = ("rollout/return", "rollout/length", "rollout/reward", "policy/kl", "critic/explained_variance")
SHOWN = ("rollout/return", "rollout/length", "rollout/reward", "policy/kl")


def run(config: TRPOJobConfig) -> None:
    """Runs the task that `task` names. `train` starts or resumes, and writes `controller.safetensors` into the folder.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: the controller to start from was made for other observations, or options contradict each other.
    """
    if config.run.task != "train":
        controller_episodes.play(config)
        return
    torch.set_num_threads(config.processes.threads)
    inspect(config.opened_run, config=config)
    schema, network = prepare(config)

    def build() -> RolloutTraining:
        return local_training(config, network) if config.cluster.runtime == "local" else rllib_training(config)

    with opened_training(config, schema, iterations_of(config), build, SHOWN) as (opened, algorithm):
        about = {
            "env_id": config.environment.env_id,
            "task": config.environment_options,
            "seed": config.run.seed,
        }
        # The loop's steps are iterations, each of which begins with a rollout.
        training = Iterations(algorithm, network, config.run.num_steps, schema, about)
        train(opened, training, config.run.save_interval, curves=CURVES, axis="timesteps", phase="rollout")
        title = f"A controller for {config.environment.env_id}, trained by TRPO"
        report_on(opened, algorithm, title, SHOWN, trpo_charts)


def iterations_of(config: TRPOJobConfig) -> int:
    """Approximate number of iterations."""
    return config.processes.iterations(config.run.num_steps, config.trpo.steps_per_batch)


def prepare(config: TRPOJobConfig) -> tuple[dict[str, Any], ActorCritic]:
    """The environment's schema, and the controller that training starts from.

    Raises:
        UserError: there is no such environment, or the controller to start from does not fit it.
    """
    env = make_control_env(config.environment.gymnasium_id, 1, config.environment_options)
    schema = observation_schema(env)
    network = first_controller(config, schema, spaces_of(env))
    env.close()
    return schema, network


def local_training(config: TRPOJobConfig, network: ActorCritic) -> RolloutTraining:
    """A training in one process, without Ray."""
    seed = config.run.seed
    env = make_control_env(config.environment.gymnasium_id, config.processes.num_envs, config.environment_options)
    learner = TRPOLearner(copy.deepcopy(network).train(), config.trpo, seed)
    return LocalTraining(learner, VectorSampler(env, seed, record_expert=config.trpo.cloning_weight > 0))


def rllib_training(config: TRPOJobConfig) -> RolloutTraining:
    """A training by RLlib's algorithm."""
    from cluster.rllib.trpo import TRPO

    built = rllib_config(config).build_algo()
    assert isinstance(built, TRPO)
    return built


def rllib_config(config: TRPOJobConfig) -> Any:
    """The job's options for RLlib, and for Tune: `tune.Tuner(TRPO, param_space=rllib_config(config).training(...))`."""
    from cluster.rllib.trpo import TRPOConfig

    learners = TRPOConfig().learners(
        num_learners=config.processes.num_learners,
        num_cpus_per_learner=config.processes.cpus_per_learner if config.processes.num_learners else "auto",
        num_gpus_per_learner=config.processes.gpus_per_learner,
    )
    options = learners.training(**config.trpo.model_dump())
    return control_training.shared_rllib_config(
        options, config, config.environment.gymnasium_id, config.environment_options
    )


def plan(config: TRPOJobConfig) -> None:
    """For `--dry_run`: builds environment and controller, prints the sizes of a batch, and starts nothing.

    Raises:
        UserError: the run cannot start.
    """
    print(cli.settings_yaml(config) + "\n")
    if config.run.task == "train":
        print(describe(config))
    else:
        loaded = controller_episodes.prepare(config, num_envs=1)[1]
        print(f"{config.run.task} {loaded.path} on {config.environment.gymnasium_id}")


def describe(config: TRPOJobConfig) -> str:
    """Description of the training, for `--dry_run`.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: there is no such environment, or the controller does not fit it.
    """
    opening = inspect(config.opened_run, config=config)
    schema, network = prepare(config)
    processes, start = config.processes, config.run.load_sft_pretrain
    steps = processes.steps_each(config.trpo.steps_per_batch)
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
            f"{steps * processes.num_envs * width * 4 / 1e6:.1f} MB; about {iterations_of(config)} iterations",
            f"processes: {runners} runner, {learners} learner; {processes.needed_cpus:g} CPUs reserved",
            f"observations: {', '.join(schema) if schema else 'no schema'}",
            *filter(None, [describe_own_motions(config.character)]),
        ]
    )
