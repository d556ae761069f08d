"""Experts: balance feedback, tables by phase, controllers; and the search for gains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from envs.body.joint_coordinates import COORDINATES
from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import DeepMimicSettings
from jobs import balance
from jobs.configs.balance import BalanceConfig
from rewards.evaluation.character import fixed_phases, imitation_episodes
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig, save_controller
from rollouts.imitation.balance_feedback import (
    NUM_GAINS,
    BalanceGains,
    GainsError,
    balance_offsets,
    gains_text,
    load_gains,
    root_errors,
    stance_share,
)
from rollouts.imitation.experts import (
    GAINS_FOLDER,
    BalanceExpert,
    ControllerExpert,
    ExpertByClip,
    PhaseTable,
    ReferenceExpert,
    RefinedExpert,
    action_units,
    build_expert,
    root_of,
)
from rollouts.imitation.settings import DemonstrationSettings

WALK = DeepMimicSettings()
SOME_GAINS = BalanceGains.from_vector(np.linspace(-0.5, 0.5, NUM_GAINS))


def walking(num_envs: int = 3) -> DeepMimicVectorEnv:
    env = make_vector_env(WALK, num_envs, seed=0)
    env.reset(seed=0, options={"phase": np.arange(num_envs) / num_envs})
    return env


def test_on_the_clip_there_is_nothing_to_correct() -> None:
    env = walking()
    label = BalanceExpert(SOME_GAINS).label(env, np.zeros(0))
    # The start is lifted out of the ground by some millimetres.
    assert np.abs(label - env.expert_action()).max() < 0.2
    assert np.abs(ReferenceExpert().label(env, np.zeros(0)) - env.expert_action()).max() == 0


def test_errors_are_seen_in_the_references_heading() -> None:
    env = walking(1)
    reference = env.task.reference.state(env.task.clip, env.task.time, env.task.origin).tracked
    state = root_of(env)
    moved = dataclasses.replace(
        state,
        root_position=state.root_position + np.array([0.1, 0.0, 0.0]),
        root_linear=state.root_linear + np.array([0.0, 0.5, 0.0]),
    )
    errors = root_errors(moved, reference)
    assert errors.forward[0, 2] == pytest.approx(1.0, abs=0.1)
    assert errors.sideways[0, 5] == pytest.approx(1.0, abs=0.1)
    assert np.abs(errors.forward[0, :2]).max() < 0.05


def test_left_and_right_mirror_each_other() -> None:
    env = walking(1)
    reference = env.task.reference.state(env.task.clip, env.task.time, env.task.origin).tracked
    errors = root_errors(root_of(env), reference)
    rng = np.random.default_rng(0)
    forward, sideways = rng.normal(size=(1, 6)), rng.normal(size=(1, 6))
    errors = dataclasses.replace(errors, forward=forward, sideways=sideways)
    mirrored = dataclasses.replace(errors, sideways=-sideways)
    gains = SOME_GAINS
    here = balance_offsets(errors, np.array([0.8]), gains.stance, gains.swing, gains.chest, COORDINATES)[0]
    there = balance_offsets(mirrored, np.array([0.2]), gains.stance, gains.swing, gains.chest, COORDINATES)[0]
    for index, name in enumerate(COORDINATES):
        other = name.replace("left", "L").replace("right", "left").replace("L", "right")
        sign = -1.0 if name.endswith(("_x", "_z")) else 1.0
        assert there[COORDINATES.index(other)] == pytest.approx(sign * here[index])
    assert np.abs(here).max() > 0.1


def test_the_lower_ankle_stands() -> None:
    assert stance_share(np.array([0.0, 0.2, 0.1]), np.array([0.2, 0.0, 0.1])).tolist() == [1.0, 0.0, 0.5]


def test_the_gains_that_ship_keep_walk_up_longer_than_open_loop() -> None:
    phases = fixed_phases(6)
    alone = imitation_episodes(WALK, ReferenceExpert().label, phases, 120).mean()["survival_s"]
    expert = BalanceExpert(load_gains(GAINS_FOLDER / "walk.json"))
    corrected = imitation_episodes(WALK, expert.label, phases, 120).mean()["survival_s"]
    assert alone < 1.6 and corrected > 2.0 * alone


def test_gains_survive_their_file_and_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gains.json"
    path.write_text(gains_text(SOME_GAINS, "by hand"))
    assert np.abs(load_gains(path).vector() - SOME_GAINS.vector()).max() < 1e-4
    with pytest.raises(GainsError, match=r"nowhere\.json"):
        load_gains(tmp_path / "nowhere.json")
    for text, words in (("{", "gains.json holds no gains"), ("{}", "stance"), (path.read_text()[:-9] + "}", "gains")):
        path.write_text(text)
        with pytest.raises(GainsError, match=words):
            load_gains(path)
    path.write_text('{"stance": [[0]], "swing": [[0]], "chest": [[0]]}')
    with pytest.raises(GainsError, match="6 x 6"):
        load_gains(path)


def test_tables_are_interpolated_by_phase() -> None:
    offsets = np.array([[0.0], [1.0], [2.0], [3.0]])
    wheel, line = PhaseTable(offsets, cyclic=True), PhaseTable(offsets, cyclic=False)
    assert wheel.at(np.array([0.0, 0.125, 0.75, 0.875])).ravel().tolist() == [0.0, 0.5, 3.0, 1.5]
    assert line.at(np.array([0.0, 0.5, 1.0])).ravel().tolist() == [0.0, 1.5, 3.0]


def test_a_refined_expert_adds_its_clips_table() -> None:
    settings = DeepMimicSettings(motion=("walk", "run"))
    env = make_vector_env(settings, 12, seed=3)
    observations, _ = env.reset(seed=3)
    tables = [PhaseTable(np.full((4, 28), value), cyclic=True) for value in (0.1, 0.2)]
    added = RefinedExpert(ReferenceExpert(), tables).label(env, observations) - env.expert_action()
    assert set(env.task.clip) == {0, 1}
    assert np.allclose(added * action_units(env), np.where(env.task.clip == 0, 0.1, 0.2)[:, None])
    each = ExpertByClip([RefinedExpert(ReferenceExpert(), [tables[0]] * 2), ReferenceExpert()])
    moved = np.abs(each.label(env, observations) - env.expert_action()).max(axis=1) > 0
    assert np.array_equal(moved, env.task.clip == 0)


def test_the_settings_choose_the_expert(tmp_path: Path) -> None:
    env = walking()
    assert isinstance(build_expert(DemonstrationSettings(), env), BalanceExpert)
    assert isinstance(build_expert(DemonstrationSettings(expert="reference"), env), ReferenceExpert)
    without = make_vector_env(DeepMimicSettings(motion=("backflip",)), 1)
    assert isinstance(build_expert(DemonstrationSettings(), without), ReferenceExpert)
    size = env.task.observation_size
    teacher = ActorCritic(ActorCriticConfig(size, 28, hidden_sizes=(4,), output_gain=1.0))
    save_controller(tmp_path, teacher, env.observation_schema)
    expert = build_expert(DemonstrationSettings(expert=str(tmp_path)), env)
    assert isinstance(expert, ControllerExpert)
    assert np.abs(expert.label(env, env.observe())).max() > 0
    other = make_vector_env(DeepMimicSettings(target_steps=(1,)), 1)
    with pytest.raises(ValueError, match="other observations"):
        build_expert(DemonstrationSettings(expert=str(tmp_path)), other)


def test_the_search_improves_gains_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gains.json"
    config = BalanceConfig.of(
        output=path,
        generations=2,
        population=4,
        starts=2,
        first_horizon_s=0.5,
        horizon_s=0.5,
        start=GAINS_FOLDER / "walk.json",
    )
    balance.run(config)
    moved = load_gains(path).vector() - load_gains(GAINS_FOLDER / "walk.json").vector()
    assert 0 < np.abs(moved).max() < 0.5
    assert "generation 2/2" in capsys.readouterr().out
