"""The published protocol: figures at the ground, embeddings and figures of groups, and metrics in replications."""

from __future__ import annotations

import numpy as np
import pytest

from motions import metrics
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.protocol.ground import ground_figures
from rewards.evaluation.protocol.measuring import MotionMeter
from rewards.evaluation.protocol.replications import (
    Embeddings,
    NotFiniteError,
    Summary,
    distances_to,
    replication_metrics,
    summaries,
    unit,
)
from rewards.settings import RewardSettings
from rewards.tmr.scorer import Embedder, SemanticScorer
from tests.toys.small_tmr import WordEncoder, prompt_of, random_group, small_tmr


def still(height: float, frames: int = 5) -> np.ndarray:
    """A body whose lowest joints, the toes, are at a height, and all others half a metre higher."""
    joints = np.full((1, frames, 22, 3), 0.0)
    joints[..., 1] = height + 0.5
    joints[:, :, [10, 11], 1] = height
    return joints


@pytest.mark.parametrize(
    ("height", "penetrate", "floats"), [(-0.02, 20.0, 0.0), (-0.004, 0.0, 0.0), (0.004, 0.0, 0.0), (0.03, 0.0, 30.0)]
)
def test_the_lowest_joint_is_in_on_or_above_the_ground(height: float, penetrate: float, floats: float) -> None:
    found = ground_figures(still(height), np.array([5]), HUMANML3D)
    assert found["penetrate_mm"] == pytest.approx([penetrate])
    assert found["float_mm"] == pytest.approx([floats])
    assert found["skate_mm"] == [0.0]


def test_skate_is_the_way_of_feet_that_stay_on_the_ground() -> None:
    joints = still(0.0, frames=4)
    joints[0, :, 10, 0] = [0.0, 0.01, 0.03, 0.03]  # the left toe slides 10, 20 and 0 mm
    joints[0, 3, 10, 1] = 0.2  # and is in the air in the last frame: only two steps count
    joints[0, :, 11, 1] = 0.3  # the right foot never stands
    padded = np.concatenate([joints, np.full((1, 3, 22, 3), 7.0)], axis=1)
    assert ground_figures(padded, np.array([4]), HUMANML3D)["skate_mm"] == pytest.approx([15.0])
    with pytest.raises(ValueError, match="a motion has 1 frames"):
        ground_figures(joints, np.array([1]), HUMANML3D)


def test_groups_are_measured_as_the_dense_reward_sees_them_in_any_company() -> None:
    embedder = Embedder(small_tmr(), WordEncoder())
    meter = MotionMeter(embedder, HUMANML3D)
    composite, single = prompt_of(("a walks", 12), ("b kicks", 9)), prompt_of(("c jumps", 16))
    groups = [random_group(composite, [21, 21]), random_group(single, [16])]
    both = meter.measure(groups)
    settings = RewardSettings.of(use_dense_reward=True)
    dense = SemanticScorer(embedder, settings, HUMANML3D).score(groups[0]).terms
    for ours, theirs in (("segment_cosine", "r_pos"), ("r_neg",) * 2, ("margin_active",) * 2, ("logic_accuracy",) * 2):
        np.testing.assert_allclose(both[0].figures[ours], dense[theirs], rtol=1e-5)
    places = [both[0].figures[f"segment_cosine_{k}"] for k in (1, 2)]
    np.testing.assert_allclose(np.mean(places, axis=0), both[0].figures["segment_cosine"])
    assert both[0].texts.shape == (2, 8) and both[0].parts.shape == (2, 2, 8) and both[0].motions.shape == (2, 8)
    assert both[1].parts.shape == (1, 1, 8) and "logic_accuracy" not in both[1].figures
    np.testing.assert_array_equal(both[1].parts[:, 0], both[1].motions)
    [alone] = meter.measure(groups[1:])
    np.testing.assert_allclose(alone.motions, both[1].motions, atol=1e-5)
    assert {"skating_ratio", "jerk_mps3", "penetrate_mm", "float_mm", "skate_mm"} <= alone.figures.keys()


def test_a_replication_is_what_the_metrics_say_and_the_order_of_pools_is_drawn() -> None:
    rng = np.random.default_rng(0)
    texts, motions = rng.normal(size=(16, 4)), rng.normal(size=(16, 4))
    found = Embeddings(texts, 3.0 * motions, motions)
    plain = replication_metrics(found, np.random.default_rng(1), pool_size=16, diversity_times=300)
    assert plain["matching_score"] == pytest.approx(metrics.matching_score(texts, 3.0 * motions))
    expected = metrics.r_precision(texts, 3.0 * motions, pool_size=16)
    assert [plain[f"r_precision_{k}"] for k in (1, 2, 3)] == pytest.approx(expected)
    assert plain["diversity"] > 0.0
    # The cosine does not see how long a vector is.
    by_cosine = replication_metrics(found, np.random.default_rng(1), pool_size=16, by_cosine=True)
    assert by_cosine["matching_score"] == pytest.approx(metrics.matching_score(unit(texts), unit(motions)))
    pools = {replication_metrics(found, np.random.default_rng(seed), pool_size=4)["r_precision_1"] for seed in range(8)}
    assert len(pools) > 1
    with pytest.raises(ValueError, match=r"pool_size is 32 and there are 16 pairs"):
        replication_metrics(found, np.random.default_rng(0))


def test_fid_of_unit_vectors_forgets_lengths() -> None:
    real = np.random.default_rng(0).normal(size=(50, 3))
    found = distances_to(real, 5.0 * real, "_mismatched")
    assert found["fid_unit_mismatched"] == pytest.approx(0.0, abs=1e-8)
    assert found["fid_mismatched"] == pytest.approx(metrics.frechet_distance(real, 5.0 * real))


def test_intervals_are_those_of_the_public_code_and_nothing_that_is_not_finite_is_left_out() -> None:
    found = summaries([{"fid": 1.0, "only": 0.0}, {"fid": 2.0}, {"fid": 6.0}], "the model")
    assert found.keys() == {"fid"}
    assert found["fid"].mean == pytest.approx(3.0)
    assert found["fid"].interval == pytest.approx(1.96 * np.std([1.0, 2.0, 6.0]) / np.sqrt(3.0))
    assert Summary.of([4.0]).interval is None
    with pytest.raises(NotFiniteError, match="fid of the model is nan in replication 2"):
        summaries([{"fid": 1.0}, {"fid": float("nan")}], "the model")
