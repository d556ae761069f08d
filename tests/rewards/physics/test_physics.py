"""The physics reward against motions whose numbers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.data.prompts import Prompt, Segment
from motions.skeleton.features import FeatureLayout, extract_features
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rewards.declared.physics import PhysicsSettings
from rewards.messages import RewardError
from rewards.physics.kinematic import (
    PhysicsScorer,
    contact_by_height,
    foot_heights,
    mean_jerk,
    mean_joint_speed,
    physics_terms,
    skate_loss,
    skating_ratio,
)
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions
from tests.toys.synthetic_motion import walking_joints

FPS = HUMANML3D.fps
L_ANKLE, L_TOE, R_ANKLE, R_TOE = HUMANML3D.foot_joints
SETTINGS = PhysicsSettings(skate_free_speed=0.0, swing_exemption="cliff")


def standing(num_frames: int = 21) -> torch.Tensor:
    """A body at rest, [1, T, 22, 3] metres: toes on the floor, ankles 6 cm above, everything else at 1 m."""
    joints = torch.zeros(1, num_frames, 22, 3, dtype=torch.float64)
    joints[..., 1] = 1.0
    joints[:, :, [L_TOE, R_TOE], 1] = 0.0
    joints[:, :, [L_ANKLE, R_ANKLE], 1] = 0.06
    return joints


def seconds(num_frames: int = 21) -> torch.Tensor:
    return torch.arange(num_frames, dtype=torch.float64) / FPS


def full(joints: torch.Tensor) -> torch.Tensor:
    return torch.full((len(joints),), joints.shape[1])


def terms(joints: torch.Tensor, settings: PhysicsSettings = SETTINGS, **options: torch.Tensor) -> dict[str, float]:
    results = physics_terms(joints, full(joints), HUMANML3D, settings, **options)
    return {name: float(value[0]) for name, value in results.items()}


@pytest.mark.parametrize("speed", [0.3, 1.0])
def test_a_foot_that_slides_at_a_known_speed(speed: float) -> None:
    joints = standing()
    joints[0, :, L_TOE, 0] = 0.6 * speed * seconds()
    joints[0, :, L_TOE, 2] = -0.8 * speed * seconds()
    result = terms(joints)
    assert result["contact_share"] == 1.0
    assert result["skate"] == pytest.approx(speed**2 / 4)  # One of four feet in contact slides.
    assert terms(joints, PhysicsSettings(skate_free_speed=0.1, swing_exemption="cliff"))["skate"] == pytest.approx(
        (speed - 0.1) ** 2 / 4
    )
    assert result["skating_ratio"] == (1.0 if speed > 0.5 else 0.0)
    assert result["joint_speed"] == pytest.approx(speed / 22)


def test_sliding_counts_in_contact_only() -> None:
    joints = standing()
    joints[0, :, L_TOE, 0] = seconds()
    joints[0, 10:, L_TOE, 1] = 0.5  # From frame 10 the foot is in the air: steps 0..8 of 20 are contact.
    result = terms(joints)
    assert result["skate"] == pytest.approx(9 / (9 + 3 * 20))
    assert result["skating_ratio"] == pytest.approx(9 / 20)
    assert result["contact_share"] == pytest.approx(69 / 80)


def test_contact_heights_and_vertical_speed() -> None:
    joints = standing()
    joints[0, :, L_ANKLE, 1] = 0.09
    joints[0, :, R_TOE, 1] = torch.where(torch.arange(21) % 2 == 0, 0.0, 0.02)  # 0.4 m/s up and down.
    contact = contact_by_height(joints, full(joints), HUMANML3D, PhysicsSettings())
    assert contact[0].all(dim=0).tolist() == [False, True, True, False]
    assert contact[0].any(dim=0).tolist() == [False, True, True, False]
    wider = PhysicsSettings(contact_ankle_height=0.1, contact_vertical_speed=0.5)
    assert contact_by_height(joints, full(joints), HUMANML3D, wider).all()
    lower = PhysicsSettings(contact_toe_height=1e-3, contact_vertical_speed=0.5)
    contact = contact_by_height(joints, full(joints), HUMANML3D, lower)
    assert contact[0].any(dim=0).tolist() == [False, True, True, False]


def test_a_low_swinging_foot_does_not_slide_unless_the_other_does() -> None:
    walking = standing()
    walking[0, :, [L_ANKLE, L_TOE], 2] = 2.0 * seconds()[:, None]
    assert terms(walking)["skate"] == 0.0
    assert terms(walking)["contact_share"] == 0.5
    strict = PhysicsSettings(skate_free_speed=0.0, contact_swing_speed=None)
    assert terms(walking, strict)["skate"] == pytest.approx(4.0 / 2)
    gliding = walking.clone()
    gliding[0, :, [R_ANKLE, R_TOE], 2] = 2.0 * seconds()[:, None]
    assert terms(gliding)["skate"] == pytest.approx(4.0)


def test_the_floor_is_found_below_the_feet() -> None:
    joints = standing()
    lifted = joints + torch.tensor([0.0, 2.5, 0.0])
    torch.testing.assert_close(foot_heights(lifted, full(joints), HUMANML3D)[0, 0].tolist(), [0.06, 0.0, 0.06, 0.0])
    joints[0, 15:, :, 1] = -10.0  # Padding is no floor.
    heights = foot_heights(joints, torch.tensor([15]), HUMANML3D)
    torch.testing.assert_close(heights[0, 0].tolist(), [0.06, 0.0, 0.06, 0.0])


def test_the_floor_of_each_motion_is_the_quantile_of_its_own_frames() -> None:
    joints = torch.randn(4, 30, 22, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = torch.tensor([30, 4, 11, 6])  # 44 heights at 11 frames: the quantile lies between two of them
    heights = joints[:, :, list(HUMANML3D.foot_joints), 1]
    floors = [torch.quantile(rows[:length], 0.05) for rows, length in zip(heights, lengths, strict=True)]
    expected = heights - torch.stack(floors)[:, None, None]
    torch.testing.assert_close(foot_heights(joints, lengths, HUMANML3D), expected, atol=1e-12, rtol=0)


def test_jerk_of_a_cubic_is_six_times_its_coefficient() -> None:
    joints = standing()
    joints[0, :, :, 2] += 5.0 * seconds()[:, None] ** 3
    assert mean_jerk(joints, full(joints), HUMANML3D)[0] == pytest.approx(30.0)
    assert terms(joints, PhysicsSettings(jerk_scale=60.0))["jerk"] == pytest.approx(0.5)
    parabola = standing()
    parabola[0, :, :, 0] += 4.0 * seconds()[:, None] ** 2
    assert mean_jerk(parabola, full(parabola), HUMANML3D)[0] == pytest.approx(0.0, abs=1e-8)


def test_jerk_is_a_mean_over_joints_and_valid_frames() -> None:
    joints = standing()
    joints[0, :, 3, 1] += 11.0 * seconds() ** 3
    assert mean_jerk(joints, full(joints), HUMANML3D)[0] == pytest.approx(66.0 / 22)
    joints[0, 12:] = 1e3
    assert mean_jerk(joints, torch.tensor([12]), HUMANML3D)[0] == pytest.approx(66.0 / 22)


def test_joint_speed_is_masked() -> None:
    joints = standing()
    joints[0, :, :, 2] += 1.5 * seconds()[:, None]
    joints[0, 10:] = 7.0
    assert mean_joint_speed(joints, torch.tensor([10]), HUMANML3D)[0] == pytest.approx(1.5)


def test_skate_is_masked() -> None:
    joints = standing()
    joints[0, 10:, L_TOE, 0] = seconds()[10:]
    everything = torch.ones(1, 20, 4, dtype=torch.bool)
    assert skate_loss(joints, everything, torch.arange(20)[None] < 9, HUMANML3D, 0.0)[0] == 0.0
    assert skating_ratio(joints, torch.tensor([10]), HUMANML3D)[0] == 0.0
    assert skating_ratio(joints, torch.tensor([21]), HUMANML3D)[0] == pytest.approx(11 / 20)


def test_reward_follows_the_formula() -> None:
    joints = standing()
    joints[0, :, L_TOE, 0] = seconds()
    joints[0, :, :, 2] += 5.0 * seconds()[:, None] ** 3
    settings = PhysicsSettings(
        skate_free_speed=0.0, jerk_scale=60.0, jerk_floor=0.1, lambda_skate=0.3, lambda_jerk=2.0, min_joint_speed=0.0
    )
    result = terms(joints, settings)
    assert result["physics"] == pytest.approx(np.exp(-0.3 * result["skate"] - 2.0 * 0.5))
    gated = terms(joints, settings.model_copy(update={"min_joint_speed": 4 * result["joint_speed"]}))
    assert gated["speed_gate"] == pytest.approx(0.25)
    assert gated["physics"] == pytest.approx(result["physics"] / 4)


def test_a_frozen_motion_earns_nothing() -> None:
    """It has no sliding and no jerk, and would be the best there is."""
    assert terms(standing())["physics"] == 0.0
    ungated = terms(standing(), PhysicsSettings(min_joint_speed=0.0, jerk_floor=0.25, lambda_jerk=2.0))
    assert ungated["physics"] == pytest.approx(np.exp(-0.5))


def test_smoother_than_the_floor_earns_nothing_more() -> None:
    settings = PhysicsSettings(jerk_scale=60.0, jerk_floor=0.5, min_joint_speed=0.0)

    def reward(coefficient: float) -> float:
        joints = standing()
        joints[0, :, 15, 2] += coefficient * 22 * seconds() ** 3  # The head: no foot slides.
        return terms(joints, settings)["physics"]

    assert reward(1.0) == reward(4.0) == pytest.approx(np.exp(-0.5))
    assert reward(10.0) == pytest.approx(np.exp(-1.0))


def test_the_motions_own_contacts() -> None:
    settings = PhysicsSettings(
        contact_source="model", skate_free_speed=0.0, jerk_floor=0.0, min_joint_speed=0.0, lambda_contact=0.7
    )
    joints = standing()
    joints[0, :, L_TOE, 0] = seconds()
    honest, silent, partial = (torch.zeros(1, 21, 4, dtype=torch.float64) for _ in range(3))
    honest += 0.9
    partial[..., 1] = 0.6
    truthful = terms(joints, settings, claimed=honest)
    assert (truthful["skate"], truthful["contact_denied"]) == (pytest.approx(0.25), 0.0)
    assert terms(joints, settings, claimed=partial)["skate"] == pytest.approx(1.0)
    assert terms(joints, settings, claimed=partial)["contact_denied"] == pytest.approx(0.75)
    denied = terms(joints, settings, claimed=silent)
    assert (denied["skate"], denied["contact_denied"]) == (0.0, 1.0)
    assert denied["physics"] == pytest.approx(np.exp(-0.7))
    assert truthful["physics"] == pytest.approx(np.exp(-0.25))


def group(skeleton: Skeleton, lengths: list[int], seed: int = 0) -> GroupMotions:
    num_frames = max(lengths)
    features = np.stack(
        [
            extract_features(walking_joints(skeleton, num_frames + 1, seed=seed + index), skeleton)
            for index in range(len(lengths))
        ]
    )
    prompt = Prompt("walks", (Segment("walks", num_frames),))
    return GroupMotions(features, np.array(lengths), prompt, 0, 0.0)


def select(motions: GroupMotions, order: list[int], num_frames: int | None = None) -> GroupMotions:
    return GroupMotions(motions.features[order, :num_frames], motions.lengths[order], motions.prompt, 0, 0.0)


def test_rewards_follow_their_samples_whatever_the_padding() -> None:
    scorer = PhysicsScorer(RewardSettings(), HUMANML3D)
    motions = group(HUMANML3D, [40, 25, 33])
    motions.features[1, 25:] = np.nan
    motions.features[2, 33:] = 1e6
    together = scorer.score(motions).terms
    shuffled = scorer.score(select(motions, [2, 0, 1])).terms
    for index, length in enumerate([40, 25, 33]):
        alone = scorer.score(select(motions, [index], length)).terms
        for name, values in together.items():
            np.testing.assert_allclose(values[index], alone[name][0], rtol=1e-6, atol=1e-9, err_msg=name)
            assert shuffled[name][[1, 2, 0][index]] == values[index]
    assert len(set(together["jerk"].tolist())) == 3
    many = scorer.score_many([select(motions, [1]), motions])
    assert [len(result.terms["physics"]) for result in many] == [1, 3]


def test_kit_has_its_own_units_and_frame_rate() -> None:
    """The same movement at the same speed, in KIT's millimetres and frames, has the same numbers."""
    results = {}
    for skeleton in (HUMANML3D, KIT):
        num_frames = round(4.0 * skeleton.fps)
        joints = torch.zeros(1, num_frames, skeleton.num_joints, 3, dtype=torch.float64)
        joints[..., 1] = 1.0
        feet = list(skeleton.foot_joints)
        joints[:, :, feet, 1] = 0.0
        time = torch.arange(num_frames, dtype=torch.float64) / skeleton.fps
        joints[:, :, feet, 0] = 0.8 * time[:, None]
        joints[..., 2] += 0.02 * time[:, None] ** 3
        result = physics_terms(joints, full(joints), skeleton, PhysicsSettings(skate_free_speed=0.0))
        results[skeleton.name] = {name: float(value[0]) for name, value in result.items()}
        assert results[skeleton.name]["skate"] == pytest.approx(0.8**2, rel=0.3)
    assert results["humanml3d"]["jerk"] == pytest.approx(results["kit"]["jerk"])
    metres = PhysicsScorer(RewardSettings(), KIT).score(group(KIT, [40])).terms["joint_speed"]
    assert 0.1 < metres[0] < 3.0


