"""The work of every worker in behaviour cloning: collect, label and train in rounds, then fit the critic.

Round k rolls out the mixture of expert and clone, adds the labelled states to all earlier ones and trains on all of
them. Every worker runs its share of the environments, and the data are gathered so that all workers hold the same set.
Equal data give the same clone with one worker as with many, up to rounding; the data themselves depend on the number of
workers, as each draws its own noise and starting phases. After each round rank 0 writes a checkpoint (clone, data and
metrics) from which a restarted group continues.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from learners.cloning.learner import (
    CloningLearner,
    CriticData,
    capped_epochs,
    discounted_returns,
    fit_critic,
    num_validations,
)
from learners.cloning.settings import CloneRounds, CloningSettings
from learners.workers import TrainContext, Workers
from motions.base.safe_files import read_array_file
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, load_controller, save_controller
from rollouts.control.vector_sampler import VectorSampler
from rollouts.imitation.demonstrations import ActionFunction, Demonstrations, Expert, aggregate, collect
from rollouts.imitation.experts import RefinedExpert, build_expert
from rollouts.imitation.refinement import Refinement, refine

DATA_FILE = "demonstrations.npz"
PROGRESS_FILE = "progress.json"
PLANNED = "planned_validations"
"""What a report says beside the figures of a validation: how many validations the cloning will have made at its end."""


def train_clone(context: TrainContext, values: dict[str, Any]) -> None:
    """The training function of each worker; `values` are the fields of `CloneRounds` as plain values."""
    config = CloneRounds.model_validate(values)
    workers = context.workers
    env = make_vector_env(config.task_settings, share_of(config.demonstrations.num_demo_envs, workers), None)
    expert, refined = build_expert(config.demonstrations, env), refinements(config)
    if refined:
        expert = RefinedExpert(expert, [entry.table for entry in refined.values()])
    run = _Run(config, env, {clip: entry.figures for clip, entry in refined.items()})
    if workers.rank == 0:
        for clip, figures in run.refinement.items():
            listed = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            say(f"labels of {clip} refined by {config.demonstrations.refine_method}: {listed}")
    if context.resume_from is not None:
        run.load(context.resume_from)
    learner = CloningLearner(run.controller, config.cloning, config.seed, workers)
    last = config.demonstrations.dagger_rounds
    for index in range(run.num_rounds, last + 1):
        fresh = gather(collect_round(config, env, expert, run.controller, index, workers.rank), workers)
        learner.observe(fresh)
        run.data = fresh if run.data is None else aggregate([run.data, fresh])
        before = len(run.records)

        def report(figures: dict[str, float], index: int = index, before: int = before) -> None:
            beta = config.demonstrations.beta(index)
            record = {"round": index, "samples": len(run.data or ()), "beta": beta, **figures}
            run.records.append({"step": len(run.records) + 1, **record})
            planned = before + planned_validations(config, learner.num_training_samples / (index + 1), index)
            context.report({**run.records[-1], PLANNED: planned}, None)

        figures = learner.fit(run.data, index, report)
        run.num_rounds = index + 1
        if workers.rank == 0:
            say(
                f"round {index + 1}/{last + 1}: {len(run.data)} samples, validation error "
                f"{figures['val_rmse']:.4f}, std {figures['std']:.3f}"
            )
            if (passes := capped_epochs(config.cloning, learner.num_training_samples)) is not None:
                say(
                    f"round {index + 1}/{last + 1}: {passes:.1f} of {config.cloning.epochs} epochs, for "
                    f"max_optimizer_steps is {config.cloning.max_optimizer_steps}"
                )
        if index == last and config.cloning.critic_warm_s > 0:
            run.critic = warm_critic(config, env, run.controller, workers)
        run.checkpoint(context, figures)
    env.close()


def planned_validations(config: CloneRounds, samples_per_round: float, first: int = 0) -> int:
    """Validations from round `first` on. A round trains on the samples of all rounds before it as well.

    Args:
        samples_per_round: those that a round adds to the training.
    """
    rounds = range(first, config.demonstrations.dagger_rounds + 1)
    return sum(num_validations(config.cloning, round(samples_per_round * (index + 1))) for index in rounds)


def say(line: str) -> None:
    """Prints a line at once, above a progress bar where there is one."""
    with tqdm.external_write_mode():
        print(line, flush=True)


def share_of(count: int, workers: Workers) -> int:
    """Number of environments of this worker, at least one."""
    return max(1, count // workers.size + (workers.rank < count % workers.size))


def refinements(config: CloneRounds) -> dict[str, Refinement]:
    """Corrections of the labels by clip, or none without `refine_actions`; every worker computes the same."""
    demonstrations = config.demonstrations
    if not demonstrations.refine_actions or demonstrations.refine_method == "none":
        return {}
    refined = refine(config.task_settings, demonstrations, config.seed)
    return dict(zip(config.character.motion, refined, strict=True))


def collect_round(
    config: CloneRounds, env: DeepMimicVectorEnv, expert: Expert, controller: ActorCritic, index: int, rank: int
) -> Demonstrations:
    """The labelled states of one round of this worker's environments."""
    options, hz = config.demonstrations, config.character.control_hz
    return collect(
        env,
        expert,
        acting(controller),
        beta=options.beta(index),
        num_steps=math.ceil(options.demo_s * hz),
        # The noise is given in radians; in absolute mode a unit of action is a different angle for each joint.
        noise_std=options.demo_noise / np.array(env.observation_schema["action_range"]),
        noise_hold_steps=max(1, round(options.demo_noise_hold_s * hz)),
        block_steps=max(2, round(config.cloning.val_block_s * hz)),
        rng=np.random.default_rng([config.seed, index, rank]),
        reward_weights=options.label_weighting == "reward",
    )


