"""The TRPO learner: order of an update, equality over learners, exact resume, learning."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.optimizer import DivergenceError
from learners.rollout_training import LocalTraining
from learners.trpo.critic import CriticFit, Share
from learners.trpo.learner import OutOfSyncError, TRPOLearner
from learners.trpo.settings import TRPOSettings
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig
from rollouts.control.rollouts import ControlRollout
from rollouts.control.vector_sampler import VectorSampler, run_episodes
from rollouts.gaussians import action_kl
from tests.toys.characters.control_toys import ReachVectorEnv

SETTINGS = TRPOSettings(steps_per_batch=160, max_kl=0.03, critic_epochs=3, critic_batch_size=32, gamma=0.9)


def controller() -> ActorCritic:
    return ActorCritic(ActorCriticConfig(3, 1, (16,), initial_log_std=-0.5), seed=1)


def rollout_of(network: ActorCritic, iteration: int = 0, num_envs: int = 8, steps: int = 20) -> ControlRollout:
    return VectorSampler(ReachVectorEnv(num_envs), seed=2, record_expert=True).collect(network, steps, iteration)


def weights(network: ActorCritic) -> Tensor:
    return torch.cat([value.double().reshape(-1) for value in network.state_dict().values()])


def test_trpo_learns_to_reach() -> None:
    network = controller()
    before = np.mean(run_episodes(network, ReachVectorEnv(16), seed=9).returns)
    training = LocalTraining(TRPOLearner(network, SETTINGS, seed=0), VectorSampler(ReachVectorEnv(8), seed=0))
    history = []
    while training.num_steps < 4800:
        training.train()
        history.append(training.last_metrics)
    after = np.mean(run_episodes(network, ReachVectorEnv(16), seed=9).returns)
    assert after > before + 2.5 and after > 9.0, f"{before} -> {after}"
    assert training.finished_iterations == len(history)
    last = history[-1]
    assert last["critic/explained_variance"] > 0.5 and last["rollout/length"] == 12.0
    assert {"seconds/update", "seconds/rollout", "env/distance", "policy/entropy"} <= last.keys()
    assert all(0 <= metrics["policy/kl"] <= SETTINGS.max_kl for metrics in history)


def test_the_checked_divergence_is_that_of_the_policy_that_acts_next() -> None:
    """New statistics included: nothing changes the policy between the check and the next rollout."""
    network = controller()
    learner = TRPOLearner(network, SETTINGS, seed=0)
    for iteration in range(3):
        rollout = rollout_of(network, iteration)
        metrics = learner.update([rollout])
        with torch.no_grad():
            mean, log_std = network.distribution(torch.from_numpy(rollout.observations))
            old_mean, old_log_std = torch.from_numpy(rollout.means), torch.from_numpy(rollout.log_std)
            kl = action_kl(old_mean, old_log_std, mean, log_std)[torch.from_numpy(rollout.valid)].mean()
        assert metrics["policy/kl"] == pytest.approx(float(kl), rel=1e-3)
        assert metrics["policy/kl"] <= SETTINGS.max_kl


def test_statistics_move_only_part_of_the_way_if_they_alone_would_move_the_policy() -> None:
    network = controller()
    network.update_statistics(np.random.default_rng(0).normal(size=(100, 3)) * 0.05)
    with torch.no_grad():
        network.policy[-1].weight.mul_(100.0)  # pyright: ignore[reportArgumentType, reportCallIssue]
    metrics = TRPOLearner(network, SETTINGS, seed=0).update([rollout_of(network)])
    assert 0.0 <= metrics["statistics/blend"] < 1.0
    assert metrics["statistics/kl"] <= 0.5 * SETTINGS.max_kl and metrics["policy/kl"] <= SETTINGS.max_kl


def test_statistics_are_frozen_after_their_budget() -> None:
    network = controller()
    learner = TRPOLearner(network, SETTINGS.model_copy(update={"normalizer_steps": 100}), seed=0)
    learner.update([rollout_of(network)])
    count, mean = float(network.statistics.count), network.statistics.mean.clone()
    assert count > 100
    learner.update([rollout_of(network, 1)])
    assert float(network.statistics.count) == count and torch.equal(network.statistics.mean, mean)


def test_steps_that_only_reset_are_not_learned_from() -> None:
    rollout = rollout_of(controller())
    assert not rollout.valid.all()
    poisoned = replace(
        rollout,
        actions=np.where(rollout.valid[..., None], rollout.actions, 1e6).astype(np.float32),
        rewards=np.where(rollout.valid, rollout.rewards, 1e6).astype(np.float32),
    )
    ends = []
    for version in (rollout, poisoned):
        network = controller()
        TRPOLearner(network, SETTINGS, seed=0).update([version])
        ends.append(weights(network))
    assert torch.equal(ends[0], ends[1])


def test_rollouts_of_another_policy_are_refused() -> None:
    network = controller()
    rollout = rollout_of(network)
    with torch.no_grad():
        network.policy[-1].bias.add_(0.01)  # pyright: ignore[reportArgumentType, reportCallIssue]
    before = weights(network)
    with pytest.raises(OutOfSyncError, match="weights were not sent"):
        TRPOLearner(network, SETTINGS, seed=0).update([rollout])
    assert torch.equal(weights(network), before)


def poisoned(rollout: ControlRollout, name: str, value: float = np.nan) -> ControlRollout:
    """With one bad number in a row that is learned from."""
    array = getattr(rollout, name).copy()
    array[tuple(np.argwhere(rollout.valid)[7])] = value
    return replace(rollout, **{name: array})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", np.nan, r"rollouts' advantages \(\d+\) are not finite; nothing was changed.*look at the rewards"),
        ("observations", np.inf, r"rollouts' observations \(3\)"),
        ("actions", np.nan, r"rollouts' actions \(1\) are not finite"),
        ("actions", 1e25, "the objective is"),
    ],
)
def test_what_is_not_finite_changes_nothing_and_is_named(name: str, value: float, message: str) -> None:
    network = controller()
    learner = TRPOLearner(network, SETTINGS, seed=0)
    before = copy.deepcopy(learner.state())
    with pytest.raises(DivergenceError, match=message):
        learner.update([poisoned(rollout_of(network), name, value)])
    after = learner.state()
    assert after["iteration"] == before["iteration"] and after["critic"] == before["critic"]
    for key, tensor in before["controller"].items():
        assert torch.equal(after["controller"][key], tensor), key


def test_all_learners_name_what_is_not_finite_in_the_part_of_one() -> None:
    """A learner that went on would wait for the others for ever."""
    rollout = poisoned(rollout_of(controller()), "rewards")
    found: list[str] = ["", ""]

    def work(rank: int, reduce: Callable[[Tensor], Tensor]) -> None:
        learner = TRPOLearner(controller(), SETTINGS, 0, reduce, rank, 2)
        with pytest.raises(DivergenceError) as raised:
            learner.update([rollout.columns(4 * rank, 4 * rank + 4)])
        found[rank] = str(raised.value)

    in_parallel(2, work)
    assert found[0] == found[1] and "advantages" in found[0]


@pytest.mark.parametrize("terminal", [False, True])
def test_the_value_after_the_last_step_stands_for_the_rest(terminal: bool) -> None:
    """The end of a batch is no end of an episode: with lambda 0 an advantage is r + gamma V(next) - V, there too."""
    network = controller()
    with torch.no_grad():
        network.value_mean.fill_(5.0)
    rollout = rollout_of(network, steps=5)
    assert not (rollout.terminated | rollout.truncated).any() and rollout.valid.all()
    if terminal:
        rollout = replace(rollout, terminated=np.arange(5)[:, None].repeat(8, 1) == 4)
    learner = TRPOLearner(network, SETTINGS.model_copy(update={"gae_lambda": 0.0}), seed=0)
    with torch.no_grad():
        values, advantages, returns = learner.advantages(rollout)
        following = network.value(torch.from_numpy(rollout.last_observations)).numpy()
    assert np.abs(following).min() > 1.0
    expected = rollout.rewards[-1] + (0.0 if terminal else 0.9) * following - values[-1]
    np.testing.assert_allclose(advantages[-1], expected, atol=1e-5)
    np.testing.assert_allclose(returns[-1], expected + values[-1], atol=1e-5)


def test_the_critic_alone_is_fitted_while_it_warms_up() -> None:
    network = controller()
    learner = TRPOLearner(network, SETTINGS.model_copy(update={"critic_warmup_batches": 2}), seed=0)
    policy = [parameter.detach().clone() for parameter in network.policy_parameters()]
    for iteration in range(2):
        metrics = learner.update([rollout_of(network, iteration)])
        assert "policy/kl" not in metrics
    assert all(torch.equal(a, b) for a, b in zip(policy, network.policy_parameters(), strict=True))
    assert "policy/kl" in learner.update([rollout_of(network, 2)])
    assert not torch.equal(policy[0], network.policy_parameters()[0])


def test_a_resumed_learner_takes_the_same_steps() -> None:
    settings = SETTINGS.model_copy(update={"clone_kl_weight": 0.1})
    network = controller()
    learner = TRPOLearner(network, settings, seed=0)
    learner.update([rollout_of(network)])
    saved = copy.deepcopy(learner.state())
    learner.update([rollout_of(network, 1)])
    other = ActorCritic(network.config, seed=99)
    resumed = TRPOLearner(other, settings, seed=0)
    resumed.load(saved)
    resumed.update([rollout_of(other, 1)])
    assert torch.equal(weights(other), weights(network)) and resumed.iteration == 2
    with pytest.raises(ValueError, match="clone_kl_weight"):
        TRPOLearner(other, SETTINGS, seed=0).load(saved)


def in_parallel(num_learners: int, work: Callable[[int, Callable[[Tensor], Tensor]], None]) -> None:
    """`work(rank, reduce)` in threads whose `reduce` adds up in the order of the ranks."""
    barrier = threading.Barrier(num_learners)
    parts: list[Tensor] = [torch.zeros(0)] * num_learners

    def run(rank: int) -> None:
        def reduce(value: Tensor) -> Tensor:
            parts[rank] = value.detach().clone()
            barrier.wait(60)
            total = sum(parts[1:], parts[0])
            barrier.wait(60)
            return total

        try:
            work(rank, reduce)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    failures: list[BaseException] = []
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(num_learners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("fisher_subsample", [1, 4])
@pytest.mark.parametrize("shares", [(8,), (4, 4), (5, 3), (2, 3, 3)])
def test_several_learners_are_one(shares: tuple[int, ...], fisher_subsample: int) -> None:
    """The result does not depend on how the batch is divided."""
    settings = SETTINGS.model_copy(update={"fisher_subsample": fisher_subsample})
    rollouts = [rollout_of(controller(), iteration=0)]
    alone = controller()
    expected = TRPOLearner(alone, settings, seed=0).update(rollouts)
    networks = [controller() for _ in shares]
    metrics: list[dict[str, float]] = [{} for _ in shares]

    def work(rank: int, reduce: Callable[[Tensor], Tensor]) -> None:
        start = sum(shares[:rank])
        learner = TRPOLearner(networks[rank], settings, 0, reduce, rank, len(shares))
        metrics[rank] = learner.update([rollouts[0].columns(start, start + shares[rank])])

    in_parallel(len(shares), work)
    for network in networks:
        assert torch.equal(weights(network), weights(networks[0]))
        torch.testing.assert_close(weights(network), weights(alone), rtol=2e-3, atol=2e-4)
    assert all(one == metrics[0] for one in metrics)
    for name in ("policy/kl", "policy/gain", "critic/explained_variance"):
        assert metrics[0][name] == pytest.approx(expected[name], rel=1e-2, abs=1e-4)


def test_extra_terms_reach_the_policy_and_fade() -> None:
    settings = SETTINGS.model_copy(update={"cloning_weight": 50.0, "cloning_decay": 0.5, "clone_kl_weight": 0.01})
    network = controller()
    learner = TRPOLearner(network, settings, seed=0)
    errors = [learner.update([rollout_of(network, i)])["policy/expert_error"] for i in range(6)]
    assert errors[-1] < 0.6 * errors[0]
    assert learner.update([rollout_of(network, 6)])["policy/kl_clone"] > 0.0
    with pytest.raises(ValueError, match="cloning_weight needs"):
        learner.update([replace(rollout_of(network, 7), expert_actions=None)])


def test_the_critic_is_fitted_to_standardised_returns() -> None:
    network = torch.nn.Linear(2, 1)
    inputs = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    targets = inputs @ torch.tensor([1.0, -2.0]) + 0.5
    fit = CriticFit(network, learning_rate=0.05)
    fit.fit(inputs, targets, Share(0, 256, 256), 30, 32, np.random.default_rng(0))
    torch.testing.assert_close(network.weight.detach()[0], torch.tensor([1.0, -2.0]), rtol=0.02, atol=0.02)
    assert float(network.bias.detach()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("standardize", [True, False])
def test_returns_are_standardised_if_asked(standardize: bool) -> None:
    network = controller()
    settings = SETTINGS.model_copy(update={"standardize_returns": standardize})
    TRPOLearner(network, settings, seed=0).update([rollout_of(network)])
    assert (float(network.value_std) != 1.0) == standardize
