"""Rollouts of vector environments in gymnasium's three autoreset modes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import VectorSampler, run_episodes
from tests.toys.characters.control_toys import HORIZON, LIMIT, PlainReach, ReachVectorEnv

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def controller(log_std: float = 0.0) -> ActorCritic:
    network = ActorCritic(ActorCriticConfig(3, 1, (8,), initial_log_std=log_std), seed=1)
    network.update_statistics(np.random.default_rng(0).normal(size=(50, 3)))
    return network


def plain(num_envs: int, mode: AutoresetMode) -> VectorEnv:
    return SyncVectorEnv([PlainReach] * num_envs, autoreset_mode=mode)


def both(mode: AutoresetMode) -> list[VectorEnv]:
    return [ReachVectorEnv(4, mode), plain(4, mode)]


def chains(rollout: ControlRollout) -> list[tuple[np.ndarray, np.ndarray]]:
    """(observation, the one that its step reached) of every valid step."""
    ends = {(int(t), int(n)): row for row, (t, n) in enumerate(rollout.end_indices)}
    found = []
    steps, envs = rollout.valid.shape
    for t in range(steps):
        for n in range(envs):
            if not rollout.valid[t, n]:
                continue
            if (t, n) in ends:
                after = rollout.end_observations[ends[t, n]]
            else:
                after = rollout.observations[t + 1, n] if t + 1 < steps else rollout.last_observations[n]
            found.append((rollout.observations[t, n], after))
    return found


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("which", [0, 1], ids=["batched", "sync"])
def test_every_step_is_followed_by_the_state_that_it_reached(mode: AutoresetMode, which: int) -> None:
    sampler = VectorSampler(both(mode)[which], seed=3)
    rollout = sampler.collect(controller(), num_steps=60, iteration=0)
    assert rollout.truncated.sum() > 3 and rollout.terminated.sum() > 3
    rows = np.argwhere(rollout.valid)
    for (before, after), (t, n) in zip(chains(rollout), rows, strict=True):
        action = np.clip(rollout.actions[t, n], -1, 1)[0]
        np.testing.assert_allclose(after, [before[0] + action, before[1], before[2] + 1 / HORIZON], atol=1e-5)
        assert rollout.rewards[t, n] == pytest.approx(1 - abs(after[0] - after[1]), abs=1e-5)
        assert bool(rollout.terminated[t, n]) == (abs(after[0]) > LIMIT)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_only_steps_that_reset_are_invalid(mode: AutoresetMode) -> None:
    rollout = VectorSampler(ReachVectorEnv(4, mode), seed=3).collect(controller(), 60, 0)
    ended = (rollout.terminated | rollout.truncated)[:-1]
    expected = ~ended if mode is AutoresetMode.NEXT_STEP else np.ones_like(ended)
    np.testing.assert_array_equal(rollout.valid[1:], expected)
    assert rollout.num_steps == rollout.valid.sum()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_episodes_are_counted_over_the_borders_of_rollouts(mode: AutoresetMode) -> None:
    sampler = VectorSampler(ReachVectorEnv(3, mode), seed=0)
    network = controller(log_std=-2.0)
    rollouts = [sampler.collect(network, 7, iteration) for iteration in range(8)]
    lengths = [length for rollout in rollouts for length in rollout.episode_lengths]
    assert lengths and all(length == HORIZON for length in lengths)
    total = sum(float(rollout.rewards[rollout.valid].sum()) for rollout in rollouts)
    returns = sum(value for rollout in rollouts for value in rollout.episode_returns)
    running = float(sampler.state()["returns"].sum())
    assert running > 0.0 and total == pytest.approx(returns + running, rel=1e-5)
    assert rollouts[0].terms["distance"] == pytest.approx(
        float(1 - rollouts[0].rewards[rollouts[0].valid].mean()), abs=1e-5
    )


def test_means_and_deviations_are_those_of_the_policy_and_noise_is_keyed() -> None:
    network = controller(log_std=-1.0)
    first, second = (VectorSampler(ReachVectorEnv(4), seed=3).collect(network, 7, 5) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    with torch.no_grad():
        mean, log_std = network.distribution(torch.from_numpy(first.observations))
    np.testing.assert_allclose(first.means, mean.numpy(), atol=1e-6)
    np.testing.assert_array_equal(first.log_std, log_std.detach().numpy())
    spread = (first.actions - first.means) / np.exp(-1.0)
    assert 0.7 < spread.std() < 1.3
    for other in (VectorSampler(ReachVectorEnv(4), seed=4), VectorSampler(ReachVectorEnv(4), seed=3, stream=1)):
        assert not np.allclose(other.collect(network, 7, 5).actions[0], first.actions[0])
    assert not np.allclose(VectorSampler(ReachVectorEnv(4), 3).collect(network, 7, 6).actions[0], first.actions[0])


def test_a_restored_sampler_continues_to_the_same_bits() -> None:
    network = controller()
    sampler = VectorSampler(ReachVectorEnv(4), seed=3)
    sampler.collect(network, 17, 0)
    saved = sampler.state()
    expected = sampler.collect(network, 30, 1)
    other = VectorSampler(ReachVectorEnv(4), seed=3)
    other.load(saved)
    again = other.collect(network, 30, 1)
    for name in ("observations", "actions", "rewards", "valid", "last_observations", "end_observations"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))
    assert again.episode_returns == expected.episode_returns
    with pytest.raises(ValueError, match="of 4 environments, here are 5"):
        VectorSampler(ReachVectorEnv(5), seed=3).load(saved)


def test_environments_without_state_say_so() -> None:
    sampler = VectorSampler(plain(2, AutoresetMode.NEXT_STEP), seed=0)
    assert not sampler.restorable and VectorSampler(ReachVectorEnv(2), 0).restorable
    with pytest.raises(ValueError, match="SyncVectorEnv has no state"):
        sampler.state()
    with pytest.raises(ValueError, match="no expert_action"):
        VectorSampler(plain(2, AutoresetMode.NEXT_STEP), seed=0, record_expert=True)


def test_a_keyed_reset_forgets_the_past() -> None:
    network = controller()
    fresh, used = (VectorSampler(plain(3, AutoresetMode.NEXT_STEP), seed=0) for _ in range(2))
    used.collect(network, 23, 0)
    for sampler in (fresh, used):
        sampler.reset(7)
    first, second = (sampler.collect(network, 20, 8) for sampler in (fresh, used))
    np.testing.assert_array_equal(first.observations, second.observations)
    assert first.episode_returns == second.episode_returns


def test_the_expert_is_asked_in_the_state_before_the_step() -> None:
    rollout = VectorSampler(ReachVectorEnv(4), seed=0, record_expert=True).collect(controller(), 10, 0)
    assert rollout.expert_actions is not None
    wanted = np.clip(rollout.observations[..., 1] - rollout.observations[..., 0], -1, 1)
    np.testing.assert_allclose(rollout.expert_actions[..., 0], wanted, atol=1e-6)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_one_episode_of_each_environment_is_played(mode: AutoresetMode) -> None:
    wild = run_episodes(controller(log_std=1.0), ReachVectorEnv(6, mode), seed=0, deterministic=False)
    assert len(set(wild.lengths)) > 1 and wild.terminated.any()
    np.testing.assert_array_equal(wild.lengths < HORIZON, wild.terminated)
    starts = np.concatenate([[0], np.cumsum(wild.lengths)[:-1]])
    assert len(wild.rewards) == len(wild.observations) == len(wild.actions) == wild.lengths.sum()
    np.testing.assert_array_equal(wild.observations[starts, 2], np.zeros(6))
    for n, start in enumerate(starts):
        part = slice(start, start + wild.lengths[n])
        np.testing.assert_allclose(wild.observations[part, 2] * HORIZON, np.arange(wild.lengths[n]), atol=1e-5)
        assert wild.returns[n] == pytest.approx(wild.rewards[part].sum(), abs=1e-4)
    calm = run_episodes(controller(log_std=1.0), ReachVectorEnv(4, mode), seed=0)
    assert calm.lengths.tolist() == [HORIZON] * 4, "the mean does not leave the field"
    short = run_episodes(controller(), ReachVectorEnv(3, mode), seed=0, max_steps=5)
    assert short.lengths.tolist() == [5] * 3 and not short.terminated.any()


def test_unsuitable_spaces_are_named() -> None:
    env = gymnasium.make_vec("CartPole-v1", num_envs=1, vectorization_mode="sync")
    with pytest.raises(ValueError, match="the action space is Discrete"):
        VectorSampler(env, seed=0)
