"""The PyBullet environment: gymnasium's rules, MuJoCo's interface, physics that holds a pose, isolation, resume."""

from __future__ import annotations

import gc
import importlib
import warnings
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.body.joint_coordinates import local_rotations
from envs.bullet.environment import DeepMimicBulletEnv
from envs.bullet.physics import BulletHumanoid, humanoid_urdf
from envs.mujoco.environment import DeepMimicEnv
from envs.settings import BODY_NAMES, DeepMimicSettings

pybullet: Any = importlib.import_module("pybullet")
assert envs.__doc__  # Importing the package registers the environments.


@pytest.fixture
def env() -> Iterator[DeepMimicBulletEnv]:
    made = DeepMimicBulletEnv(motion="walk")
    yield made
    made.close()


def test_gymnasium_accepts_it() -> None:
    env = gymnasium.make("kinetune/DeepMimicBullet-v0", motion="walk", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Unbounded observations are a matter of taste.
        check_env(env.unwrapped)
    env.reset(seed=0)
    image = env.render()
    assert isinstance(image, np.ndarray) and image.shape == (360, 480, 3) and image.std() > 5
    env.close()


def test_gains_of_the_joints_are_options_here_too() -> None:
    errors = {}
    for scale in (0.2, 1.0):
        made = DeepMimicBulletEnv(motion="run", kp_scale=scale, torque_scale=10.0)
        made.reset(seed=0, options={"phase": 0.3})
        infos = [made.step(made.expert_action()[0])[4] for _ in range(4)]
        errors[scale] = infos[-1]["joint_error"]
        made.close()
    assert errors[0.2] > 1.2 * errors[1.0]


def test_it_is_the_task_of_the_mujoco_environment(env: DeepMimicBulletEnv) -> None:
    other = DeepMimicEnv(motion="walk")
    assert env.observation_schema == other.observation_schema
    assert env.observation_space == other.observation_space and env.action_space == other.action_space
    ours, _ = env.reset(seed=3, options={"phase": 0.2})
    theirs, _ = other.reset(seed=3, options={"phase": 0.2})
    sizes = np.cumsum([0, *env.observation_schema["observation"].values()])
    for name, start, end in zip(env.observation_schema["observation"], sizes[:-1], sizes[1:], strict=True):
        # MuJoCo's hinge rates are differences of Euler angles over a key frame.
        tolerance = 0.1 if name == "joints" else 1e-4
        np.testing.assert_allclose(ours[start:end], theirs[start:end], atol=tolerance, err_msg=name)
    action = env.expert_action()
    np.testing.assert_array_equal(action, other.expert_action())
    step, other_step = env.step(action[0]), other.step(action[0])
    assert step[4].keys() == other_step[4].keys()
    assert abs(step[1] - other_step[1]) < 0.1  # The same step by two engines.


def test_a_disturbed_start_is_that_of_the_mujoco_environment() -> None:
    ours, theirs = (kind(motion="walk", start_noise=0.5) for kind in (DeepMimicBulletEnv, DeepMimicEnv))
    size = ours.observation_schema["observation"]["root"]
    first, second = (env.reset(seed=3, options={"phase": 0.2})[0][:size] for env in (ours, theirs))
    np.testing.assert_allclose(first, second, atol=1e-4)
    calm, _ = DeepMimicEnv(motion="walk").reset(seed=3, options={"phase": 0.2})
    assert np.abs(first - calm[:size])[-6:].max() > 0.1
    ours.close()


@pytest.mark.parametrize("joints", ["hinge", "ball"])
def test_the_reference_is_followed_for_a_while(joints: str) -> None:
    env = DeepMimicBulletEnv(motion="walk", joints=joints)
    errors, rewards = [], []
    for phase in (0.1, 0.4, 0.7):
        env.reset(seed=0, options={"phase": phase})
        ended = False
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.expert_action()[0])
            errors.append(info["joint_error"])
            ended = terminated or truncated
            rewards.append(reward)
        assert rewards[-1] == 0.0  # A fall.
    env.close()
    assert np.mean(errors) < 0.15 and len(rewards) / 3 > 15


def test_a_held_pose_settles() -> None:
    humanoid = BulletHumanoid(DeepMimicSettings())
    generator = np.random.default_rng(0)
    coordinates = generator.uniform(-0.3, 0.3, (1, 28))
    coordinates[0, [9, 13]] += 0.5  # elbows bend one way only
    start, target = (local_rotations(values, "hinge")[0] for values in (0 * coordinates, np.abs(coordinates)))
    pybullet.setGravity(0.0, 0.0, 0.0, physicsClientId=humanoid.open_client())
    start[[4, 9]] = target[[4, 9]]
    target[[4, 9]] = local_rotations(np.full((1, 28), -0.4), "hinge")[0][[4, 9]]  # knees
    humanoid.reset(np.array([0.0, 0.0, 5.0]), start, np.zeros(3), np.zeros((13, 3)))
    for _ in range(30):
        humanoid.step(target, None)
    links = humanoid.read()
    angles = 2.0 * np.arccos(np.minimum(np.abs((links.joints * target).sum(-1)), 1.0))
    humanoid.close()
    assert angles[1:].max() < 0.01 and np.abs(links.spins[1:]).max() < 0.05


