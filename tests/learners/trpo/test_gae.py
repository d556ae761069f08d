"""Advantages against the definition, written as sums over the episode."""

from __future__ import annotations

import numpy as np
import pytest

from learners.trpo.gae import advantages_and_returns

GAMMA, LAMBDA = 0.9, 0.7


def by_definition(
    rewards: np.ndarray, values: np.ndarray, next_values: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
) -> np.ndarray:
    """Sum of (gamma lambda)^k delta over the steps up to the end of the episode or of the batch."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for n in range(envs):
        for t in range(steps):
            for k in range(t, steps):
                after = 0.0 if terminated[k, n] else next_values[k, n]
                delta = rewards[k, n] + GAMMA * after - values[k, n]
                advantages[t, n] += (GAMMA * LAMBDA) ** (k - t) * delta
                if terminated[k, n] or truncated[k, n]:
                    break
    return advantages


@pytest.mark.parametrize("seed", range(3))
def test_advantages_are_the_sums_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, 40, 5))
    terminated, truncated = rng.random((2, 40, 5)) < 0.1
    arrays = (rewards, values, next_values, terminated, truncated)
    advantages, returns = advantages_and_returns(*arrays, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages, by_definition(*arrays), atol=1e-12)
    np.testing.assert_allclose(returns, advantages + values)


def test_lambda_one_gives_discounted_sums_and_lambda_zero_one_step_errors() -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6, 1))
    next_values = np.concatenate([values[1:], [[0.5]]])
    never = np.zeros((6, 1), dtype=bool)
    _, returns = advantages_and_returns(rewards, values, next_values, never, never, GAMMA, 1.0)
    discounted = sum(GAMMA**t * rewards[t, 0] for t in range(6)) + GAMMA**6 * 0.5
    assert returns[0, 0] == pytest.approx(discounted)
    advantages, _ = advantages_and_returns(rewards, values, next_values, never, never, GAMMA, 0.0)
    np.testing.assert_allclose(advantages, rewards + GAMMA * next_values - values)
