"""Generalised advantage estimation (Schulman et al. 2016) over [T, N] arrays of N environments.

    delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
    A_t     = delta_t + gamma lambda (1 - ended_t) A_{t+1},  ended = terminated or truncated
    return_t = A_t + V(s_t)

`terminated_t` belongs to the transition t -> t+1 itself: a fall at t removes the value of the state after t and nothing
else. After a time limit (truncation) or the end of the batch, the value of the state that was reached stands for the
remaining return.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]


def advantages_and_returns(
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Booleans,
    truncated: Booleans,
    gamma: float,
    gae_lambda: float,
) -> tuple[Floats, Floats]:
    """Advantages and returns, both [T, N] float64.

    Args:
        rewards: [T, N] of the step from t to t+1.
        values: [T, N], V(s_t).
        next_values: [T, N], V of the state that each step reached: where an episode ended, of its last state and not of
            the first one of the next episode.
        terminated: [T, N], the step ended the episode in a terminal state (a fall).
        truncated: [T, N], the step ended the episode by a time limit.
    """
    shapes = {array.shape for array in (rewards, values, next_values, terminated, truncated)}
    assert len(shapes) == 1, f"arrays of different shapes: {shapes}"
    deltas = rewards.astype(np.float64) + gamma * np.where(terminated, 0.0, next_values) - values
    carry = np.where(terminated | truncated, 0.0, gamma * gae_lambda)
    advantages = np.empty_like(deltas)
    following = np.zeros(deltas.shape[1:])
    for t in reversed(range(len(deltas))):
        following = deltas[t] + carry[t] * following
        advantages[t] = following
    return advantages, advantages + values
