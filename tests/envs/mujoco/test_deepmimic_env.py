"""The MuJoCo environments: single and batched alike, exact to resume, and each option doing what it says."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers)
from envs.body.joint_coordinates import COORDINATES
from envs.body.mujoco_import import Data, mujoco
from envs.body.mujoco_model import build_humanoid
from envs.body.rotations import rotation_matrices
from envs.body.state import KinematicsReader
from envs.mujoco.environment import DeepMimicEnv
from envs.mujoco.physics import make_physics
from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.imitation_reward import TERMS
from envs.task.imitation_task import EpisodeStarts, ImitationTask
from envs.task.reference import ReferenceMotion

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ALIVE = {"early_termination": False}


def settings(**options: Any) -> DeepMimicSettings:
    return DeepMimicSettings.model_validate(options)


def vector(num_envs: int = 2, seed: int = 0, **options: Any) -> DeepMimicVectorEnv:
    return make_vector_env(settings(**options), num_envs, seed)


def noise(steps: int, num_envs: int, scale: float = 0.3, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((steps, num_envs, 28))).astype(np.float32)


def test_gymnasium_accepts_the_environment() -> None:
    variants: list[dict[str, Any]] = [{}, {"joints": "ball", "action_mode": "absolute"}, {"motion": "kick,walk"}]
    for options in variants:
        env = gymnasium.make("kinetune/DeepMimic-v0", **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unbounded observations are a matter of taste
            check_env(env.unwrapped)
        env.close()


def test_gymnasium_makes_the_batched_one_through_the_entry_point() -> None:
    env = gymnasium.make_vec("kinetune/DeepMimic-v0", num_envs=3, motion="run", vectorization_mode="vector_entry_point")
    assert isinstance(env, DeepMimicVectorEnv)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    observations, infos = env.reset(seed=1)
    assert observations in env.observation_space
    results = env.step(env.action_space.sample())
    assert results[0] in env.observation_space
    assert {f"reward_{term}" for term in TERMS} < set(results[4])
    assert infos["phase"].shape == (3,)


@pytest.mark.parametrize(
    "options", [{}, {"joints": "ball", "push_force": 200.0, "push_interval_s": 0.5, "start_noise": 0.4}]
)
def test_a_row_is_the_single_environment_of_its_seed(options: dict[str, Any]) -> None:
    """Physics and observations to the bit, rewards to rounding, over falls and new episodes."""
    many = vector(3, **options)
    ones = [DeepMimicEnv(settings(**options)) for _ in range(3)]
    observations = many.reset(seed=7)[0]
    for row, one in enumerate(ones):
        np.testing.assert_array_equal(one.reset(seed=7 + row)[0], observations[row])
    ended, falls = [False] * 3, 0
    for actions in noise(60, 3):
        observations, rewards, terminated, truncated, infos = many.step(actions)
        for row, one in enumerate(ones):
            if ended[row]:
                observation, reward, fell, over = one.reset()[0], 0.0, False, False
            else:
                observation, reward, fell, over, info = one.step(actions[row])
                assert info["joint_error"] == pytest.approx(infos["joint_error"][row], abs=1e-9)
            np.testing.assert_allclose(observation, observations[row], atol=1e-6)
            assert reward == pytest.approx(rewards[row], abs=1e-9)
            assert (fell, over) == (terminated[row], truncated[row])
            ended[row] = fell or over
            falls += fell
    assert falls >= 2


def test_threads_change_nothing() -> None:
    one, three = vector(5, nthread=1), vector(5, nthread=3)
    np.testing.assert_array_equal(one.reset()[0], three.reset()[0])
    for actions in noise(40, 5):
        for ours, theirs in zip(one.step(actions)[:4], three.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    three.close()


def test_autoreset_in_the_same_step_shows_the_same_episodes() -> None:
    later, now = vector(2), make_same_step(2)
    later.reset(seed=3)
    now.reset(seed=3)
    actions = noise(50, 2, 0.6)
    ends = 0
    for step in actions:
        observations, _, terminated, truncated, infos = now.step(step)
        wanted = later.step(step)
        ended = terminated | truncated
        np.testing.assert_array_equal(ended, wanted[2] | wanted[3])
        if ended.any():
            ends += 1
            for row in np.flatnonzero(ended):
                np.testing.assert_array_equal(infos["final_obs"][row], wanted[0][row])
                assert infos["final_info"]["joint_error"][row] == wanted[4]["joint_error"][row]
            # Both forget the other rows, so that the next episodes can be compared from here on.
            first = later.step(step)[0]
            np.testing.assert_array_equal(first[ended], observations[ended])
            now.set_state(later.state())
    assert ends >= 2


def make_same_step(num_envs: int) -> DeepMimicVectorEnv:
    return DeepMimicVectorEnv(num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)


@pytest.mark.parametrize("joints", ["hinge", "ball"])
def test_resuming_is_exact(joints: str) -> None:
    options = {"joints": joints, "motion": "walk,run", "push_force": 150.0, "push_interval_s": 0.4}
    env, other = vector(4, **options), vector(4, seed=99, **options)
    env.reset()
    actions = noise(70, 4)
    for step in actions[:30]:
        env.step(step)
    state = env.state()
    before = env.observe()
    other.reset()
    other.set_state(state)
    np.testing.assert_array_equal(other.observe(), before)
    for step in actions[30:]:
        for ours, theirs in zip(env.step(step)[:4], other.step(step)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="state has qpos of shape"):
        vector(3, **options).set_state(state)


def test_resuming_one_is_exact() -> None:
    env, other = DeepMimicEnv(), DeepMimicEnv()
    env.reset(seed=3)
    other.reset(seed=4)
    for action in noise(6, 1)[:, 0]:
        env.step(action)
    other.set_state(env.state())
    for action in noise(40, 1, seed=1)[:, 0]:
        ours, theirs = env.step(action), other.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
        if ours[2]:
            np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    with pytest.raises(ValueError, match="state has qpos of shape"):
        DeepMimicEnv(joints="ball").set_state(env.state())


def test_seeds_and_phases_choose_the_start() -> None:
    env = vector(3)
    first = env.reset(seed=5)[1]["phase"]
    assert len(set(first)) == 3
    np.testing.assert_array_equal(env.reset(seed=5)[1]["phase"], first)
    assert not np.isclose(env.reset()[1]["phase"], first).any()
    np.testing.assert_allclose(env.reset(options={"phase": [0.0, 0.5, 0.9]})[1]["phase"], [0.0, 0.5, 0.9], atol=1e-9)
    assert vector(2, reference_start="fixed", start_phase=0.25).reset()[1]["phase"] == pytest.approx(0.25)
    mask = np.array([False, True, False])
    env.reset(options={"phase": 0.1, "reset_mask": mask})
    np.testing.assert_allclose(env.task.phase, [0.0, 0.1, 0.9], atol=1e-9)
    with pytest.raises(ValueError, match="phase is"):
        env.reset(options={"phase": 1.0})
    with pytest.raises(ValueError, match="phase has shape"):
        env.reset(options={"phase": [0.1, 0.2]})
    with pytest.raises(ValueError, match="unknown reset option 'phases'"):
        env.reset(options={"phases": 0.1})
    with pytest.raises(ValueError, match="unknown reset option"):
        DeepMimicEnv().reset(options={"time": 0.1})


def test_observations_are_what_the_engine_says() -> None:
    blocks = ("bodies", "root", "joints", "key_positions", "phase", "targets")
    env = vector(4, observation_blocks=blocks, target_steps=(2,), root_sync=False, **ALIVE)
    observations, _ = env.reset()
    for actions in noise(9, 4):
        observations = env.step(actions)[0]
    schema = env.observation_schema["observation"]
    ends = np.cumsum(list(schema.values()))
    part = {name: observations[:, end - size : end] for (name, size), end in zip(schema.items(), ends, strict=True)}
    model, state = build_humanoid(env.settings), env.state()
    data: Data = mujoco.MjData(model)
    ids = [model.body(name).id for name in BODY_NAMES]
    effectors = [model.body(name).id for name in ("right_ankle", "right_wrist", "left_ankle", "left_wrist")]
    target = env.task.reference.target(env.task.clip, env.task.time + 2 / 30, env.task.origin)
    for row in range(4):
        data.qpos[:], data.qvel[:] = state["qpos"][row], state["qvel"][row]
        mujoco.mj_forward(model, data)
        root = data.xmat[ids[0]].reshape(3, 3)
        yaw = np.arctan2(root[1, 0], root[0, 0])
        turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])

        def axes(matrix: np.ndarray, turn: np.ndarray = turn) -> np.ndarray:
            return np.concatenate((turn @ matrix[:, 0], turn @ matrix[:, 1]))

        spin = np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, ids[0], spin, 0)
        expected = np.concatenate(([data.qpos[2]], axes(root), turn @ data.qvel[:3], turn @ spin[:3]))
        np.testing.assert_allclose(part["root"][row], expected, atol=2e-6)
        np.testing.assert_allclose(part["joints"][row], np.concatenate((data.qpos[7:], data.qvel[6:])), rtol=1e-6)
        points = (data.xpos[effectors] - data.qpos[:3]) @ turn.T
        points[:, 2] = data.xpos[effectors, 2]
        np.testing.assert_allclose(part["key_positions"][row], points.ravel(), atol=2e-6)
        bodies = []
        for body in ids:
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, spin, 0)
            place = turn @ (data.xpos[body] - data.qpos[:3])
            bodies += [*place, *axes(data.xmat[body].reshape(3, 3)), *(turn @ spin[3:]), *(turn @ spin[:3])]
        np.testing.assert_allclose(part["bodies"][row], bodies, atol=1e-5)
        ahead = target.root_axes[row].reshape(2, 3) @ turn.T
        place = turn @ (target.root_position[row] - data.qpos[:3])
        expected = np.concatenate((place, ahead.ravel(), target.coordinates[row]))
        np.testing.assert_allclose(part["targets"][row], expected, atol=2e-6)
        angle = 2 * np.pi * env.task.phase[row]
        np.testing.assert_allclose(part["phase"][row], [np.cos(angle), np.sin(angle)], atol=1e-6)


def test_the_sensors_that_are_read_do_not_lag() -> None:
    """A finished step's own sensors show the state before it; ours must show the state itself."""
    env = vector(3, **ALIVE)
    env.reset()
    for actions in noise(4, 3):
        env.step(actions)
    model, state = build_humanoid(env.settings), env.state()
    reader = KinematicsReader(env.settings, "velocity", with_bodies=False)
    ours = reader.read(state["qpos"], state["qvel"])
    data: Data = mujoco.MjData(model)
    rows = [model.body(name).id for name in BODY_NAMES]
    for row in range(3):
        data.qpos[:], data.qvel[:] = state["qpos"][row], state["qvel"][row]
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        np.testing.assert_allclose(ours.body_positions[row], data.xpos[rows], atol=1e-12)
        np.testing.assert_allclose(ours.com[row], data.subtree_linvel[1], atol=1e-12)
        rotations = rotation_matrices(ours.rotations[row])
        parent, child = (data.xmat[model.body(name).id].reshape(3, 3) for name in ("right_hip", "right_knee"))
        np.testing.assert_allclose(rotations[4], parent.T @ child, atol=1e-12)
        world = [data.cvel[model.body(name).id, :3] for name in ("right_hip", "right_knee")]
        np.testing.assert_allclose(ours.velocities[row, 4], child.T @ (world[1] - world[0]), atol=1e-10)
    positions = KinematicsReader(env.settings, "position", with_bodies=False).read(state["qpos"], state["qvel"]).com
    np.testing.assert_allclose(positions[2], data.subtree_com[1], atol=1e-12)
    assert not KinematicsReader(env.settings, None, with_bodies=False).read(state["qpos"], state["qvel"]).com.any()


