"""Trainings of a controller on its rollouts: what their learner and they themselves offer, and one in this process.

`cluster/rllib/` has another, with several samplers and learners.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rollouts.control.actor_critic import ActorCritic, actor_critic_arrays
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import VectorSampler


class BatchOptions(Protocol):
    """What a training needs to know of its learner's options."""

    @property
    def steps_per_batch(self) -> int:
        """Environment steps per iteration, over all environments together."""
        ...


class RolloutLearner(Protocol):
    """Interface of a learner that improves a controller by its rollouts."""

    @property
    def controller(self) -> ActorCritic:
        """What acts in the rollouts; trained in place."""
        ...

    @property
    def settings(self) -> BatchOptions:
        """The learner's options."""
        ...

    @property
    def iteration(self) -> int:
        """Number of updates so far."""
        ...

    def update(self, rollouts: Sequence[ControlRollout]) -> dict[str, float]:
        """Makes one iteration; returns metrics by name."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as tensors and plain values."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`."""
        ...


class RolloutTraining(Protocol):
    """Interface of a training that makes rollouts and updates by turns; `LocalTraining` says what its methods do."""

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


class LocalTraining:
    """A `RolloutTraining` of a learner and a sampler in this process.

    Example:
        training = LocalTraining(TRPOLearner(controller, settings, seed=0), VectorSampler(env, seed=0))
        while training.num_steps < 100_000:
            training.train()
    """

    def __init__(self, learner: RolloutLearner, sampler: VectorSampler) -> None:
        """Trains `learner.controller` in place on the rollouts of `sampler`."""
        self.learner = learner
        self.sampler = sampler
        self.num_steps = 0
        """Number of environment steps so far."""
        self.last_metrics: dict[str, float] = {}
        self._reset_next = False

    @property
    def finished_iterations(self) -> int:
        """Number of updates so far."""
        return self.learner.iteration

    @property
    def restorable(self) -> bool:
        """Whether the environments' states are part of `progress()`."""
        return self.sampler.restorable

    def train(self) -> None:
        """Makes one rollout and one update; their metrics are in `last_metrics`."""
        if self._reset_next:
            self.sampler.reset(self.learner.iteration)
            self._reset_next = False
        number = -(-self.learner.settings.steps_per_batch // self.sampler.env.num_envs)
        rollout = self.sampler.collect(self.learner.controller, number, self.learner.iteration)
        started = time.perf_counter()
        metrics = self.learner.update([rollout]) | rollout_metrics([rollout])
        metrics["seconds/update"] = time.perf_counter() - started
        self.num_steps += rollout.num_steps
        self.last_metrics = metrics

    def weights(self) -> dict[str, np.ndarray]:
        """Weights and observation statistics of the controller."""
        return actor_critic_arrays(self.learner.controller)

    def reset_environments(self) -> None:
        """Starts new episodes in all environments before the next rollout."""
        self._reset_next = True

    def progress(self) -> dict[str, Any]:
        """Counters and, if they can be saved, the environments' states."""
        return {
            "num_steps": self.num_steps,
            "reset_next": self._reset_next,
            "state": self.sampler.state() if self.sampler.restorable else None,
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Restores the result of `progress()`."""
        self.num_steps, self._reset_next = int(progress["num_steps"]), bool(progress["reset_next"])
        if progress["state"] is not None:
            self.sampler.load(progress["state"])

    def learner_state(self) -> dict[str, Any]:
        """State of the learner: `RolloutLearner.state()`."""
        return self.learner.state()

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restores the result of `learner_state()`."""
        self.learner.load(state)

    def stop(self) -> None:
        """Closes the environments."""
        self.sampler.env.close()


def rollout_metrics(rollouts: Sequence[ControlRollout]) -> dict[str, float]:
    """Metrics of the rollouts of one batch: finished episodes, rewards, the environment's own terms."""
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
