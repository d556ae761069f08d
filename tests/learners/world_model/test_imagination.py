"""Imagined observations, targets, rewards and rollouts: the same numbers as the environment's, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.body.state import KinematicsReader
from envs.mujoco.vector_environment import DeepMimicVectorEnv
from envs.settings import JointModel
from envs.task.imitation_reward import ImitationReward
from learners.world_model.characters import SORTED, UNSORTED, Characters, characters_of
from learners.world_model.imagination import (
    ImaginedStarts,
    ImaginedTask,
    fallen,
    imagine,
    tracking_cost,
    with_limited_gradients,
)
from motions.base.errors import UserError
from tests.toys.characters.character_rollouts import character_env

KINDS: tuple[JointModel, ...] = ("hinge", "ball")


def present(env: DeepMimicVectorEnv, task: ImaginedTask) -> ImaginedStarts:
    """The environment's present states."""
    now = {name: torch.from_numpy(np.array(array)) for name, array in env.recorded_state().items()}
    plain = characters_of(now["qpos"].float(), now["qvel"].float())
    state = task.in_branch(plain, task.reference.at(now["clip"], now["time"]))
    return ImaginedStarts(state, now["clip"], now["time"], now["origin"].float())


def noisy(env: DeepMimicVectorEnv, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.0, 0.1, (env.num_envs, 28)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"motion": ("walk",)}, 45),
        ({"motion": ("walk", "spinkick"), "joints": "ball", "target_steps": (1, 8)}, 45),
        ({"motion": ("kick",), "observation_blocks": ("targets", "root"), "action_mode": "absolute"}, 12),
    ],
    ids=["hinges over a seam", "balls and two clips", "absolute actions and a branch of angles"],
)
def test_observations_are_those_of_the_environment(options: dict, steps: int) -> None:
    env = character_env(6, early_termination=False, **options)
    env.reset(seed=3)
    task, rng = ImaginedTask(env.task), np.random.default_rng(0)
    for _ in range(steps):
        env.step(noisy(env, rng))
        starts = present(env, task)
        if env.task.phase.min() < 0.02:
            continue  # the nearest sample of the table may belong to the cycle before
        imagined = task.observe_starts(starts).numpy()
        np.testing.assert_allclose(imagined, env.observe(), atol=0.03)
        assert np.abs(imagined - env.observe()).mean() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_that_the_simulator_makes_has_its_targets_and_rewards(kind: JointModel) -> None:
    """The model is the recorded future: what is left are observation, action, reference, its moves and the reward."""
    env = character_env(5, joints=kind, com_weight=0.0)
    env.reset(seed=1, options={"phase": 0.6})
    task, rng = ImaginedTask(env.task), np.random.default_rng(0)
    starts, noise, rewards, states, targets = present(env, task), [], [], [], []
    for _ in range(18):  # the clip's seam is half a second away
        action = noisy(env, rng)
        targets.append(env.task.targets(action, env.coordinates()))
        _, reward, _, _, _ = env.step(action)
        noise.append(torch.from_numpy(action))
        rewards.append(reward)
        states.append(present(env, task).state)
    assert (env.task.cycle == 1).all() and np.stack(rewards).min() > 0.5
    given: list[Tensor] = []

    def model(state: Characters, axes: Tensor, aims: Tensor) -> Characters:
        given.append(aims)
        return states[len(given) - 1]

    def policy(observations: Tensor) -> Tensor:
        return torch.zeros(5, 28)

    imagined = imagine(task, model, policy, starts, torch.stack(noise))
    np.testing.assert_allclose(imagined.rewards.numpy(), np.stack(rewards), atol=5e-3)
    np.testing.assert_allclose(torch.stack(given)[..., UNSORTED].numpy(), np.stack(targets), atol=2e-3)
    assert imagined.alive.all() and imagined.counted.all() and not imagined.actions.any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_reward_are_finite_differences_of_the_environments(kind: JointModel) -> None:
    env = character_env(4, joints=kind, com_weight=0.0)
    env.reset(seed=1, options={"phase": 0.3})
    rng = np.random.default_rng(0)
    for _ in range(4):
        env.step(noisy(env, rng))
    task, starts, recorded = ImaginedTask(env.task), present(env, ImaginedTask(env.task)), env.recorded_state()
    moment = task.reference.at(starts.clip, starts.time)
    parts = Characters(*(part.clone().requires_grad_() for part in starts.state))
    task.reward(task.errors(parts, moment, starts.origin)).sum().backward()
    assert parts.position.grad is not None and parts.velocity.grad is not None
    packed = env.task.reference.compared(recorded["clip"], recorded["time"], recorded["origin"])
    reader, reward = KinematicsReader(env.settings, None, with_bodies=False), ImitationReward(env.task.reference.recipe)

    def rewards(qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        state = reader.read(qpos, qvel)
        return reward.total(reward.terms(reward.compare(state.packed, packed)[0]))

    step = 1e-3
    for column in range(3):
        there, back = recorded["qpos"].copy(), recorded["qpos"].copy()
        there[:, column] += step
        back[:, column] -= step
        slope = (rewards(there, recorded["qvel"]) - rewards(back, recorded["qvel"])) / (2 * step)
        np.testing.assert_allclose(parts.position.grad[:, column].numpy(), slope, atol=0.02)
    for index, column in enumerate([0, 1, 2, 3, 4, 5, *(6 + SORTED).tolist()]):
        there, back = recorded["qvel"].copy(), recorded["qvel"].copy()
        there[:, column] += step
        back[:, column] -= step
        slope = (rewards(recorded["qpos"], there) - rewards(recorded["qpos"], back)) / (2 * step)
        np.testing.assert_allclose(parts.velocity.grad[:, index].numpy(), slope, atol=2e-3)


def test_a_character_that_is_far_away_has_fallen_and_is_led_back() -> None:
    env = character_env(3)
    env.reset(seed=0)
    task = ImaginedTask(env.task)
    starts = present(env, task)
    moment = task.reference.at(starts.clip, starts.time)
    moved = torch.tensor([0.0, 0.3, 0.8])
    position = (starts.state.position + moved[:, None] * torch.tensor([0.0, 1.0, 0.0])).requires_grad_()
    errors = task.errors(starts.state._replace(position=position), moment, starts.origin)
    assert fallen(errors).tolist() == [False, False, True]
    assert torch.allclose(errors.place.sqrt(), moved, atol=0.01)
    (slope,) = torch.autograd.grad(tracking_cost(errors).sum(), position)
    assert slope[1, 1] > 0.5 and slope[2, 1] > 0.5, "the cost's slope does not fade"
    lying = torch.tensor([0.7, 0.0, -0.7, 0.0]).expand(3, 4)
    assert fallen(task.errors(starts.state._replace(rotation=lying), moment, starts.origin)).all()


def test_nothing_counts_after_a_fall() -> None:
    env = character_env(2)
    env.reset(seed=0, options={"phase": 0.1})
    task = ImaginedTask(env.task)
    starts = present(env, task)
    way = iter((0.0, 0.0, 2.0, 0.0))

    def model(state: Characters, axes: Tensor, aims: Tensor) -> Characters:
        away = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) * next(way)
        return state._replace(position=starts.state.position + away)

    imagined = imagine(task, model, lambda seen: torch.zeros(2, 28), starts, torch.zeros(4, 2, 28))
    assert imagined.alive.T.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert imagined.counted.T.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_long_gradients_are_shortened() -> None:
    values = torch.ones(5, 1, requires_grad=True)
    state = with_limited_gradients(Characters(values, values, values, values), 3.0)
    (state.position * torch.tensor([[1.0], [1.0], [-1.0], [2.0], [100.0]])).sum().backward()
    assert values.grad is not None
    assert torch.allclose(values.grad.T, torch.tensor([[1.0, 1.0, -1.0, 2.0, 3.0]]))


def test_tasks_that_cannot_be_imagined_are_refused() -> None:
    refused: tuple[tuple[dict, str], ...] = (
        ({"observation_blocks": ("root", "bodies")}, "observation_blocks has bodies"),
        ({"seam_blend_s": 0.0, "keep_cycle_height": True}, "keep_cycle_height"),
    )
    for options, words in refused:
        with pytest.raises(UserError, match=words):
            ImaginedTask(character_env(1, **options).task)
