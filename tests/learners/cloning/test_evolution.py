"""CMA-ES: finds the optimum of functions that plain random search does not."""

from __future__ import annotations

import numpy as np
import pytest

from learners.cloning.evolution import EvolutionStrategy


def best_after(generations: int, function, size: int, population: int = 12) -> EvolutionStrategy:
    strategy = EvolutionStrategy(np.full(size, 2.0), sigma=0.5, population=population, seed=3)
    for _ in range(generations):
        samples = strategy.ask()
        strategy.tell(samples, function(samples))
    return strategy


def test_an_ill_conditioned_ellipsoid_is_solved() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    scales = 10.0 ** np.linspace(0, 2, 8)
    strategy = best_after(300, lambda x: -(((x - 1.0) @ basis * scales) ** 2).sum(axis=1), 8)
    assert np.abs(strategy.mean - 1.0).max() < 1e-4


def test_the_step_size_grows_on_a_slope_and_shrinks_at_an_optimum() -> None:
    assert best_after(40, lambda x: x[:, 0], 5).sigma > 2.0
    assert best_after(120, lambda x: -(x**2).sum(axis=1), 5).sigma < 0.01


def test_the_same_seed_gives_the_same_search() -> None:
    ends = [best_after(10, lambda x: -(x**2).sum(axis=1), 4).mean for _ in range(2)]
    assert np.array_equal(ends[0], ends[1])


def test_illegal_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="sigma is 0"):
        EvolutionStrategy(np.zeros(2), 0.0, 8, 0)
    with pytest.raises(ValueError, match="population is 3"):
        EvolutionStrategy(np.zeros(2), 1.0, 3, 0)
    strategy = EvolutionStrategy(np.zeros(2), 1.0, 4, 0)
    with pytest.raises(ValueError, match="NaN"):
        strategy.tell(strategy.ask(), np.array([1.0, np.nan, 0.0, 0.0]))
