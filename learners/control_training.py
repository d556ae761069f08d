"""TRPO in one process: sample, update, repeat. RLlib's algorithm (`cluster/`) does the same with several of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learners.trpo_learner import TRPOLearner
from rollouts.control_rollouts import ControlRollout
from rollouts.vector_sampler import VectorSampler


@dataclass(frozen=True, slots=True)
class Progress:
    """After one iteration."""

    iteration: int
    """Finished ones."""
    num_steps: int
    """Environment steps so far."""
    metrics: dict[str, float]


def train_controller(
    learner: TRPOLearner,
    sampler: VectorSampler,
    num_steps: int,
    on_iteration: Callable[[Progress], None] = lambda progress: None,
) -> int:
    """Train `learner.controller` in place for at least `num_steps` environment steps.

    Args:
        on_iteration: called after each iteration: to report, to save, or to stop by an exception of its own.

    Returns:
        Environment steps that were made.
    """
    done = 0
    per_rollout = -(-learner.settings.steps_per_batch // sampler.env.num_envs)
    while done < num_steps:
        rollout = sampler.collect(learner.controller, per_rollout, learner.iteration)
        started = time.perf_counter()
        metrics = learner.update([rollout]) | rollout_metrics([rollout])
        metrics["seconds/update"] = time.perf_counter() - started
        done += rollout.num_steps
        on_iteration(Progress(learner.iteration, done, metrics))
    return done


def rollout_metrics(rollouts: Sequence[ControlRollout]) -> dict[str, float]:
    """What the rollouts of one batch say: episodes that ended in it, rewards, the environment's own terms."""
    steps = sum(rollout.num_steps for rollout in rollouts)
    rewards = sum(float(rollout.rewards[rollout.valid].sum()) for rollout in rollouts)
    returns = [value for rollout in rollouts for value in rollout.episode_returns]
    lengths = [value for rollout in rollouts for value in rollout.episode_lengths]
    metrics = {
        "rollout/steps": float(steps),
        "rollout/reward": rewards / max(1, steps),
        "rollout/episodes": float(len(returns)),
        "seconds/rollout": max(rollout.seconds for rollout in rollouts),
    }
    if returns:
        metrics["rollout/return"] = sum(returns) / len(returns)
        metrics["rollout/length"] = sum(lengths) / len(lengths)
    names = {name for rollout in rollouts for name in rollout.terms}
    for name in sorted(names):
        total = sum(rollout.terms.get(name, 0.0) * rollout.num_steps for rollout in rollouts)
        metrics[f"env/{name}"] = total / max(1, steps)
    return metrics