def test_a_start_on_the_clip_is_worth_one() -> None:
    env = vector(20, **ALIVE)
    env.reset(options={"phase": np.arange(20) / 20})
    reader = KinematicsReader(env.settings, "velocity", with_bodies=False)
    state, task = env.state(), env.task
    packed = task.reference.compared(task.clip, task.time, task.origin)
    mine = reader.read(state["qpos"], state["qvel"])
    errors, apart = task.reward.compare(mine.packed, packed)
    assert task.reward.total(task.reward.terms(errors)).min() > 0.99
    assert apart[:, :13].max() < 2e-3


def test_residual_and_absolute_experts_are_the_same_expert() -> None:
    residual, absolute = vector(4, **ALIVE), vector(4, action_mode="absolute", **ALIVE)
    for env in (residual, absolute):
        env.reset(options={"phase": [0.0, 0.3, 0.6, 0.9]})
    assert not residual.expert_action().any()
    assert 0.1 < np.abs(absolute.expert_action()).max() <= 3.0
    for _ in range(12):
        ours = residual.step(residual.expert_action())
        theirs = absolute.step(absolute.expert_action())
        np.testing.assert_allclose(ours[0], theirs[0], atol=5e-3)
        assert ours[4]["joint_error"].max() < 0.1


def test_action_units() -> None:
    task = ImitationTask(settings(action_mode="absolute", motion="walk", action_scale=0.25), 1)
    low, high = task.reference.coordinate_range()
    limits = task.targets(np.stack([np.full(28, 1.0)]), np.zeros((1, 28)))[0]
    assert (limits >= high - 1e-9).all()
    assert (limits - task.targets(np.zeros((1, 28)), np.zeros((1, 28)))[0]).min() == pytest.approx(0.25)
    assert (low < high).any()
    task = ImitationTask(settings(action_scale=0.5, action_bound=2.0), 1)
    task.start(np.zeros(1, int), [np.random.default_rng(0)])
    centre = task.targets(np.zeros((1, 28)), np.zeros((1, 28)))
    np.testing.assert_allclose(task.targets(np.full((1, 28), 9.0), np.zeros((1, 28))) - centre, 1.0)