def test_max_motion_length_cuts() -> None:
    motions = group(HUMANML3D, [40])
    cut = PhysicsScorer(RewardSettings.of(max_motion_length=20), HUMANML3D).score(motions).terms
    alone = PhysicsScorer(RewardSettings(), HUMANML3D)
    short = alone.score(GroupMotions(motions.features[:, :20], np.array([20]), motions.prompt, 0, 0.0)).terms
    np.testing.assert_array_equal(cut["jerk"], short["jerk"])
    assert alone.score(motions).terms["jerk"] != cut["jerk"]


def test_the_scorer_reads_the_contact_features() -> None:
    settings = RewardSettings.of(contact_source="model", skate_free_speed=0.0)
    motions = group(HUMANML3D, [30])
    motions.features[:, :, FeatureLayout(22).contacts] = 0.0
    silent = PhysicsScorer(settings, HUMANML3D).score(motions).terms
    motions.features[:, :, FeatureLayout(22).contacts] = 1.0
    assert (
        silent["contact_share"][0] == 0.0 < PhysicsScorer(settings, HUMANML3D).score(motions).terms["contact_share"][0]
    )


def test_motions_that_cannot_be_judged() -> None:
    scorer = PhysicsScorer(RewardSettings(), HUMANML3D)
    motions = group(HUMANML3D, [30, 20])
    with pytest.raises(RewardError, match=r"sample 1: length 3, legal are 4\.\.30"):
        scorer.score(GroupMotions(motions.features, np.array([30, 3]), motions.prompt, 0, 0.0))
    with pytest.raises(RewardError, match=r"expected \[N, T, 263\]"):
        scorer.score(group(KIT, [30]))
    motions.features[1, 19, 5] = np.inf
    with pytest.raises(RewardError, match=r"'physics', prompt 'walks', sample 1: the motion has values"):
        scorer.score(motions)
