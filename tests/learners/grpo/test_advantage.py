"""Group advantages against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from learners.grpo.advantages import WeightedTerm, group_advantages
from learners.grpo.settings import GRPOSettings


def test_group_std_uses_population_std_and_floor() -> None:
    rewards = np.array([[1.0, 3.0], [10.0, 14.0]])
    result = group_advantages(rewards, GRPOSettings())
    expected = np.array([[-1, 1], [-2, 2]]) / (np.array([[1.0], [2.0]]) + 1e-4)
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)
    assert result.values.dtype == np.float32
    assert result.metrics["reward_group_std"] == pytest.approx(1.5)
    assert result.metrics["reward_std"] == pytest.approx(rewards.std())
    assert result.metrics["std"] == pytest.approx(1, abs=1e-4)


def test_batch_std_divides_all_groups_by_one_number() -> None:
    rewards = np.array([[0.0, 2.0], [0.0, 4.0]])
    result = group_advantages(rewards, GRPOSettings(advantage_std="batch"))
    np.testing.assert_allclose(result.values, np.array([[-1, 1], [-2, 2]]) / (rewards.std() + 1e-4), rtol=1e-6)


def test_no_std_only_centres() -> None:
    result = group_advantages(np.array([[0.0, 0.5], [1.0, 4.0]]), GRPOSettings(advantage_std="none"))
    np.testing.assert_allclose(result.values, [[-0.25, 0.25], [-1.5, 1.5]])


def test_a_floor_weighs_groups_without_spread_down() -> None:
    rewards = np.array([[0.89, 0.91], [0.2, 0.8]])
    result = group_advantages(rewards, GRPOSettings(advantage_std_floor=0.05))
    np.testing.assert_allclose(result.values, [[-1 / 6, 1 / 6], [-6 / 7, 6 / 7]], rtol=1e-6)


def test_advantages_are_clipped_and_counted() -> None:
    rewards = np.zeros((1, 50))
    rewards[0, 0] = 1.0
    result = group_advantages(rewards, GRPOSettings(advantage_clip=2.0))
    assert result.values[0, 0] == 2.0
    assert result.metrics["clip_fraction"] == pytest.approx(1 / 50)
    assert result.metrics["abs_max"] == 2.0
    assert group_advantages(rewards, GRPOSettings(advantage_clip=50.0)).values[0, 0] > 5


@pytest.mark.parametrize("std", ["group", "batch", "none"])
def test_equal_rewards_give_exact_zeros_and_are_counted(std: str) -> None:
    noise = np.full((2, 4), 0.7) + np.array([0, 1, -1, 0]) * 1e-9
    rewards = np.concatenate([noise, [[0.1, 0.2, 0.3, 0.4]]])
    result = group_advantages(rewards, GRPOSettings.model_validate({"advantage_std": std}))
    assert not result.values[:2].any()
    assert result.values[2].all()
    assert result.zero_variance.tolist() == [True, True, False]
    assert result.metrics["zero_variance_groups"] == 2
    assert result.metrics["zero_variance_share"] == pytest.approx(2 / 3)


def test_rounding_noise_does_not_become_an_advantage() -> None:
    rewards = np.array([[0.5, 0.5 + 2e-6, 0.5 - 2e-6, 0.5]])
    assert np.abs(group_advantages(rewards, GRPOSettings()).values).max() < 0.05


def test_terms_are_normalised_before_they_are_weighted() -> None:
    large = np.array([[0.0, 100.0, 0.0, 100.0]])
    small = np.array([[0.0, 0.0, 1.0, 1.0]])
    terms = {"large": WeightedTerm(1.0, large), "small": WeightedTerm(1.0, small), "off": WeightedTerm(0.0, small)}
    settings = GRPOSettings(advantage_terms="each")
    values = group_advantages(large + small, settings, terms).values
    np.testing.assert_allclose(values, [[-1, 0, 0, 1]], atol=1e-3)
    mixed = group_advantages(large + small, GRPOSettings()).values
    assert mixed[0, 1] > 0.9 and mixed[0, 2] < -0.9


def test_terms_with_variance_keep_a_group_of_equal_totals() -> None:
    a = np.array([[0.0, 1.0]])
    terms = {"a": WeightedTerm(1.0, a), "b": WeightedTerm(0.5, -2 * a)}
    result = group_advantages(np.zeros((1, 2)), GRPOSettings(advantage_terms="each"), terms)
    assert not result.zero_variance[0]
    np.testing.assert_allclose(result.values, [[-1 / 3, 1 / 3]], atol=1e-3)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((2, 1)), "at least two samples"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), r"rewards\[1, 0\] is nan"),
    ],
)
def test_bad_rewards_are_errors(rewards: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_advantages(rewards, GRPOSettings())


def test_bad_terms_are_errors() -> None:
    settings = GRPOSettings(advantage_terms="each")
    rewards = np.array([[0.0, 1.0]])
    with pytest.raises(ValueError, match="needs the weighted reward terms"):
        group_advantages(rewards, settings)
    with pytest.raises(ValueError, match="term 'x' has shape"):
        group_advantages(rewards, settings, {"x": WeightedTerm(1.0, np.zeros((2, 2)))})
    with pytest.raises(ValueError, match="no reward term has a weight"):
        group_advantages(rewards, settings, {"x": WeightedTerm(0.0, rewards)})


def test_one_sample_per_group_is_an_error() -> None:
    with pytest.raises(ValueError, match="group_size is 1: a group needs at least two samples"):
        GRPOSettings(group_size=1)
