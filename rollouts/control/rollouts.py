"""Recordings of N environments that a controller drove for T steps, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class ControlRollout:
    """T steps of N environments in float32; the same for every autoreset mode of gymnasium.

    Row t holds the state before step t. The last state of an episode is in `end_observations`, never in the rows: those
    continue with the first state of the next episode.
    """

    observations: np.ndarray
    """Raw observations [T, N, O]."""
    actions: np.ndarray
    """Actions [T, N, A] as sampled, before clipping to the environment's bounds."""
    means: np.ndarray
    """Means [T, N, A] of the policy that sampled them."""
    log_std: np.ndarray
    """Log standard deviations [A] of that policy."""
    rewards: np.ndarray
    """Rewards [T, N]."""
    terminated: np.ndarray
    """[T, N] bool: the step ended the episode in a terminal state (a fall)."""
    truncated: np.ndarray
    """[T, N] bool: the step ended the episode by a time limit."""
    valid: np.ndarray
    """[T, N] bool: False for steps that only reset an environment (gymnasium's NEXT_STEP); no training data."""
    last_observations: np.ndarray
    """Observations [N, O] after the last step."""
    end_indices: np.ndarray
    """[E, 2] int64: (t, n) of the steps that ended an episode, in order of t."""
    end_observations: np.ndarray
    """Observations [E, O] of the states that those steps reached."""
    expert_actions: np.ndarray | None = None
    """Actions [T, N, A] of the environment's open-loop expert in the same states, if recorded."""
    states: dict[str, np.ndarray] | None = None
    """Arrays [T + 1, N, ...] of the simulator's states by name, before each step and after the last, if recorded: see
    `StatefulEnv`. Only for the autoreset mode NEXT_STEP, where a row's last state is the next row's."""
    episode_returns: tuple[float, ...] = ()
    """Sums of rewards of the episodes that ended during the recording, from their beginning."""
    episode_lengths: tuple[int, ...] = ()
    """Numbers of steps of those episodes."""
    terms: dict[str, float] = field(default_factory=dict)
    """Means over valid steps of the numbers in the environment's step infos, such as reward terms."""
    seconds: float = 0.0
    """Wall-clock duration of the sampling."""

    @property
    def num_steps(self) -> int:
        """Number of environment steps, resets not counted."""
        return int(self.valid.sum())

    def columns(self, start: int, stop: int) -> ControlRollout:
        """The environments from `start` to `stop`, as views; statistics of episodes are not included."""
        part = slice(start, stop)
        chosen = (self.end_indices[:, 1] >= start) & (self.end_indices[:, 1] < stop)
        arrays = {
            name: getattr(self, name)[:, part]
            for name in ("observations", "actions", "means", "rewards", "terminated", "truncated", "valid")
        }
        return ControlRollout(
            **arrays,
            log_std=self.log_std,
            last_observations=self.last_observations[part],
            end_indices=self.end_indices[chosen] - np.array([0, start]),
            end_observations=self.end_observations[chosen],
            expert_actions=None if self.expert_actions is None else self.expert_actions[:, part],
            states=None if self.states is None else {name: array[:, part] for name, array in self.states.items()},
        )

    def __post_init__(self) -> None:
        steps, envs = self.rewards.shape
        for name in ("observations", "actions", "means", "terminated", "truncated", "valid"):
            assert getattr(self, name).shape[:2] == (steps, envs), name
        assert len(self.end_indices) == len(self.end_observations)
        assert self.last_observations.shape[0] == envs