def test_instances_do_not_see_each_other(env: DeepMimicBulletEnv) -> None:
    alone = _play(env, 6)
    other = DeepMimicBulletEnv(motion="run")
    other.reset(seed=1)
    first, _ = env.reset(seed=5)
    observations = [first]
    for _ in range(6):
        other.step(other.action_space.sample())
        observations.append(env.step(0.2 * np.ones(28))[0])
    other.close()
    np.testing.assert_array_equal(np.stack(observations), alone)
    env.step(np.zeros(28))  # Still there after the other one is gone.


def test_a_seed_determines_an_episode_whatever_came_before(env: DeepMimicBulletEnv) -> None:
    first = _play(env, 8)
    env.reset(seed=9)
    for _ in range(30):
        env.step(env.action_space.sample())
    np.testing.assert_array_equal(_play(env, 8), first)
    assert not np.array_equal(env.reset(seed=6)[0], first[0])


def test_a_saved_state_goes_on_to_the_same_bits(env: DeepMimicBulletEnv) -> None:
    env.reset(seed=2, options={"phase": 0.3})
    for _ in range(8):
        env.step(env.expert_action()[0])
    state = env.state()
    ahead = [env.step(env.expert_action()[0])[0] for _ in range(5)]
    drawn = env.np_random.random()
    other = DeepMimicBulletEnv(motion="walk")
    other.reset(seed=77)
    other.set_state(state)
    np.testing.assert_array_equal([other.step(other.expert_action()[0])[0] for _ in range(5)], ahead)
    assert other.np_random.random() == drawn
    other.close()


def test_a_fall_ends_the_episode_only_through_forbidden_bodies() -> None:
    for bodies, expected in ((BODY_NAMES, False), ("auto", True)):
        env = DeepMimicBulletEnv(motion="walk", ground_bodies=bodies, max_body_deviation=None)
        env.reset(seed=0, options={"phase": 0.0})
        limp = [env.step(-3.0 * np.ones(28))[2] for _ in range(60)]
        env.close()
        assert any(limp) == expected


def test_truncation_is_not_termination() -> None:
    env = DeepMimicBulletEnv(motion="walk", max_episode_s=0.2)
    env.reset(seed=0, options={"phase": 0.0})
    ends = [env.step(env.expert_action()[0])[2:4] for _ in range(6)]
    env.close()
    assert ends == [(False, False)] * 5 + [(False, True)]


def test_a_push_moves_it() -> None:
    places = []
    for force in (0.0, 400.0):
        env = DeepMimicBulletEnv(motion="walk", push_force=force, push_at_s=0.0, push_direction_deg=90.0)
        env.reset(seed=0, options={"phase": 0.0})
        for _ in range(6):
            env.step(env.expert_action()[0])
        places.append(env.state()["task"]["push_force"].sum())
        root = env.observe()[0]
        places.append(root[8])  # sideways velocity in the heading frame
        env.close()
    assert places[3] > places[1] + 0.5


def test_the_feet_start_on_the_ground(env: DeepMimicBulletEnv) -> None:
    heights = []
    for phase in np.arange(10) / 10:
        env.reset(seed=0, options={"phase": float(phase)})
        heights.append(env.humanoid.lowest_point())
    assert min(heights) > -0.002 and max(heights) < 0.08


def test_close_gives_the_client_back() -> None:
    before = _num_clients()
    made = [DeepMimicBulletEnv(motion="walk") for _ in range(3)]
    assert _num_clients() == before + 3
    for env in made:
        env.close()
        env.close()
    gc.collect()
    assert _num_clients() == before
    with pytest.raises(ValueError, match="closed"):
        made[0].reset(seed=0)


def test_bad_input_is_named(env: DeepMimicBulletEnv) -> None:
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(28))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(27))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(28, np.nan))
    with pytest.raises(ValueError, match="phase"):
        env.reset(options={"phase": 1.5})
    with pytest.raises(ValueError, match="render_mode"):
        DeepMimicBulletEnv(motion="walk", render_mode="human")
    with pytest.raises(ValueError, match="walk"):
        DeepMimicBulletEnv(motion="wolk")


def test_the_model_file_parses_once_cleaned() -> None:
    joints = ElementTree.fromstring(humanoid_urdf()).findall("joint")
    assert len(joints) == len(BODY_NAMES)
    assert all(joint.find("axis") is not None for joint in joints if joint.get("type") == "spherical")


def test_the_paper_observation_has_its_size(env: DeepMimicBulletEnv) -> None:
    env.reset(seed=0, options={"phase": 0.25})
    observed = env.paper_observation()
    assert observed.shape == (197,) and observed[0] == pytest.approx(0.25)
    np.testing.assert_allclose(observed[2:5], (0.0, 0.0, 0.07), atol=0.02)  # The root's centre is above its joint.


def _play(env: DeepMimicBulletEnv, steps: int) -> np.ndarray:
    observations = [env.reset(seed=5)[0]]
    return np.stack(observations + [env.step(0.2 * np.ones(28))[0] for _ in range(steps)])


def _num_clients() -> int:
    return sum(pybullet.getConnectionInfo(client)["isConnected"] for client in range(64))
