"""The evaluation of controllers: neither standing still nor falling slowly gives a good score."""

from __future__ import annotations

import numpy as np
import pytest

from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DeepMimicSettings
from rewards.evaluation.character import (
    QUANTITIES,
    ExpertPolicy,
    HoldPose,
    evaluate_characters,
    fixed_phases,
    imitation_episodes,
    missed_targets,
    open_loop,
    push_recovery,
    table_text,
    zero_action,
)
from rewards.evaluation.settings import ControlEvaluationSettings
from rollouts.imitation.settings import DemonstrationSettings

WALK = DeepMimicSettings()


def test_open_loop_walks_for_a_second_and_falls() -> None:
    episodes = imitation_episodes(WALK, open_loop, fixed_phases(6), 150)
    means = episodes.mean()
    assert set(means) == set(QUANTITIES)
    assert 0.9 < means["survival_s"] < 1.5 and means["success"] == 0 and episodes.fell.all()
    assert means["joint_error_1s"] < 0.06 and 0.6 < means["reward"] < 0.95
    # A fall costs the reward of all the steps that the episode could have had.
    total = episodes.values["reward"] * episodes.steps
    assert np.allclose(episodes.values["normalised_return"], total / 150)
    assert means["normalised_return"] < 0.3


def test_standing_still_is_no_success_story() -> None:
    """The published policies of yelongshen/DeepMimic_mujoco survive by standing; reward and errors show that."""
    calm = WALK.model_copy(update={"early_termination": False})
    still = imitation_episodes(calm, HoldPose(), fixed_phases(4), 60)
    moving = imitation_episodes(calm, open_loop, fixed_phases(4), 60)
    assert still.mean()["success"] == 1.0
    assert still.mean()["joint_error_1s"] > 2 * moving.mean()["joint_error_1s"]
    assert still.mean()["normalised_return"] < moving.mean()["normalised_return"]


def test_the_same_starts_give_the_same_numbers() -> None:
    first, second = (imitation_episodes(WALK, open_loop, fixed_phases(3), 40).values for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert fixed_phases(4).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_a_clip_that_ends_is_measured_against_its_own_length() -> None:
    kick = DeepMimicSettings(motion=("kick",), early_termination=False)
    episodes = imitation_episodes(kick, open_loop, np.array([0.0, 0.5]), 600)
    assert episodes.steps.tolist() == [46, 23]
    assert np.allclose(episodes.values["normalised_return"], episodes.values["reward"])
    assert episodes.values["success"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mode", ["residual", "absolute"])
def test_hold_pose_aims_at_the_start_in_both_action_modes(mode: str) -> None:
    env = make_vector_env(DeepMimicSettings.model_validate({"action_mode": mode}), 2, seed=0)
    observations, _ = env.reset(options={"phase": np.array([0.2, 0.7])})
    start = env.coordinates()
    hold = HoldPose()
    for _ in range(4):
        actions = hold(env, observations)
        targets = env.task.targets(np.asarray(actions, dtype=np.float32), env.coordinates())
        assert np.abs(targets - start).max() < 1e-3
        observations, *_ = env.step(actions.astype(np.float32))


def test_zero_action_is_the_open_loop_in_residual_mode_only() -> None:
    def mean(mode: str, policy: object) -> dict[str, float]:
        settings = DeepMimicSettings.model_validate({"action_mode": mode})
        return imitation_episodes(settings, policy, fixed_phases(2), 30).mean()  # pyright: ignore[reportArgumentType]

    assert mean("residual", zero_action) == mean("residual", open_loop)
    assert mean("absolute", zero_action)["joint_error_1s"] > 2 * mean("absolute", open_loop)["joint_error_1s"]
    assert mean("absolute", open_loop)["joint_error_1s"] == pytest.approx(
        mean("residual", open_loop)["joint_error_1s"], abs=0.01
    )


def test_pushes_are_tried_by_force_and_direction() -> None:
    kind = DeepMimicSettings(ground_bodies=("right_ankle", "left_ankle"), max_body_deviation=None)
    settings = ControlEvaluationSettings(
        eval_episodes=3, eval_push_forces=(1.0, 4000.0), eval_push_directions=(0.0, 90.0), eval_push_at_s=0.1
    )
    table = push_recovery(kind.model_copy(update={"control_hz": 30}), open_loop, settings)
    assert set(table) == {"1 N", "4000 N"} and set(table["1 N"]) == {"all", "0", "90"}
    assert table["4000 N"]["all"] == 0.0


def test_every_clip_of_a_task_is_evaluated_alone() -> None:
    both = DeepMimicSettings(motion=("walk", "kick"))
    settings = ControlEvaluationSettings(eval_episodes=2, eval_steps=8, eval_push_forces=())
    evaluation = evaluate_characters(both, {"expert": ExpertPolicy(DemonstrationSettings())}, settings)
    alone = evaluate_characters(
        DeepMimicSettings(motion=("kick",)), {"expert": ExpertPolicy(DemonstrationSettings())}, settings
    )
    assert evaluation["motion"] == "walk" and evaluation["pushes"] == {}
    assert evaluation["other_clips"]["kick"]["policies"] == alone["policies"]
    assert "kick:" in table_text(evaluation)


def test_the_table_has_all_baselines_and_targets_name_what_is_missed() -> None:
    settings = ControlEvaluationSettings(
        eval_episodes=2, eval_steps=30, eval_push_forces=(100.0,), eval_push_directions=(0.0,)
    )
    evaluation = evaluate_characters(WALK, {"mine": open_loop}, settings)
    assert list(evaluation["policies"]) == ["mine", "open loop", "hold pose", "zero action"]
    assert evaluation["policies"]["mine"] == evaluation["policies"]["open loop"]
    assert len(evaluation["policies"]["mine"]["episodes"]["reward"]) == 2
    text = table_text(evaluation)
    assert "joint_error" in text and "push of 100 N" in text
    mean = evaluation["policies"]["mine"]["mean"]
    mean |= {"success": 0.79, "normalised_return": 0.71}
    evaluation["pushes"]["100 N"]["all"] = 0.9
    assert missed_targets(evaluation) == ["share of 20 s episodes without a fall 0.790 < 0.8"]
    mean["success"] = float("nan")
    assert len(missed_targets(evaluation)) == 1