def test_whole_turns_of_hinges_do_not_matter() -> None:
    task = ImitationTask(settings(), 1)
    task.start(np.zeros(1, int), [np.random.default_rng(0)])
    coordinates = np.zeros((1, 28))
    plain = task.targets(np.zeros((1, 28)), coordinates)
    hip = COORDINATES.index("left_hip_z")
    coordinates[0, hip] = 4 * np.pi
    turned = task.targets(np.zeros((1, 28)), coordinates)
    assert turned[0, hip] - plain[0, hip] == pytest.approx(4 * np.pi)
    assert np.delete(turned - plain, hip).any() == np.False_


def test_lookahead_and_feedforward_say_where_the_expert_aims() -> None:
    now = ImitationTask(settings(lookahead_s=0.0, velocity_feedforward=False), 1)
    later = ImitationTask(settings(lookahead_s=0.1), 1)
    aims = []
    for task in (now, later):
        task.start(np.zeros(1, int), [np.random.default_rng(0)], EpisodeStarts(np.array([0.2])))
        aims.append(task.targets(np.zeros((1, 28)), np.zeros((1, 28))))
    start = np.array([0.2 * now.reference.durations[0]])
    clip, origin = np.zeros(1, int), np.zeros((1, 3))
    np.testing.assert_allclose(aims[0], now.reference.target(clip, start, origin).coordinates)
    target = now.reference.target(clip, start + 0.1, origin)
    np.testing.assert_allclose(aims[1], target.coordinates + 0.1 * target.rates)
    assert ImitationTask(settings(control_hz=60), 1).lookahead_s == pytest.approx(1 / 60)


