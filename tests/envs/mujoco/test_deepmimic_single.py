"""What makes the single environment quick changes none of its numbers: each is that of a row among others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.body.headings import Facing, Turner
from envs.body.state import CharacterState, KinematicsReader
from envs.mujoco.environment import DeepMimicEnv
from envs.mujoco.physics import RolloutPhysics, StepOutcome
from envs.mujoco.vector_environment import DeepMimicVectorEnv, make_vector_env
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import WINDOW

pytestmark = pytest.mark.slow

ALIVE = {"early_termination": False, "max_episode_s": 60.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "falls": {},
    "cycles": {"motion": "run", **ALIVE},
    "no_sync": {"motion": "run", "root_sync": False, **ALIVE},
    "rising": {"motion": "run", "keep_cycle_height": True, "seam_blend_s": 0.0, **ALIVE},
    "ends": {"motion": "kick,spinkick,walk", "early_termination": False},
    "branches": {"motion": "cartwheel", "action_mode": "absolute", **ALIVE},
    "balls": {"joints": "ball", "action_mode": "absolute", "motion": "run", **ALIVE},
    "pushes": {"push_force": 300.0, "push_interval_s": 0.5, **ALIVE},
    "place": {"reward_preset": "paper", "motion": "run", "com_weight": 0.2, **ALIVE},
    "blocks": {"observation_blocks": ["targets", "bodies", "phase", "key_positions", "root"], "target_steps": (5, 0)},
}


def noise(steps: int, rows: int = 2) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal((steps, rows, 28))).astype(np.float32)


def pair(options: dict[str, Any]) -> tuple[DeepMimicEnv, DeepMimicVectorEnv]:
    settings = DeepMimicSettings.model_validate(options)
    return DeepMimicEnv(settings), make_vector_env(settings, 2)


def assert_same_step(single: DeepMimicEnv, many: DeepMimicVectorEnv, actions: np.ndarray) -> bool:
    """One step of both with row 0's actions; whether row 0's episode has ended."""
    observation, reward, terminated, truncated, info = single.step(actions[0])
    observations, rewards, fallen, over, infos = many.step(actions)
    np.testing.assert_array_equal(observation, observations[0])
    np.testing.assert_array_equal(single.expert_action(), many.expert_action()[:1])
    assert reward == pytest.approx(rewards[0], abs=1e-12)
    assert (terminated, truncated) == (fallen[0], over[0])
    assert info == pytest.approx({name: values[0] for name, values in infos.items() if name[0] != "_"}, abs=1e-7)
    return terminated or truncated


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_among_others(name: str) -> None:
    """Over ends of windows, cycles and episodes."""
    single, many = pair(VARIANTS[name])
    start: dict[str, Any] = {"seed": 4, "options": {"clip": 0}}
    np.testing.assert_array_equal(single.reset(**start)[0], many.reset(**start)[0][0])
    ends, cycles, pushed = 0, set(), False
    for actions in noise(3 * WINDOW + 10):
        if assert_same_step(single, many, actions):
            ends += 1
            np.testing.assert_array_equal(single.reset()[0], many.step(actions)[0][0])
        cycles.add(float(single.task.cycle[0]))
        pushed |= bool(single.task.pushes.force.any())
    assert (ends > 0) == (name in ("falls", "ends", "blocks"))
    assert len(cycles) > 2 or name not in ("cycles", "rising", "balls", "pushes", "place")
    assert pushed == (name == "pushes")


@pytest.mark.parametrize("name", ["cycles", "balls"])
def test_a_state_from_the_middle_of_what_was_looked_up(name: str) -> None:
    single, many = pair(VARIANTS[name])
    single.reset(seed=4)
    many.reset(seed=4)
    actions = noise(WINDOW + 20)
    for step in actions[:7]:
        assert_same_step(single, many, step)
    states = single.state(), many.state()
    for step in actions[7:]:
        assert_same_step(single, many, step)
    single.set_state(states[0])
    many.set_state(states[1])
    np.testing.assert_array_equal(single.observe(), many.observe()[:1])
    for step in actions[7:]:
        assert_same_step(single, many, step)


def assert_steps_as_in_a_rollout(
    one: RolloutPhysics,
    two: RolloutPhysics,
    state: tuple[np.ndarray, np.ndarray, np.ndarray],
    push: np.ndarray | None = None,
) -> StepOutcome:
    """A step of one character (qpos, qvel, targets) is, to the bit, that of a row of two; the outcome."""
    outcome = one.step(*state, push)
    qpos, qvel, targets = (np.repeat(values, 2, axis=0) for values in state)
    rows = two.step(qpos, qvel, targets, None if push is None else np.repeat(push, 2, axis=0))
    for ours, theirs in zip(outcome, rows, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
    return outcome


@pytest.mark.parametrize("root_sync", [True, False])
def test_a_start_in_a_later_cycle(root_sync: bool) -> None:
    """Whose first step puts the reference where the character is."""
    single, many = pair(VARIANTS["cycles"] | {"root_sync": root_sync})
    single.reset(seed=4)
    many.reset(seed=4)
    for env in (single, many):
        rows = np.arange(env.task.num_envs)
        env.task.start_at(rows, 0 * rows, env.task.time + 2.0)
    for actions in noise(WINDOW + 5):
        assert_same_step(single, many, actions)
    assert (single.task.cycle[0] > 0.0) == root_sync


@pytest.mark.parametrize("width", [None, 3, 6])
def test_one_character_takes_the_step_of_a_rollout(width: int | None) -> None:
    """Also after a step that pushed, and where the engine breaks down and starts over."""
    one, two = (RolloutPhysics(DeepMimicSettings()) for _ in range(2))
    env = make_vector_env(DeepMimicSettings(), 1, seed=0)
    env.reset()
    qpos, qvel = env.state()["qpos"], env.state()["qvel"]
    rng = np.random.default_rng(0)
    targets, touched = np.zeros((1, 28)), False
    for index in range(30):
        targets = 0.5 * rng.standard_normal((1, 28))
        push = None if width is None or index % 2 else 100.0 * rng.standard_normal((1, width))
        outcome = assert_steps_as_in_a_rollout(one, two, (qpos, qvel, targets), push)
        assert not outcome.diverged[0]
        touched |= bool(outcome.touching.any())
        qpos, qvel = outcome.qpos, outcome.qvel
    assert touched
    for broken in (np.inf, np.nan, 1e12):
        lost = qvel.copy()
        lost[0, 3] = broken
        assert assert_steps_as_in_a_rollout(one, two, (qpos, lost, targets)).diverged[0]
        # And the next step knows nothing of it.
        assert not assert_steps_as_in_a_rollout(one, two, (qpos, qvel, targets)).diverged[0]


@pytest.mark.parametrize("joints", ["hinge", "ball"])
@pytest.mark.parametrize("with_bodies", [False, True])
def test_a_state_that_is_read_again(joints: str, with_bodies: bool) -> None:
    env = make_vector_env(DeepMimicSettings.model_validate({"joints": joints, **ALIVE}), 2, seed=0)
    env.reset()
    reader = KinematicsReader(env.settings, "velocity", with_bodies=with_bodies)
    before = env.state()
    again = reader.read(before["qpos"], before["qvel"])
    for actions in noise(5):
        env.step(actions)
    after = env.state()
    fresh = reader.read(after["qpos"], after["qvel"])
    assert reader.read(after["qpos"], after["qvel"], into=again) is again
    for name in ("numbers", "packed", "root_vectors", "points", "coordinates", "rates", "height", "body_vectors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fresh, name))
    np.testing.assert_array_equal(again.facing.unit, fresh.facing.unit)
    np.testing.assert_array_equal(again.coordinates, env.coordinates())
    np.testing.assert_array_equal(again.rates, after["qvel"][:, 6:])
    assert again.body_vectors.shape == (2, 15 * with_bodies, 4, 3)


def test_vectors_are_turned_into_the_heading() -> None:
    rng = np.random.default_rng(0)
    rows, root = rng.standard_normal((3, 14)), rng.standard_normal((3, 3))
    directions = np.array([[0.0, 2.0], [-3.0, 0.0], [0.0, 0.0]])  # to the left, back, and none at all
    facing = Facing(directions)
    facing.update()
    np.testing.assert_array_equal(facing.unit, [[0.0, 1.0, 1.0], [-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    turned = Turner((*range(5, 14), 0, 1, 2), ("xyz", "", "xy", "")).turned(rows, root, facing.unit)
    for row, (cosine, sine, _) in enumerate(facing.unit):
        turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        x, y, z = root[row]
        places = (rows[row, 5:8] - (x, y, z), rows[row, 8:11], rows[row, 11:14] - (x, y, 0.0), rows[row, 0:3])
        np.testing.assert_allclose(turned[row].reshape(4, 3), np.stack(places) @ turn.T, atol=1e-15)
    directions[1] = (3.0, 4.0)
    facing.update()
    np.testing.assert_allclose(facing.unit[1], [0.6, 0.8, 1.0])


def test_a_state_from_parts_is_the_one_that_is_read() -> None:
    env = make_vector_env(DeepMimicSettings(), 3, seed=0)
    env.reset()
    for actions in noise(4, 3):
        env.step(actions)
    state = env.state()
    read = KinematicsReader(env.settings, "velocity", with_bodies=True).read(state["qpos"], state["qvel"])
    axes = read.body_vectors[:, :, :2]
    matrices = np.stack((axes[:, :, 0], axes[:, :, 1], np.cross(axes[:, :, 0], axes[:, :, 1])), axis=-1)
    made = CharacterState.from_parts(
        rotations=read.rotations,
        velocities=read.velocities,
        root_linear=read.root_linear,
        coordinates=read.coordinates,
        rates=read.rates,
        body_positions=read.body_positions,
        body_rotations=quaternions(matrices),
        body_velocities=read.body_vectors[:, :, 2:].reshape(3, 15, 6),
        com=read.com,
    )
    np.testing.assert_allclose(made.numbers, read.numbers, atol=1e-9)


def quaternions(matrices: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_quat()
    return np.roll(turns, 1, axis=1).reshape(*matrices.shape[:2], 4)
