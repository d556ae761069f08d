"""What was seen while a controller drove N environments for T steps, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class ControlRollout:
    """T steps of N environments, in float32; the same for every autoreset mode of gymnasium.

    Row t holds the state before step t. Where an episode ended, its last state is in `end_observations`, never in the
    rows: those continue with the first state of the next episode.
    """

    observations: np.ndarray
    """[T, N, O] raw."""
    actions: np.ndarray
    """[T, N, A] as drawn, before the environment's bounds."""
    means: np.ndarray
    """[T, N, A] of the policy that drew them."""
    log_std: np.ndarray
    """[A] of it."""
    rewards: np.ndarray
    """[T, N]."""
    terminated: np.ndarray
    """[T, N] bool: the step ended the episode for good."""
    truncated: np.ndarray
    """[T, N] bool: the step ended it for a time limit, not for good."""
    valid: np.ndarray
    """[T, N] bool: False for steps that only reset an environment (gymnasium's NEXT_STEP); nothing is learned there."""
    last_observations: np.ndarray
    """[N, O] after the last step."""
    end_indices: np.ndarray
    """[E, 2] int64: (t, n) of the steps that ended an episode, in order of t."""
    end_observations: np.ndarray
    """[E, O] the states that they reached."""
    expert_actions: np.ndarray | None = None
    """[T, N, A] what the environment's expert would have done."""
    episode_returns: tuple[float, ...] = ()
    """Sums of rewards of the episodes that ended here, from their beginning."""
    episode_lengths: tuple[int, ...] = ()
    """Their steps."""
    terms: dict[str, float] = field(default_factory=dict)
    """Means over valid steps of what the environment tells about each step, such as its reward terms."""
    seconds: float = 0.0
    """Wall time of the sampling."""

    @property
    def num_steps(self) -> int:
        """Environment steps in it, resets not counted."""
        return int(self.valid.sum())

    def columns(self, start: int, stop: int) -> ControlRollout:
        """The environments from `start` to `stop`, as views; the episodes' sums stay with the whole."""
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
        )

    def __post_init__(self) -> None:
        steps, envs = self.rewards.shape
        for name in ("observations", "actions", "means", "terminated", "truncated", "valid"):
            assert getattr(self, name).shape[:2] == (steps, envs), name
        assert len(self.end_indices) == len(self.end_observations)
        assert self.last_observations.shape[0] == envs