def test_bad_actions_are_named() -> None:
    env = vector(3)
    env.reset()
    actions = np.zeros((3, 28))
    actions[1, 4] = np.nan
    with pytest.raises(ValueError, match="action of environment 1 is not finite"):
        env.step(actions)
    with pytest.raises(ValueError, match="actions have shape"):
        env.step(actions[:2])
    one = DeepMimicEnv()
    one.reset(seed=0)
    with pytest.raises(ValueError, match="action has shape"):
        one.step(actions)


def test_a_simulation_that_breaks_down_is_a_fall() -> None:
    env = vector(3, **ALIVE)
    env.reset()
    state = env.state()
    state["qvel"][1, 3:] = 1e9
    env.set_state(state)
    observations, rewards, terminated, _, _ = env.step(np.zeros((3, 28)))
    assert terminated.tolist() == [False, True, False]
    assert rewards[1] == 0.0 < rewards[0]
    assert np.isfinite(observations).all()
    observations, *_ = env.step(np.zeros((3, 28)))
    assert np.isfinite(observations).all()


def lie_down(env: DeepMimicVectorEnv, row: int) -> None:
    """Turns a character onto its face, just above the ground."""
    state = env.state()
    state["qpos"][row, 2:7] = [0.25, 0.5**0.5, 0.0, 0.5**0.5, 0.0]
    state["qvel"][row] = 0.0
    env.set_state(state)


