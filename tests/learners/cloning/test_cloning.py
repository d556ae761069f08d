"""Cloning on made-up data: likelihood, floor, split, aggregation, workers, critic."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from jobs.configs.deepmimic import CharacterCloningSettings
from learners.cloning.learner import (
    CloningLearner,
    CriticData,
    capped_epochs,
    cloning_loss,
    discounted_returns,
    fit_critic,
    round_length,
)
from learners.cloning.settings import CloningSettings
from rollouts.control.actor_critic import ActorCritic
from rollouts.imitation.demonstrations import Demonstrations, aggregate, split_by_blocks
from rollouts.imitation.settings import DemonstrationSettings
from tests.toys.characters.cloning_toys import collected, controller, linear_data
from tests.toys.running.thread_workers import ThreadWorkers

SETTINGS = CloningSettings(epochs=40, batch_size=64, learning_rate=1e-2, log_std_floor=-5)


def fitted(settings: CloningSettings, data: Demonstrations) -> tuple[ActorCritic, dict[str, float]]:
    learner = CloningLearner(controller(), settings, seed=5)
    learner.observe(data)
    return learner.controller, learner.fit(data, 0)


def test_the_loss_is_the_gaussian_likelihood() -> None:
    mean, log_std = torch.randn(5, 3), torch.tensor([-1.0, 0.0, 0.5])
    actions, weights = torch.randn(5, 3), torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5])
    expected = -torch.distributions.Normal(mean, log_std.exp()).log_prob(actions).mean(-1) - 0.5 * math.log(math.tau)
    terms = cloning_loss(mean, log_std, actions, weights)
    torch.testing.assert_close(terms.loss, (weights * expected).sum())
    assert float(terms.weight) == 4.5


def test_a_clone_learns_mean_and_residual_std() -> None:
    clone, metrics = fitted(SETTINGS, linear_data(noise=0.3))
    assert metrics["val_rmse"] == pytest.approx(0.3, abs=0.06)
    assert clone.log_std.exp().mean().item() == pytest.approx(0.3, abs=0.06)


def test_the_std_stops_at_its_floor() -> None:
    clone, _ = fitted(SETTINGS.model_copy(update={"log_std_floor": -1.5}), linear_data(noise=0.0))
    assert clone.log_std.min().item() == pytest.approx(-1.5)


@pytest.mark.parametrize(("limit", "steps"), [(7, 7), (1000, 40 * 9)])
def test_optimizer_steps_are_limited(limit: int, steps: int) -> None:
    """540 samples of training are 9 batches, 40 times."""
    reported: list[dict[str, float]] = []
    learner = CloningLearner(controller(), SETTINGS.model_copy(update={"max_optimizer_steps": limit}), seed=5)
    learner.fit(linear_data(600), 0, reported.append)
    assert reported[-1]["optimizer_steps"] == steps


def test_epochs_that_somebody_asks_for_win_over_the_default_limit() -> None:
    asked = CloningSettings(epochs=150, batch_size=1)
    assert asked.max_optimizer_steps is None and round_length(asked, 1000)[0] == 150_000
    assert capped_epochs(asked, 1000) is None
    assert CloningSettings.model_validate(asked.model_dump()) == asked
    assert CloningSettings(epochs=150, max_optimizer_steps=7).max_optimizer_steps == 7
    default = CloningSettings(batch_size=1)
    assert round_length(default, 1000)[0] == default.max_optimizer_steps == 6000
    assert CharacterCloningSettings(epochs=2).max_optimizer_steps is None


def test_a_round_of_fewer_epochs_than_asked_for_is_known() -> None:
    assert capped_epochs(SETTINGS.model_copy(update={"max_optimizer_steps": 18}), 540) == 2
    assert capped_epochs(SETTINGS.model_copy(update={"max_optimizer_steps": 40 * 9}), 540) is None


def test_weights_decide_which_labels_count() -> None:
    data = linear_data(noise=0.0)
    bad = data.actions.copy()
    bad[::2] = 7.0
    weights = np.ones(len(data), np.float32)
    weights[::2] = 0.0
    wrong = Demonstrations(data.observations, bad, weights, data.phases, data.blocks)
    _, metrics = fitted(SETTINGS, wrong)
    assert metrics["val_rmse"] < 0.2


def test_the_critic_is_left_alone_by_cloning() -> None:
    before = [p.clone() for p in controller().critic_parameters()]
    clone, _ = fitted(SETTINGS, linear_data())
    assert all(torch.equal(a, b) for a, b in zip(before, clone.critic_parameters(), strict=True))


@pytest.mark.parametrize("field", ["observations", "actions"])
def test_data_that_are_not_finite_are_refused(field: str) -> None:
    data = linear_data(60)
    getattr(data, field)[3, 1] = np.nan
    with pytest.raises(ValueError, match=f"{field}.*not finite"):
        CloningLearner(controller(), SETTINGS, seed=0).fit(data, 0)


def test_two_workers_train_the_same_clone_as_one() -> None:
    data, settings = linear_data(200), SETTINGS.model_copy(update={"epochs": 5})
    alone, _ = fitted(settings, data)
    members = ThreadWorkers.of_size(2)
    clones = [controller(), controller()]

    def work(rank: int) -> None:
        learner = CloningLearner(clones[rank], settings, seed=5, workers=members[rank])
        learner.observe(data)
        learner.fit(data, 0)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, value in alone.state_dict().items():
        assert torch.equal(clones[0].state_dict()[name], clones[1].state_dict()[name])
        torch.testing.assert_close(clones[0].state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_returns_end_with_a_fall_and_are_unknown_at_a_time_limit() -> None:
    rewards = np.ones((4, 2))
    ended = np.array([[0, 0], [1, 0], [0, 0], [0, 1]], dtype=bool)
    after = np.full((4, 2), np.nan)
    after[1, 0] = 0.0
    after[3, 1] = 0.0
    returns, known = discounted_returns(rewards, ended, after, 0.5)
    assert returns[:2, 0].tolist() == [1.5, 1.0]
    assert returns[:, 1].tolist() == [1.875, 1.75, 1.5, 1.0]
    assert known[:, 0].tolist() == [True, True, False, False]
    assert known[:, 1].all()


def test_the_critic_learns_returns() -> None:
    network = controller()
    data = linear_data()
    network.update_statistics(data.observations)
    policy = [p.clone() for p in network.policy_parameters()]
    metrics = fit_critic(network, CriticData(data.observations, 50 + 10.0 * data.actions[:, 0]), SETTINGS, seed=0)
    assert metrics["explained_variance"] > 0.9
    assert network.value(torch.from_numpy(data.observations)).mean().item() == pytest.approx(52, abs=2)
    assert all(torch.equal(a, b) for a, b in zip(policy, network.policy_parameters(), strict=True))


def test_validation_holds_out_whole_blocks_with_a_gap() -> None:
    data = linear_data(600)
    train, held = split_by_blocks(data, 0.2, np.random.default_rng(0))
    assert not set(train.blocks) & set(held.blocks)
    counts = np.unique(held.blocks, return_counts=True)[1]
    # Blocks of 30, less a tenth at either end.
    assert (counts == 24).all() and len(counts) == 4
    everything, nothing = split_by_blocks(data, 0.0, np.random.default_rng(0))
    assert len(everything) == 600 and len(nothing) == 0


def test_aggregation_keeps_all_data_and_no_two_blocks_meet() -> None:
    first, second = linear_data(90), linear_data(60, seed=1)
    both = aggregate([first, second])
    assert len(both) == 150 and np.array_equal(both.observations[90:], second.observations)
    assert np.unique(both.blocks).tolist() == [0, 1, 2, 3, 4]


def test_steps_that_only_reset_are_no_samples() -> None:
    data, _ = collected()
    lane1 = data.observations[data.observations[:, 0] == 1]
    assert lane1[:, 2].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (data.observations[:, 0] == 0).sum() == 9


def test_blocks_are_pieces_of_one_episode() -> None:
    data, _ = collected()
    for block in np.unique(data.blocks):
        inside = data.observations[data.blocks == block]
        assert len(np.unique(inside[:, :2], axis=0)) == 1
        assert len(inside) <= 2 and (np.diff(inside[:, 2]) == 1).all()


def test_noise_is_acted_but_never_learned() -> None:
    data, env = collected(noise_std=0.5, noise_hold_steps=3, num_steps=3)
    noise = np.stack(env.acted)[:, 0, 0] - np.arange(3)
    assert noise[0] != 0 and np.allclose(noise, noise[0], atol=1e-6)
    assert np.array_equal(data.actions[:3, 0], [0, 1, 2])


def test_beta_shares_the_steps_between_expert_and_clone() -> None:
    clone = lambda observations: np.full((2, 1), -7.0)  # noqa: E731
    data, env = collected(beta=0.5, actor=clone, num_steps=200)
    share = np.mean(np.stack(env.acted) == -7.0)
    assert 0.4 < share < 0.6
    assert (data.actions >= 0).all()
    _, env = collected(beta=0.0, actor=clone)
    assert (np.stack(env.acted) == -7.0).all()
    with pytest.raises(ValueError, match="no actor"):
        collected(beta=0.5)


def test_weights_can_be_rewards() -> None:
    assert (collected()[0].weights == 1).all()
    assert (collected(reward_weights=True)[0].weights == 0.25).all()


@pytest.mark.parametrize(("text", "seconds"), [("1", 1 / 30), ("2.5", 2.5 / 30), ("0.04s", 0.04), ("0", 0.0)])
def test_lookahead_in_seconds_or_steps(text: str, seconds: float) -> None:
    assert DemonstrationSettings(lookahead=text).label_lookahead_s(30.0) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "-1", "-0.1s", "1ms", "nan"])
def test_a_lookahead_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="lookahead is"):
        DemonstrationSettings(lookahead=text)


def test_layer_widths() -> None:
    assert CloningSettings(hidden_size=(64,), num_layers=3).layer_widths == (64, 64, 64)
    assert CloningSettings(hidden_size=(64, 32), num_layers=2).layer_widths == (64, 32)
    with pytest.raises(ValidationError, match="one per layer"):
        CloningSettings(hidden_size=(64, 32), num_layers=3)


def test_betas_by_round() -> None:
    assert [DemonstrationSettings().beta(index) for index in range(6)] == [1.0, 0.5, 0.25, 0.0, 0.0, 0.0]
