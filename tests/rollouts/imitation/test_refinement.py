"""Refined labels track better than the labels they came from, each method in its own way."""

from __future__ import annotations

import numpy as np
import pytest

from envs.settings import DeepMimicSettings
from rollouts.imitation.inverse_dynamics import contact_consistent_torques
from rollouts.imitation.refinement import Refinement as RefinementResult
from rollouts.imitation.refinement import refine
from rollouts.imitation.settings import DemonstrationSettings, RefineMethod

pytestmark = pytest.mark.slow

WALK = DeepMimicSettings(control_hz=15)


def refined(method: RefineMethod, **changes: object) -> RefinementResult:
    values = {"refine_actions": True, "refine_method": method, "refine_iterations": 1, "refine_samples": 8, **changes}
    return refine(WALK, DemonstrationSettings.model_validate(values), seed=0)[0]


def test_none_changes_nothing() -> None:
    assert not refined("none").table.offsets.any()


def test_feedback_lowers_the_joint_error_the_more_the_longer() -> None:
    once, thrice = refined("feedback").figures, refined("feedback", refine_iterations=3).figures
    assert thrice["joint_error_after"] < once["joint_error_after"] < once["joint_error_before"]


@pytest.mark.parametrize("method", ["gradient", "mpc"])
def test_the_simulator_is_asked_what_an_action_does(method: RefineMethod) -> None:
    figures = refined(method).figures
    assert figures["reward_after"] > figures["reward_before"]


def test_inverse_dynamics_lets_the_ground_carry_the_body() -> None:
    torques = contact_consistent_torques(DeepMimicSettings(), np.arange(12) / 12)
    # The body weighs 441 N: without the ground the root would have to be held.
    assert torques.root_force_without_ground > 300
    assert torques.root_force < 0.15 * torques.root_force_without_ground
    result = refined("invdyn")
    assert result.figures["root_force_left_n"] < 44
    assert abs(result.table.offsets).max() > 0.01


def test_every_option_does_something() -> None:
    base = refined("mpc", refine_samples=4, refine_horizon=2).table.offsets
    for change in ({"refine_samples": 3}, {"refine_noise": 0.03}, {"refine_horizon": 1}):
        other = refined("mpc", **{"refine_samples": 4, "refine_horizon": 2, **change}).table.offsets
        assert not np.array_equal(other, base), change
    assert not np.array_equal(refined("feedback", refine_rate=0.2).table.offsets, refined("feedback").table.offsets)