def test_a_fall_ends_the_episode_with_nothing() -> None:
    env = vector(2, max_body_deviation=None)
    env.reset()
    lie_down(env, 1)
    fell = False
    for _ in range(8):
        _, rewards, terminated, truncated, _ = env.step(np.zeros((2, 28)))
        fell = bool(terminated[1])
        assert not terminated[0]
        if fell:
            assert rewards[1] == 0.0
            assert not truncated[1]
            break
        assert rewards[1] > 0.0
    assert fell


def test_starts_may_be_disturbed() -> None:
    phase = {"phase": 0.3}
    calm, noisy = vector(200), vector(200, start_noise=0.5)
    calm.reset(seed=0, options=phase)
    noisy.reset(seed=0, options=phase)
    (poses, own), (same, others) = calm.root_state(), noisy.root_state()
    np.testing.assert_array_equal(same, poses)
    np.testing.assert_allclose((others - own).std(axis=0), 0.5, atol=0.1)


def test_a_contact_between_control_steps_counts() -> None:
    """Face down, 2 cm above the ground and falling: the first physics step knows nothing of it yet, the control step
    does."""
    touched = []
    for control_hz in (240, 30):
        chosen = settings(joints="ball", control_hz=control_hz)
        physics = make_physics(chosen)
        qpos, qvel = ImitationTask(chosen, 1).start_states(np.zeros(1, int))
        qpos[0, 2:7] = [0.135, 0.5**0.5, 0.0, 0.5**0.5, 0.0]
        qpos[0, 7:11] = qpos[0, 11:15] = [1.0, 0.0, 0.0, 0.0]
        qvel[:] = 0.0
        qvel[0, 2] = -2.0
        touched.append(physics.step(qpos, qvel, np.zeros((1, 28)), None).touching[0, BODY_NAMES.index("chest")])
    assert touched == [False, True]


def test_ground_bodies_and_early_termination_are_options() -> None:
    variants: list[dict[str, Any]] = [{"ground_bodies": BODY_NAMES}, {"early_termination": False}]
    for options in variants:
        env = vector(1, max_body_deviation=None, **options)
        env.reset()
        lie_down(env, 0)
        assert not any(env.step(np.zeros((1, 28)))[2][0] for _ in range(10))
    task = ImitationTask(settings(motion="walk,cartwheel,roll"), 1)
    wrist, knee = BODY_NAMES.index("left_wrist"), BODY_NAMES.index("left_knee")
    assert task.falls.forbidden[:, [wrist, knee]].tolist() == [[True, True], [False, True], [False, False]]
    assert ImitationTask(settings(ground_bodies="right_knee"), 1).falls.forbidden.sum() == 14


def test_a_pose_too_far_away_is_a_fall() -> None:
    env = vector(2, max_body_deviation=0.3, ground_bodies=BODY_NAMES, root_sync=False)
    env.reset()
    state = env.state()
    state["qpos"][0, 0] += 0.4
    env.set_state(state)
    _, rewards, terminated, _, infos = env.step(np.zeros((2, 28)))
    assert terminated.tolist() == [True, False]
    assert rewards[0] == 0.0
    assert infos["root_error"][0] == pytest.approx(0.4, abs=0.05)
    assert infos["body_error"][0] == pytest.approx(0.4, abs=0.1)


def test_time_limit_and_end_of_clip_are_truncation() -> None:
    env = vector(1, max_episode_s=0.1)
    env.reset()
    results = [env.step(np.zeros((1, 28)))[2:4] for _ in range(3)]
    assert [bool(truncated[0]) for _, truncated in results] == [False, False, True]
    assert not any(terminated[0] for terminated, _ in results)
    env = vector(1, motion="punch", **ALIVE)
    env.reset(options={"phase": 0.96})
    duration = env.task.reference.durations[0]
    ends = [bool(env.step(np.zeros((1, 28)))[3][0]) for _ in range(3)]
    assert ends == [False, False, True]
    assert env.task.time[0] >= duration - 1e-9


