"""Demonstrations, environments, a network and a small run for the tests of cloning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig
from rollouts.imitation.demonstrations import Demonstrations, collect

SMALL_RUN: dict[str, Any] = {
    "num_demo_envs": 4,
    "demo_s": 1.0,
    "dagger_rounds": 1,
    "epochs": 4,
    "hidden_size": (16,),
    "critic_warm_s": 1.0,
    "critic_warm_epochs": 2,
    "eval_episodes": 2,
    "eval_steps": 20,
    "eval_push_forces": (100.0,),
    "eval_push_directions": (0.0,),
    "eval_push_at_s": 0.1,
}
"""Options of `jobs.sft` that make a whole run take about a second."""


def linear_data(num: int = 600, noise: float = 0.1, seed: int = 0) -> Demonstrations:
    """Labels that are a linear function of the observations, and noise."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(3.0, 20.0, (num, 4)).astype(np.float32)
    actions = observations[:, :2] / 20.0 + rng.normal(0.0, noise, (num, 2))
    return Demonstrations(
        observations,
        actions.astype(np.float32),
        np.ones(num, np.float32),
        np.zeros(num, np.float32),
        np.arange(num) // 30,
    )


def controller(seed: int = 1) -> ActorCritic:
    """Of the size of `linear_data`."""
    return ActorCritic(ActorCriticConfig(observation_dim=4, action_dim=2, hidden_sizes=(16,)), seed=seed)


class CountingEnv:
    """Two lanes; an observation is [lane, episode, step in the episode]; lane 1 falls after three steps."""

    metadata: dict[str, Any] = {"autoreset_mode": "NEXT_STEP"}  # noqa: RUF012
    num_envs = 2

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict]:
        self.episode, self.time = np.zeros(2), np.zeros(2)
        self.done = np.zeros(2, dtype=bool)
        self.acted: list[np.ndarray] = []
        return self._observe(), {}

    def step(self, actions: np.ndarray, /) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.acted.append(actions)
        self.episode += self.done
        self.time = np.where(self.done, 0, self.time + 1)
        reset = self.done
        self.done = (self.time == 3) & (np.arange(2) == 1) & ~reset
        return self._observe(), np.full(2, 0.25), self.done, np.zeros(2, dtype=bool), {}

    @property
    def task(self) -> Any:
        return SimpleNamespace(phase=self.time / 10)

    def _observe(self) -> np.ndarray:
        return np.stack([np.arange(2), self.episode, self.time], axis=1).astype(np.float32)


class OwnTime:
    """Labels a state with its own time."""

    def label(self, env: CountingEnv, observations: np.ndarray) -> np.ndarray:
        return env.time[:, None].copy()


def collected(**changes: Any) -> tuple[Demonstrations, CountingEnv]:
    """What `collect` makes of nine steps with changed options, and the environment they were taken in."""
    env = CountingEnv()
    options: dict[str, Any] = {
        "beta": 1.0,
        "num_steps": 9,
        "noise_std": 0.0,
        "noise_hold_steps": 1,
        "block_steps": 2,
        "rng": np.random.default_rng(0),
    }
    actor = changes.pop("actor", None)
    return collect(env, OwnTime(), actor, **{**options, **changes}), env  # pyright: ignore[reportArgumentType]
