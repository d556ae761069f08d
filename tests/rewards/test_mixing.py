"""The total reward, its options, and what a bad term says."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.declared.extra import parse_extra_reward
from rewards.messages import RewardError, RewardTerms
from rewards.mixing import combine, mix
from rewards.scorers import reward_weights
from rewards.settings import RewardSettings

SEMANTIC = RewardTerms(
    "semantic", {"semantic": np.array([0.5, 0.25], np.float32), "r_pos": np.ones(2, np.float32)}, 0.1
)
PHYSICS = RewardTerms("physics", {"physics": np.array([1.0, 0.5], np.float32)}, 0.1)


def test_total_is_the_weighted_sum_and_terms_are_kept() -> None:
    settings = RewardSettings.of(use_physics_reward=True, beta_s=2.0, beta_p=0.5)
    mixed = combine([SEMANTIC, PHYSICS], settings, "walks")
    np.testing.assert_allclose(mixed.total, [1.5, 0.75])
    assert mixed.total.dtype == np.float32
    assert set(mixed.terms) == {"semantic", "r_pos", "physics"}
    np.testing.assert_array_equal(mixed.terms["physics"], PHYSICS.terms["physics"])


def test_physics_that_is_not_used_weighs_nothing() -> None:
    settings = RewardSettings.of(beta_p=0.5)
    assert reward_weights(settings) == {"semantic": 1.0, "physics": 0.0}
    np.testing.assert_allclose(combine([SEMANTIC, PHYSICS], settings, "walks").total, [0.5, 0.25])
    np.testing.assert_allclose(mix(SEMANTIC.terms, settings), [0.5, 0.25])


def test_extra_rewards_add_their_main_term() -> None:
    settings = RewardSettings.of(extra_rewards=("tests.toys.rewards:Height=-0.5",))
    assert reward_weights(settings)["height"] == -0.5
    height = RewardTerms("height", {"height": np.array([1.0, 2.0])}, 0.0)
    np.testing.assert_allclose(combine([SEMANTIC, height], settings, "walks").total, [0.0, -0.75])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_term_that_is_not_finite_is_named(value: float) -> None:
    bad = RewardTerms("physics", {"jerk": np.array([0.0, value])}, 0.1)
    with pytest.raises(
        RewardError, match=r"'physics', term 'jerk', prompt 'walks', sample 1: -?(nan|inf) is not finite"
    ):
        combine([SEMANTIC, bad], RewardSettings(), "walks")


def test_terms_that_do_not_fit() -> None:
    with pytest.raises(RewardError, match=r"shape \(3,\), expected \(2,\)"):
        combine([SEMANTIC, RewardTerms("physics", {"physics": np.ones(3)}, 0.1)], RewardSettings(), "walks")
    with pytest.raises(RewardError, match="taken by another scorer"):
        combine([SEMANTIC, RewardTerms("mine", {"r_pos": np.ones(2)}, 0.1)], RewardSettings(), "walks")
    with pytest.raises(RewardError, match=r"'physics'.* is missing"):
        combine([SEMANTIC], RewardSettings.of(use_physics_reward=True), "walks")
    with pytest.raises(RewardError, match="no scorer"):
        combine([], RewardSettings(), "walks")


@pytest.mark.parametrize(
    ("entry", "parsed"),
    [("a.b:C", ("a.b:C", 1.0)), ("a:C=0.25", ("a:C", 0.25)), ("a:C=-2", ("a:C", -2.0))],
)
def test_extra_reward_entries(entry: str, parsed: tuple[str, float]) -> None:
    assert parse_extra_reward(entry) == parsed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reward_type": "r_precision"}, "belongs to reward_model_type mdm"),
        ({"tmr_similarity_type": "euclidean"}, "needs reward_type 'matching'"),
        ({"tmr_text_encoder_path": "t.pt"}, "without tmr_motion_encoder_path"),
        ({"tmr_motion_encoder_path": "m.pt"}, "without tmr_text_encoder_path"),
        ({"tmr_movement_encoder_path": "d.pt"}, "without the text and motion"),
        (
            {"tmr_checkpoint_path": "x", "tmr_text_encoder_path": "t", "tmr_motion_encoder_path": "m"},
            "exclude each other",
        ),
        ({"alpha": -0.1}, "greater than or equal to 0"),
        ({"tmr_max_distance": 0}, "greater than 0"),
        ({"max_motion_length": 3}, "greater than or equal to 4"),
        ({"extra_rewards": ("nonsense",)}, "expected package.module:Class"),
        ({"extra_rewards": ("a:B=much",)}, "not a finite number"),
        ({"on_reward_error": "zero"}, "drop_group"),
        ({"beta_x": 1.0}, "unknown option 'beta_x'"),
    ],
)
def test_settings_refuse(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardSettings.of(values)


def test_the_guides_names_are_accepted() -> None:
    settings = RewardSettings.of(
        {
            "reward_type": "matching",
            "tmr_text_encoder_path": "t.pt",
            "tmr_motion_encoder_path": "m.pt",
            "tmr_movement_encoder_path": "d.pt",
            "tmr_similarity_type": "euclidean",
            "tmr_normalization": "exponential",
            "tmr_max_distance": "10.0",
            "tmr_scale": "2.0",
            "use_dense_reward": True,
            "use_physics_reward": True,
            "alpha": 0.5,
            "beta_s": 1.0,
            "beta_p": 0.1,
            "lambda_skate": 1.0,
            "lambda_jerk": 1.0,
            "max_motion_length": 196,
        }
    )
    assert not settings.semantic.builtin_tmr and RewardSettings().semantic.builtin_tmr