def test_the_reference_follows_the_character_once_a_cycle() -> None:
    moved = {}
    for sync in (True, False):
        env = vector(1, root_sync=sync, **ALIVE)
        env.reset(options={"phase": 0.95})
        state = env.state()
        state["qpos"][0, :2] += (0.3, -0.2)
        env.set_state(state)
        errors = [env.step(np.zeros((1, 28)))[4]["root_error"][0] for _ in range(4)]
        assert errors[0] == pytest.approx(0.36, abs=0.05)
        moved[sync] = errors[-1], env.task.origin[0].copy()
    assert moved[True][0] < 0.1
    np.testing.assert_allclose(moved[True][1], [0.3, -0.2, 0.0], atol=0.06)
    assert moved[False][0] > 0.3
    assert not moved[False][1].any()


def test_pushes_push() -> None:
    def speed(**options: Any) -> np.ndarray:
        env = vector(1, **ALIVE, **options)
        env.reset(options={"phase": 0.0})
        for _ in range(9):
            env.step(np.zeros((1, 28)))
        return env.state()["qvel"][0, :2]

    plain = speed()
    ahead = speed(push_force=300.0, push_at_s=0.1, push_direction_deg=0.0) - plain
    left = speed(push_force=300.0, push_at_s=0.1, push_direction_deg=90.0) - plain
    assert ahead[0] > 0.5 > abs(ahead[1])
    assert left[1] > 0.5 > abs(left[0])
    np.testing.assert_array_equal(speed(push_force=300.0, push_at_s=5.0), plain)
    short = speed(push_force=300.0, push_at_s=0.1, push_direction_deg=0.0, push_duration_s=0.04) - plain
    assert 0.0 < short[0] < 0.6 * ahead[0]
    wrist = speed(push_force=300.0, push_at_s=0.1, push_direction_deg=0.0, push_body="left_wrist") - plain
    assert abs(wrist[0] - ahead[0]) > 0.1


def test_an_episode_started_by_hand_is_not_pushed(recwarn: pytest.WarningsRecorder) -> None:
    task = ImitationTask(settings(push_force=100.0), 1)
    task.start_at(np.zeros(1, int), np.zeros(1, int), np.zeros(1))
    assert task.push((np.ones(1), np.zeros(1))) is None
    assert not len(recwarn)


def test_regular_pushes_come_back() -> None:
    task = ImitationTask(settings(push_force=100.0, push_interval_s=1.0, push_duration_s=0.2), 1)
    task.start(np.zeros(1, int), [np.random.default_rng(0)])
    first = task.pushes.start[0]
    assert 0.0 <= first < 1.0
    forces = []
    for step in range(90):
        task.steps[:] = step
        push = task.push((np.ones(1), np.zeros(1)))
        forces.append(0.0 if push is None else float(np.linalg.norm(push)))
    pushed = np.flatnonzero(forces)
    assert set(np.array(forces)[pushed].round(9)) == {100.0}
    assert len(pushed) in (17, 18, 19)
    assert pushed[0] == np.ceil(first * 30 - 1e-6)
    assert pushed[pushed >= pushed[0] + 30][0] == pytest.approx(pushed[0] + 30, abs=1)


@pytest.mark.parametrize("pd", ["damping", "actuator", "stable"])
def test_gains_of_the_joints_are_options(pd: str) -> None:
    """How far the left elbow, free of other forces, comes towards a target within a control step."""
    moved = {}
    for name, scales in {
        "": {},
        "stiff": {"kp_scale": 2.0},
        "soft": {"kp_scale": 0.5},
        "slow": {"kd_scale": 3},
    }.items():
        chosen = settings(pd=pd, torque_scale=10, **scales)
        physics = make_physics(chosen)
        targets = np.zeros((1, 28))
        targets[0, COORDINATES.index("left_elbow")] = 0.2
        data: Data = mujoco.MjData(physics.model)
        qpos, qvel = data.qpos[None].copy(), np.zeros((1, 34))
        qpos[:, 2] = 20.0
        after = physics.step(qpos, qvel, targets, None)
        moved[name] = after.qpos[0, 7 + COORDINATES.index("left_elbow")]
    assert moved["slow"] < 0.9 * moved[""] and moved["soft"] < 0.9 * moved[""] and moved["stiff"] > 1.1 * moved[""]


def test_the_expert_offsets_the_damping_that_there_is() -> None:
    ratios = []
    for scales in ({}, {"kd_scale": 3.0}, {"kp_scale": 2.0}):
        reference = ReferenceMotion(settings(**scales))
        look = reference.look(np.zeros(1, dtype=np.int64), np.array([0.3]), np.array([0.0, 0.03]))
        ratios.append(look.prospect.aims - look.prospect.near)
    np.testing.assert_allclose(ratios[1], 3 * ratios[0])
    np.testing.assert_allclose(ratios[2], ratios[0] / 2)


