"""GRPO with the samplers of rectified flows: the first ratio, the exact KL, composed texts, precisions, learning."""

from __future__ import annotations

import numpy as np
import pytest

from learners.grpo.advantages import group_advantages
from learners.grpo.settings import GRPOSettings
from rollouts.registry import NOISE_SCALES
from tests.toys.tiny_learners import advantages, make_learner, make_policy, roll_out, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("sampler", NOISE_SCALES)
def test_the_first_ratio_is_one_and_the_kl_exact(sampler: str, lora: bool) -> None:
    learner = make_learner(make_policy(lora, sampler=sampler))
    first, second = train(learner, 2)
    assert first["first_ratio_error"] <= 1e-5 and first["kl_reference"] == 0
    assert second["first_ratio_error"] <= 1e-5 and second["kl_reference"] > 0
    assert second["ratio_mean"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sampler", NOISE_SCALES)
def test_composed_texts_in_half_precision(sampler: str) -> None:
    learner = make_learner(make_policy(sampler=sampler, amp_dtype="bf16"))
    for step in range(2):
        _, trajectories = roll_out(learner, step, composed=True)
        metrics = learner.update(trajectories, advantages(seed=step))
        assert metrics["first_ratio_error"] <= 1e-3
        assert (metrics["kl_reference"] > 0) == (step > 0)


def test_a_reward_rises() -> None:
    """A small feature 0, over all frames."""
    learner = make_learner(make_policy(sampler="flow_sde"), learning_rate=1e-2, kl_penalty=0.0, group_size=8)
    means = []
    for step in range(8):
        motions, trajectories = roll_out(learner, step, trained=(1, 2, 3), num=8)
        rewards = np.stack([-np.abs(group.features[:, :, 0]).mean(axis=1) for group in motions])
        means.append(rewards.mean())
        learner.update(trajectories, group_advantages(rewards, GRPOSettings()).values)
    assert np.mean(means[-2:]) > np.mean(means[:2]) + 0.02, means
