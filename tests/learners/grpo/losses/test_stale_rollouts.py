"""Updates from rollouts of the version before: importance ratios, what is reported of them, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from learners.grpo.learner import GRPOLearner
from learners.grpo.motion_loss import MotionInputs, motion_loss
from learners.grpo.objective import RatioError
from learners.grpo.settings import NOT_STALE, POLICY_LOSSES, GRPOSettings
from motions.base.errors import UserError
from rollouts.gaussians import gaussian_log_prob
from rollouts.messages import Trajectory
from tests.toys.tiny_learners import advantages, equal, make_learner, make_policy, roll_out

pytestmark = pytest.mark.slow


def after_one_update(**options: Any) -> tuple[GRPOLearner, list[Trajectory]]:
    """A learner at version 1, and trajectories of its version 0 that it has not seen."""
    learner = make_learner(**options)
    _, first = roll_out(learner, 0)
    _, second = roll_out(learner, 1)
    learner.update(first, advantages())
    return learner, second


def recorded_ratios(learner: GRPOLearner, trajectories: list[Trajectory]) -> np.ndarray:
    """exp(present log-probability - recorded one) of every pair, by one plain forward each."""
    ratios = []
    with learner.policy.inference():
        for trajectory in trajectories:
            text = torch.from_numpy(trajectory.condition.values).expand(trajectory.states.shape[1], -1, -1)
            for index, position in enumerate(trajectory.steps):
                step = learner.policy.transition(torch.from_numpy(trajectory.states[index]), int(position), text, None)
                drawn = torch.from_numpy(trajectory.next_states[index])
                log_probs = gaussian_log_prob(drawn, step.mean, step.std, None)
                ratios.append(np.exp(log_probs.double().numpy() - trajectory.log_probs[index]))
    return np.concatenate(ratios)


def test_ratios_are_those_to_the_policy_that_rolled_out() -> None:
    learner, stale = after_one_update(staleness=1, clip_epsilon=0.5)
    expected = recorded_ratios(learner, stale)
    metrics = learner.update(stale, advantages())
    assert "first_ratio_error" not in metrics
    assert metrics["off_policy_ratio_error"] == pytest.approx(np.abs(expected - 1).max(), rel=1e-2)
    assert metrics["off_policy_ratio_error"] > 1e-5
    assert metrics["ratio_mean"] == pytest.approx(expected.mean(), abs=1e-7)
    assert metrics["ratio_std"] == pytest.approx(expected.std(), rel=1e-2)
    assert metrics["clip_fraction"] == 0 and metrics["ratio_clipped_max"] == metrics["ratio_max"]
    assert learner.number == 2


def test_clipping_is_reported_before_and_after() -> None:
    learner, stale = after_one_update(staleness=1, clip_epsilon=3e-5, learning_rate=1e-2)
    metrics = learner.update(stale, advantages())
    assert metrics["ratio_min"] < metrics["ratio_clipped_min"] == pytest.approx(1 - 3e-5, abs=1e-9)
    assert metrics["ratio_max"] > metrics["ratio_clipped_max"] == pytest.approx(1 + 3e-5, abs=1e-9)
    assert 0 < metrics["ratio_clipped_std"] < metrics["ratio_std"]
    assert 0 < metrics["clip_fraction"] < 1


def test_the_clip_range_decides_what_is_learned_from_them() -> None:
    """The ratio of a stale rollout acts in the very first optimizer step."""
    wide, stale = after_one_update(staleness=1, clip_epsilon=0.5, learning_rate=1e-2)
    narrow, same = after_one_update(staleness=1, clip_epsilon=3e-5, learning_rate=1e-2)
    assert equal(wide.version().weights, narrow.version().weights)
    wide.update(stale, advantages())
    narrow.update(same, advantages())
    assert not equal(wide.version().weights, narrow.version().weights)


def test_rollouts_of_the_present_version_are_still_checked() -> None:
    plain, overlapped = make_learner(), make_learner(staleness=1)
    _, trajectories = roll_out(plain, 0)
    expected, found = plain.update(trajectories, advantages()), overlapped.update(trajectories, advantages())
    assert equal(plain.version().weights, overlapped.version().weights)
    assert found["first_ratio_error"] == expected["first_ratio_error"] <= 1e-5
    learner, stale = after_one_update(staleness=1)
    posing = [replace(one, policy_version=1) for one in stale]
    with pytest.raises(RatioError, match="the first ratio is"):
        learner.update(posing, advantages())


def test_older_ones_and_mixtures_are_refused() -> None:
    learner, stale = after_one_update(staleness=1)
    _, fresh = roll_out(learner, 1)
    with pytest.raises(ValueError, match="group 2 was rolled out by policy version 1, group 0 by 0"):
        learner.update([*stale[:2], fresh[2]], advantages())
    learner.update(stale, advantages())
    with pytest.raises(ValueError, match="policy version 0, the learner is at 2 and may be at most 1 ahead"):
        learner.update(stale, advantages())
    strict, old = after_one_update()
    with pytest.raises(ValueError, match=r"policy version 0, the learner is at 1$"):
        strict.update(old, advantages())


@pytest.mark.parametrize("loss", sorted(POLICY_LOSSES))
def test_losses_that_cannot_use_them_are_refused_before_anything_starts(loss: str) -> None:
    if loss in NOT_STALE:
        with pytest.raises(ValidationError, match=f"staleness is 1, but policy_loss {loss} compares with predictions"):
            GRPOSettings(policy_loss=loss, staleness=1)
    else:
        assert GRPOSettings(policy_loss=loss, staleness=1).staleness == 1


def test_other_options_that_cannot_use_them_are_refused() -> None:
    with pytest.raises(ValidationError, match="ratio_normalisation needs the exact KL"):
        GRPOSettings(staleness=1, ratio_normalisation=True)
    with pytest.raises(UserError, match=r"amp_dtype bf16 may be off by 0.001 .* rounding alone would clip them"):
        make_learner(make_policy(amp_dtype="bf16"), staleness=1)
    assert make_learner(make_policy(amp_dtype="bf16"), staleness=1, clip_epsilon=0.01).number == 0
    with pytest.raises(UserError, match="own_loss is a loss of final motions"):
        GRPOLearner(make_policy(), GRPOSettings(policy_loss=f"{__name__}:own_loss", staleness=1))


@motion_loss()
def own_loss(inputs: MotionInputs, settings: GRPOSettings) -> torch.Tensor:
    raise AssertionError("never called")