@pytest.mark.parametrize("joints", ["hinge", "ball"])
@pytest.mark.parametrize("pd", ["damping", "actuator", "stable"])
def test_a_held_target_settles(joints: str, pd: str) -> None:
    """Floating without gravity, targets within .3 rad, after 1.5 s at 240 Hz."""
    chosen = settings(joints=joints, pd=pd)
    physics = make_physics(chosen)
    reader = KinematicsReader(chosen, None, with_bodies=False)
    rng = np.random.default_rng(1)
    targets = rng.uniform(-0.3, 0.3, (2, 28))
    for name, sign in (("right_knee", -1), ("left_knee", -1), ("right_elbow", 1), ("left_elbow", 1)):
        column = COORDINATES.index(name)
        targets[:, column] = sign * np.abs(targets[:, column])
    data: Data = mujoco.MjData(physics.model)
    qpos, qvel = np.tile(data.qpos, (2, 1)), np.zeros((2, 34))
    qpos[:, 2] = 20.0  # falls freely, which no joint feels
    for _ in range(45):
        after = physics.step(qpos, qvel, targets, None)
        qpos, qvel = after.qpos, after.qvel
    assert np.abs(reader.coordinates(qpos) - targets).mean() < 0.02
    assert np.abs(qvel[:, 6:]).mean() < 0.6
    if pd != "actuator":
        assert np.abs(reader.coordinates(qpos) - targets).max() < 0.01
        assert np.abs(qvel[:, 6:]).max() < 0.05


def test_torques_are_limited_and_the_limit_scales() -> None:
    """From rest towards a far target, the first acceleration of a joint shows the torque."""
    for pd in ("damping", "stable"):
        speeds = []
        for scale in (0.1, 0.05):
            physics = make_physics(settings(pd=pd, torque_scale=scale, control_hz=240))
            data: Data = mujoco.MjData(physics.model)
            qpos, qvel = data.qpos[None].copy(), np.zeros((1, 34))
            qpos[0, 2] = 20.0
            column = COORDINATES.index("left_elbow")
            targets = np.zeros((1, 28))
            qpos[0, 7 + column], targets[0, column] = 1.0, 3.0  # clear of the joint's limits
            speeds.append(physics.step(qpos, qvel, targets, None).qvel[0, 6 + column])
        assert speeds[0] == pytest.approx(2 * speeds[1], rel=0.05)


def test_ball_joints_follow_where_hinges_are_singular() -> None:
    errors = {}
    for joints in ("hinge", "ball"):
        env = vector(12, motion="backflip", joints=joints, **ALIVE)
        env.reset(options={"phase": np.arange(12) / 12})
        errors[joints] = np.mean([env.step(env.expert_action())[4]["joint_error"].mean() for _ in range(12)])
    assert errors["ball"] < errors["hinge"]


def test_the_open_loop_expert_is_where_it_was_measured() -> None:
    """On walk it stays up for about 1.1 s (12 starts are noisy: +-.2)."""
    env = vector(12, root_sync=False, max_body_deviation=None)
    env.reset(options={"phase": np.arange(12) / 12})
    survival, errors = np.zeros(12), []
    up = np.ones(12, dtype=bool)
    for step in range(90):
        _, _, terminated, _, infos = env.step(env.expert_action())
        up &= ~terminated
        survival[up] = (step + 1) / 30
        if step < 15:
            errors.append(infos["joint_error"][up].mean())
    assert 0.9 < survival.mean() < 1.6
    assert np.mean(errors) < 0.06


