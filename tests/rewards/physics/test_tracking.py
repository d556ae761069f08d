"""The tracking reward: motions that can be followed score higher, and known ways to cheat do not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from motions.data.prompts import Prompt, Segment
from motions.humanoid.mocap import load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.features import extract_features, recover_joints
from motions.skeleton.skeletons import HUMANML3D, KIT
from rewards.declared.tracking import TRACKING, TrackingSettings
from rewards.messages import RewardError
from rewards.mixing import combine
from rewards.physics.tracking import TrackingScorer, tracking_terms
from rewards.physics.tracking_reference import TrackingReference, UntrackableError, tracking_reference
from rewards.physics.tracking_simulation import Track, TrackingSimulator
from rewards.scorers import build_scorers, reward_weights
from rewards.settings import RewardSettings
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, save_controller
from rollouts.messages import GroupMotions

pytestmark = pytest.mark.slow

Motion = np.ndarray
FAST: dict[str, Any] = {"use_tracking_reward": True, "tracking_physics_hz": 120, "tracking_max_s": 2.0}


@lru_cache
def walking() -> Motion:
    """Features [60, 263] of somebody who walks."""
    joints = retarget(load_clip("walk").pose(torch.arange(61) / 20.0)).numpy()
    return extract_features(joints, HUMANML3D).astype(np.float32)


def joints_of(features: Motion) -> np.ndarray:
    return recover_joints(torch.from_numpy(features.astype(np.float64)), HUMANML3D).numpy()


def reference_of(joints: np.ndarray, **options: float) -> TrackingReference:
    return tracking_reference(joints, 20.0, "sample 0", **{"max_seconds": 2.0, "max_floor_shift": 0.1, **options})


def group(*features: Motion) -> GroupMotions:
    frames = max(len(each) for each in features)
    padded = np.stack([np.pad(each, ((0, frames - len(each)), (0, 0)), constant_values=7.0) for each in features])
    prompt = Prompt("a person walks", (Segment("a person walks", frames),))
    return GroupMotions(padded.astype(np.float32), np.array([len(each) for each in features]), prompt, 0, 0.0)


def scored(*features: Motion, **options: Any) -> dict[str, np.ndarray]:
    return TrackingScorer(RewardSettings.of(**{**FAST, **options}), HUMANML3D).score(group(*features)).terms


def track_of(joints: np.ndarray, **options: Any) -> Track:
    return TrackingSimulator(RewardSettings.of(**{**FAST, **options}).tracking).run([reference_of(joints)])[0]


def test_terms_are_finite_and_in_range() -> None:
    terms = scored(walking())
    assert tuple(terms) == tuple(TRACKING.terms)
    assert all(values.shape == (1,) and np.isfinite(values).all() for values in terms.values())
    assert 0.0 < terms["tracking"][0] <= 1.0 and 0.0 < terms["tracked_fraction"][0] <= 1.0
    assert terms["tracking_failed"][0] == 0.0 and terms["tracking_speed_gate"][0] == 1.0


def test_a_reward_depends_on_its_motion_alone() -> None:
    short = walking()[:41]
    together = scored(walking(), short, walking()[5:])
    swapped = scored(walking()[5:], walking(), short)
    alone = scored(short)
    for name in TRACKING.terms:
        np.testing.assert_array_equal(together[name][[2, 0, 1]], swapped[name], err_msg=name)
        np.testing.assert_array_equal(together[name][1:2], alone[name], err_msg=name)
    scorer = TrackingScorer(RewardSettings.of(**FAST), HUMANML3D)
    many = scorer.score_many([group(short), group(walking())])
    np.testing.assert_array_equal(many[0].terms["tracking"], alone["tracking"])
    np.testing.assert_array_equal(many[1].terms["tracking"], together["tracking"][:1])


def test_what_no_body_can_do_is_tracked_worse() -> None:
    joints = joints_of(walking())
    generator = np.random.default_rng(0)
    tracker = TrackingSimulator(RewardSettings.of(**FAST).tracking)
    motions = (
        joints,
        joints + generator.normal(0.0, 0.03, joints.shape),
        joints + np.array([0.0, 0.35, 0.0]),
        joints + np.arange(len(joints))[:, None, None] * np.array([0.05, 0.0, 0.0]),
    )
    accuracies = []
    for track in tracker.run([reference_of(each) for each in motions]):
        accuracies.append(np.exp(-np.array(track.errors) / 0.1).sum() / track.num_steps)
    assert min(accuracies[0] - other for other in accuracies[1:]) > 0.05, accuracies


def test_standing_still_earns_nothing() -> None:
    frozen = walking().copy()
    frozen[:] = frozen[0]
    frozen[:, :3] = 0.0  # Turning, going.
    terms = scored(frozen)
    assert terms["tracked_fraction"][0] == 1.0 and terms["tracking_accuracy"][0] > 0.4
    assert terms["tracking"][0] < 0.02
    assert scored(frozen, min_joint_speed=0.0)["tracking"][0] > 0.4


def test_falling_at_once_earns_nothing() -> None:
    settings = RewardSettings.of(**FAST).tracking
    early = Track(60, errors=[0.01], root_errors=[0.01], assists=[0.0], lost=True)
    whole = Track(60, errors=[0.01] * 60, root_errors=[0.01] * 60, assists=[0.0] * 60)
    reference = reference_of(joints_of(walking()))
    assert tracking_terms(reference, early, 1.0, settings)["tracking"] == 0.0
    assert tracking_terms(reference, whole, 1.0, settings)["tracking"] > 0.9


def test_a_motion_that_cannot_be_simulated_counts_as_failed() -> None:
    leap = walking().copy()
    leap[20, 1:3] = 50.0  # A jump of tens of metres from frame to frame.
    terms = scored(leap, walking())
    assert terms["tracking"][0] == 0.0 and terms["tracking_failed"].tolist() == [1.0, 0.0]
    broken = Track(60, errors=[0.01] * 30, root_errors=[0.0], assists=[0.0], lost=True, diverged=True)
    reference = reference_of(joints_of(walking()))
    assert tracking_terms(reference, broken, 1.0, RewardSettings.of(**FAST).tracking)["tracking"] == 0.0
    broken_features = walking().copy()
    broken_features[3, 3] = np.nan
    with pytest.raises(RewardError, match="not finite"):
        scored(broken_features)


def test_the_floor_is_found_but_hovering_is_kept() -> None:
    joints = joints_of(walking())
    at_floor = reference_of(joints)
    raised = reference_of(joints + np.array([0.0, 0.06, 0.0]))
    np.testing.assert_allclose(raised.bodies, at_floor.bodies, atol=2e-3)
    assert raised.floor_shift < at_floor.floor_shift - 0.05
    hovering = reference_of(joints + np.array([0.0, 0.5, 0.0]))
    assert hovering.floor_shift == -0.1 and hovering.heights.min() > 0.3
    sunk = reference_of(joints - np.array([0.0, 0.4, 0.0]))
    assert sunk.penetration > 0.2 and at_floor.penetration < 0.03


def test_a_larger_shift_to_the_floor_can_be_allowed() -> None:
    hovering = walking().copy()
    hovering[:, [3, *range(5, 4 + 63, 3)]] += 0.3  # The heights of the root and of the other joints.
    shifts = [
        float(scored(hovering, tracking_max_floor_shift=metres)["tracking_floor_shift_m"][0])
        for metres in (0.0, 0.2, 0.5)
    ]
    assert shifts[:2] == pytest.approx([0.0, -0.2]) and -0.4 < shifts[2] < -0.2


def test_time_is_limited() -> None:
    joints = joints_of(walking())
    assert reference_of(joints, max_seconds=1.0).num_steps == 30
    assert reference_of(joints, max_seconds=60.0).num_steps == 88  # 59 intervals of 1/20 s
    with pytest.raises(UntrackableError, match="control steps"):
        tracking_reference(joints[:2], 100.0, "sample 1", max_seconds=2.0, max_floor_shift=0.1)


def test_help_at_the_root_keeps_up_what_would_fall() -> None:
    joints = joints_of(walking())
    alone = track_of(joints, tracking_root_force=0.0, tracking_root_torque=0.0)
    helped = track_of(joints)
    assert len(helped.errors) > len(alone.errors) and np.mean(alone.assists) == 0.0 < np.mean(helped.assists)
    costly = scored(walking(), tracking_assist_weight=1.0)["tracking"][0]
    free = scored(walking(), tracking_assist_weight=0.0)["tracking"][0]
    assert free > costly + 0.1


def test_each_weight_counts() -> None:
    reference = reference_of(joints_of(walking()))
    track = Track(10, errors=[0.1] * 10, root_errors=[0.1] * 10, slips=[0.5] * 10, assists=[0.2] * 10)
    settings = TrackingSettings(**FAST, tracking_slip_weight=0.0, tracking_assist_weight=0.0)

    def value(**options: float) -> float:
        return tracking_terms(reference, track, 1.0, settings.model_copy(update=options))["tracking"]

    assert value() == pytest.approx(0.5 + 0.5 * np.exp(-1.0))
    assert value(tracking_survival_weight=0.0) == pytest.approx(np.exp(-1.0))
    assert value(tracking_error_scale=0.05) == pytest.approx(0.5 + 0.5 * np.exp(-2.0))
    assert value(tracking_slip_weight=0.2) == pytest.approx(value() - 0.1)
    assert value(tracking_assist_weight=0.5) == pytest.approx(value() - 0.1)


def test_a_wider_tolerance_and_stronger_muscles_track_longer() -> None:
    joints = joints_of(walking())[::2]  # twice as fast
    tight, wide = (track_of(joints, tracking_max_deviation=metres) for metres in (0.05, 1.0))
    assert len(tight.errors) < len(wide.errors)
    weak, strong = (track_of(joints, tracking_torque_scale=scale, tracking_max_deviation=1.0) for scale in (0.2, 3.0))
    steps = min(len(weak.errors), len(strong.errors), 8)
    assert np.mean(strong.errors[:steps]) < np.mean(weak.errors[:steps])


def test_a_controller_can_track(tmp_path: Path) -> None:
    options = {"joints": "ball", "observation_blocks": ("root", "joints", "targets"), "target_steps": (1, 2)}
    task = ImitationTask(DeepMimicSettings(motion=("walk",), **options), 1)
    controller = ActorCritic(ActorCriticConfig(task.observation_size, 28, (8,)))
    save_controller(tmp_path, controller, task.schema, {})
    silent = track_of(joints_of(walking()), tracking_controller=str(tmp_path))
    plain = track_of(joints_of(walking()))
    assert abs(silent.errors[0] - plain.errors[0]) < 0.01  # A new controller hardly moves the targets.
    with torch.no_grad():
        [*controller.policy.parameters()][-1].fill_(2.0)  # the output's biases
    save_controller(tmp_path, controller, task.schema, {})
    pushed = track_of(joints_of(walking()), tracking_controller=str(tmp_path))
    assert np.mean(pushed.errors[:3]) > np.mean(plain.errors[:3]) + 0.01
    for changed, message in (
        ({"action_mode": "absolute"}, "action_mode is 'absolute'"),
        ({"control_hz": 60}, "control_hz is 60"),
        ({"coordinates": []}, "differs in coordinates"),
    ):
        save_controller(tmp_path, controller, task.schema | changed, {})
        with pytest.raises(ValueError, match=message):
            track_of(joints_of(walking()), tracking_controller=str(tmp_path))


def test_a_controller_tracks_in_its_own_physics_without_help(tmp_path: Path) -> None:
    trained = DeepMimicSettings(torque_scale=1.3, friction=0.7, pd="stable", motion=("run",))
    task = ImitationTask(trained, 1)
    controller = ActorCritic(ActorCriticConfig(task.observation_size, 28, (8,)))
    save_controller(tmp_path, controller, task.schema, {"task": trained.model_dump(mode="json")})
    settings = TrackingSettings(use_tracking_reward=True, tracking_controller=str(tmp_path))
    simulated = TrackingSimulator(settings).task_settings
    assert (simulated.torque_scale, simulated.friction, simulated.pd) == (1.3, 0.7, "stable")
    assert simulated.physics_hz == trained.physics_hz and simulated.joints == "hinge"
    track = track_of(joints_of(walking()), tracking_controller=str(tmp_path), tracking_max_s=0.5)
    assert track.errors and not any(track.assists)
    asked = settings.model_copy(update={"tracking_torque_scale": 3.0, "tracking_root_force": 100.0})
    assert TrackingSimulator(asked).task_settings.torque_scale == 3.0
    helped = track_of(
        joints_of(walking()), tracking_controller=str(tmp_path), tracking_max_s=0.5, tracking_root_force=100.0
    )
    assert any(helped.assists)


def test_pybullet_tracks_too() -> None:
    joints = joints_of(walking())
    for help_n in (0.0, 400.0):
        options = {"tracking_root_force": help_n, "tracking_root_torque": help_n / 2, "tracking_physics_hz": 240}
        bullet = track_of(joints, tracking_engine="bullet", **options)
        mujoco = track_of(joints, **options)
        steps = min(len(bullet.errors), len(mujoco.errors), 6)
        assert steps == 6 and not bullet.diverged
        np.testing.assert_allclose(bullet.errors[:steps], mujoco.errors[:steps], atol=0.04)
    once = scored(walking(), walking()[20:], tracking_engine="bullet")["tracking"]
    np.testing.assert_array_equal(scored(walking()[20:], tracking_engine="bullet")["tracking"], once[1:])


def test_it_is_one_of_the_rewards_where_it_is_used() -> None:
    off = RewardSettings()
    assert "tracking" not in build_scorers(off, HUMANML3D) and "tracking" not in reward_weights(off)
    on = RewardSettings.of(**FAST, beta_t=0.5, beta_s=0.0)
    assert reward_weights(on)["tracking"] == 0.5
    result = build_scorers(on, HUMANML3D)["tracking"]().score(group(walking()))
    mixed = combine([result], on, "a person walks")
    np.testing.assert_allclose(mixed.total, 0.5 * result.terms["tracking"], rtol=1e-6)
    with pytest.raises(RewardError, match="tracking"):
        combine([replace(result, scorer="other", terms={"other": np.ones(1, np.float32)})], on, "a person walks")
    with pytest.raises(ValueError, match="humanml"):
        TrackingScorer(on, KIT)