def acting(controller: ActorCritic) -> ActionFunction:
    """A function from observations to the controller's mean actions, both as arrays."""

    def act(observations: np.ndarray) -> np.ndarray:
        return controller.act(torch.from_numpy(np.ascontiguousarray(observations))).numpy()

    return act


def gather(data: Demonstrations, workers: Workers) -> Demonstrations:
    """The samples of all workers, in the order of their ranks."""
    if workers.size == 1:
        return data
    # Keep block numbers of different workers distinct.
    spaced = data.blocks * workers.size + workers.rank
    return Demonstrations.of(workers.gather(array) for array in (*data.arrays()[:-1], spaced))


def warm_critic(
    config: CloneRounds, env: DeepMimicVectorEnv, controller: ActorCritic, workers: Workers
) -> dict[str, float]:
    """Rolls out the finished clone with its action noise; every worker fits the same critic to all rollouts."""
    data = critic_rollouts(config, env, controller, workers.rank)
    everything = CriticData(workers.gather(data.observations), workers.gather(data.returns))
    return fit_critic(controller, everything, config.cloning, config.seed)


def critic_rollouts(config: CloneRounds, env: DeepMimicVectorEnv, controller: ActorCritic, rank: int) -> CriticData:
    """States and returns of the clone with its action noise: what reinforcement learning will sample first."""
    gamma = config.cloning.critic_warm_gamma
    sampler = VectorSampler(env, config.seed, stream=rank)
    num_steps = math.ceil(config.cloning.critic_warm_s * config.character.control_hz)
    rollout = sampler.collect(controller, num_steps, 0)
    ended = rollout.terminated | rollout.truncated
    after = np.where(rollout.terminated, 0.0, np.nan)
    returns, known = discounted_returns(rollout.rewards, ended, after, gamma)
    # A return counts as known when the unknown value after the data is discounted to almost nothing.
    horizon = math.ceil(math.log(0.05) / math.log(gamma))
    filled, _ = discounted_returns(rollout.rewards, ended, np.nan_to_num(after), gamma)
    far = np.arange(len(returns))[:, None] < len(returns) - horizon
    usable = rollout.valid & (known | far)
    if not usable.any():
        usable = rollout.valid
    return CriticData(rollout.observations[usable], np.where(known, returns, filled)[usable])


class _Run:
    """State of a cloning: what its checkpoints hold."""

    def __init__(self, config: CloneRounds, env: DeepMimicVectorEnv, refinement: dict[str, dict[str, float]]) -> None:
        self.config = config
        self.refinement = refinement
        self.schema = env.observation_schema
        self.controller = new_clone(config.cloning, self.schema, config.seed)
        self.data: Demonstrations | None = None
        self.num_rounds = 0
        self.records: list[dict[str, Any]] = []
        self.critic: dict[str, float] = {}

    def checkpoint(self, context: TrainContext, figures: dict[str, float]) -> None:
        """Reports the round's metrics, with a checkpoint of everything that a restart needs."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if context.workers.rank == 0 and self.data is not None:
                task = self.config.task_settings.model_dump(mode="json")
                extra = {"task": task, "clone": figures, "critic": self.critic, "refinement": self.refinement}
                save_controller(folder, self.controller, self.schema, extra)
                names = ("observations", "actions", "weights", "phases", "blocks")
                arrays = dict(zip(names, self.data.arrays(), strict=True))
                np.savez(folder / DATA_FILE, allow_pickle=False, **arrays)
                progress = {"num_rounds": self.num_rounds, "records": self.records, "critic": self.critic}
                (folder / PROGRESS_FILE).write_text(json.dumps(progress), encoding="utf-8")
            context.report({**figures, **self.critic, "round": self.num_rounds}, folder)

    def load(self, folder: Path) -> None:
        """Continues after the last round of a checkpoint."""
        self.controller.load_state_dict(load_controller(folder, self.schema).controller.state_dict())
        saved = read_array_file(folder / DATA_FILE)
        names = ("observations", "actions", "weights", "phases", "blocks")
        self.data = Demonstrations.of(saved[name] for name in names)
        progress = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        self.num_rounds, self.records = progress["num_rounds"], progress["records"]


def new_clone(settings: CloningSettings, schema: dict[str, Any], seed: int = 0) -> ActorCritic:
    """An untrained controller for the environment's observations; its weights are a function of the seed."""
    shape = ActorCriticConfig(
        observation_dim=schema["observation_size"],
        action_dim=len(schema["action_range"]),
        hidden_sizes=settings.layer_widths,
        activation=settings.activation,
    )
    return ActorCritic(shape, seed=seed)