def test_models_differ_by_option() -> None:
    base = build_humanoid(settings())
    assert build_humanoid(settings()) is base
    assert build_humanoid(settings(physics_hz=480)).opt.timestep == pytest.approx(1 / 480)
    assert build_humanoid(settings(armature=0.1)).dof_armature[6:].tolist() == [0.1] * 28
    assert build_humanoid(settings(friction=0.5)).geom_friction[:, 0].tolist() == [0.5] * 16
    collided = []
    for collides in (False, True):
        model = build_humanoid(settings(self_collision=collides))
        data: Data = mujoco.MjData(model)
        data.qpos[2] = 5.0
        hips = [model.joint(name).qposadr[0] for name in ("right_hip_x", "left_hip_x")]
        data.qpos[hips] = (0.6, -0.6)  # legs through each other
        mujoco.mj_forward(model, data)
        collided.append(data.ncon > 0)
    assert collided == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"physics_hz": 250}, "multiples of control_hz"),
        ({"motion_weights": (1.0, 2.0)}, "one for each of the 1 clips"),
        ({"ground_bodies": "feet"}, "ground_bodies names 'feet'"),
        ({"push_body": "nose"}, "push_body names 'nose'"),
        ({"push_force": 10.0, "push_duration_s": 9.0}, "at most push_interval_s"),
        ({"observation_blocks": ("root", "root")}, "each at most once"),
        ({"target_steps": ()}, "at least one step"),
        ({"motion": ()}, "at least 1 item"),
        ({"pd": "pid"}, "'damping', 'actuator' or 'stable'"),
        ({"wieght": 1}, "Extra inputs are not permitted"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepMimicEnv(**options)


def test_all_weights_zero_is_an_error() -> None:
    weights: dict[str, Any] = {f"{term}_weight": 0.0 for term in TERMS}
    with pytest.raises(ValueError, match="all weights of the reward are 0"):
        vector(1, **weights)
    with pytest.raises(ValueError, match="num_envs is 0"):
        DeepMimicVectorEnv(0)
    with pytest.raises(ValueError, match="DISABLED"):
        DeepMimicVectorEnv(1, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


def test_the_schema_says_what_a_controller_depends_on() -> None:
    schema = vector(1).observation_schema
    assert schema["observation_size"] == sum(schema["observation"].values()) == 13 + 56 + 12 + 2 + 3 * 37
    variants: list[dict[str, Any]] = [
        {"target_steps": (1,)},
        {"joints": "ball"},
        {"action_mode": "absolute"},
        {"control_hz": 60},
        {"observation_blocks": ("joints", "phase")},
        {"action_scale": 0.25},
    ]
    for options in variants:
        assert vector(1, **options).observation_schema != schema


def test_clips_are_drawn_by_weight() -> None:
    env = vector(200, motion="walk,punch", motion_weights=(3.0, 1.0))
    clips = env.reset(seed=0)[1]["clip"]
    assert 0.65 < (clips == 0).mean() < 0.85
    for _ in range(2):
        assert np.isfinite(env.step(env.expert_action())[0]).all()


def test_a_clip_of_weight_0_is_never_drawn() -> None:
    env = vector(200, motion="walk,punch,run", motion_weights=(0.0, 1.0, 0.0))
    assert set(env.reset(seed=0)[1]["clip"]) == {1}
    assert set(env.reset(options={"clip": 2})[1]["clip"]) == {2}


def test_pictures_without_gl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right limbs are reddish, left ones bluish, and a body higher up is higher in the picture."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert DeepMimicEnv().render() is None
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        DeepMimicEnv(render_mode="human")
    env = DeepMimicEnv(render_mode="rgb_array")
    env.reset(options={"phase": 0.1})
    picture = env.render()
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((360, 480, 3), np.uint8)
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    assert (red - blue > 60).sum() > 300
    assert (blue - red > 60).sum() > 300
    state = env.state()
    state["qpos"][0, 2] += 0.5
    env.set_state(state)
    higher = env.render()
    assert higher is not None

    def limbs(image: np.ndarray) -> float:
        return float(np.nonzero(np.abs(image[..., 0].astype(int) - image[..., 2]) > 60)[0].mean())

    assert limbs(higher) < limbs(picture) - 30
    assert len(np.unique(higher.reshape(-1, 3), axis=0)) > 20
    env.close()


def test_pictures_with_gl_or_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: a missing GL library may end it."""
    script = (
        "from envs.mujoco.environment import DeepMimicEnv\n"
        "env = DeepMimicEnv(render_mode='rgb_array')\n"
        "env.reset(seed=0)\n"
        "try:\n    print(env.render().shape)\n"
        "except ValueError as error:\n    print(error)\n"
    )
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"MuJoCo does not import with MUJOCO_GL=osmesa here: {done.stderr.strip().splitlines()[-1]}")
    assert "(360, 480, 3)" in done.stdout or "MUJOCO_GL is 'osmesa'" in done.stdout
