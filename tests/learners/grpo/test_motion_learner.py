"""Updates by losses of final motions of a tiny policy: that they learn, levels, noise, resume, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learners.grpo.advantages import group_advantages
from learners.grpo.learner import GRPOLearner
from learners.grpo.motion_objective import levels, noised
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from motions.data.prompts import Prompt, Segment
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import GroupMotions, RolloutRequest, TextCondition, Trajectory
from tests.toys.tiny_learners import advantages, equal, make_learner, make_policy, make_policy_like

pytestmark = pytest.mark.slow

NAMES = ("nft", "awm", "dgpo")


def learner_of(name: str, **settings: Any) -> GRPOLearner:
    return make_learner(**{"policy_loss": name, "micro_batch_size": 8, "noise_draws": 2, "kl_penalty": 0.0, **settings})


def roll_out(learner: GRPOLearner, step: int, num_groups: int = 2) -> tuple[list[GroupMotions], list[Trajectory]]:
    """Groups of four deterministic samples, with their final motions."""
    worker, version = RolloutWorker(make_policy_like(learner.policy)), learner.version()
    results = [
        worker.run(
            RolloutRequest(
                step=step,
                prompt_index=index,
                prompt=Prompt("walks", (Segment("walks", 6),)),
                condition=TextCondition(np.random.default_rng(index).standard_normal((1, 4), np.float32)),
                num_samples=4,
                seed=7,
                stochastic_steps=(),
                trained_steps=(),
                share_initial_noise=False,
                policy_version=version.number,
                keep_motions=True,
            ),
            version,
        )
        for index in range(num_groups)
    ]
    return [motions for motions, _ in results], [trajectory for _, trajectory in results]


def train(learner: GRPOLearner, num_updates: int, first: int = 0) -> list[dict[str, float]]:
    return [
        learner.update(roll_out(learner, step)[1], advantages(2, seed=step))
        for step in range(first, first + num_updates)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rewarded_rises(name: str) -> None:
    """The policy is paid for the size of one feature, by final motions alone."""
    learner = learner_of(name, learning_rate=1e-2, noise_draws=4, micro_batch_size=100)
    means = []
    for step in range(15):
        motions, trajectories = roll_out(learner, step, 4)
        rewards = np.stack([group.features[:, :, 4].mean(axis=1) for group in motions])
        means.append(rewards.mean())
        learner.update(trajectories, group_advantages(rewards, GRPOSettings()).values)
    assert np.mean(means[-3:]) > np.mean(means[:3]) + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_learner_ends_with_the_same_bits(name: str) -> None:
    options = {"trained_levels": 0, "share_noise": False, "kl_penalty": 0.1, "kl_average_decay": 0.5, "num_epochs": 2}
    whole, first, second = (learner_of(name, **options) for _ in range(3))
    train(whole, 3)
    train(first, 2)
    second.load(first.state())
    train(second, 1, first=2)
    assert equal(whole.version().weights, second.version().weights)


def test_the_seed_draws_the_noise() -> None:
    weights = []
    for seed in (0, 0, 1):
        learner = GRPOLearner(make_policy(), learner_of("awm").settings, seed=seed)
        train(learner, 1)
        weights.append(learner.version().weights)
    assert equal(weights[0], weights[1]) and not equal(weights[0], weights[2])


def test_levels() -> None:
    def drawn(seed: int = 0, **changes: int) -> list[int]:
        return levels(GRPOSettings.model_validate(changes), 6, np.random.default_rng(seed)).tolist()

    assert drawn(trained_levels=1, noise_draws=3) == [0, 0, 0]
    assert drawn(trained_levels=0, noise_draws=6) == [0, 1, 2, 3, 4, 5]
    assert drawn(trained_levels=2, noise_draws=4) == [0, 0, 1, 1]
    few = [drawn(seed, trained_levels=0, noise_draws=2) for seed in range(30)]
    assert {position for positions in few for position in positions} == set(range(6))
    assert all(first < second for first, second in few)


def test_the_forward_process() -> None:
    learner = learner_of("awm")
    _, (trajectory, _) = roll_out(learner, 0)
    schedule = make_policy_like(learner.policy).schedule
    shared, own = (
        noised(trajectory, schedule, GRPOSettings(trained_levels=0, noise_draws=6, share_noise=share), 3, 0, 0)
        for share in (True, False)
    )
    assert trajectory.motions is not None
    for result in (shared, own):
        np.testing.assert_array_equal(result.next_states, np.broadcast_to(trajectory.motions, (6, 4, 6, 263)))
        noises = []
        for state, position in zip(result.states[1:], result.steps[1:], strict=True):
            share = schedule.alphas_cumprod[schedule.index(int(position))]
            noises.append((state - np.sqrt(share) * trajectory.motions) / np.sqrt(1 - share))
        assert np.std(noises) == pytest.approx(1, abs=0.02)
        spread = np.ptp(noises, axis=1).max()
        assert (spread < 1e-3) == (result is shared), "samples have the same noise or their own"
    assert (shared.states[0] == shared.states[0][:1]).all(), "the noisiest level is noise alone, as in the sampler"
    assert not np.array_equal(shared.states, noised(trajectory, schedule, GRPOSettings(noise_draws=6), 4, 0, 0).states)


def test_shared_noise_needs_one_forward_for_a_group() -> None:
    shared, own = (train(learner_of("awm", share_noise=share), 1)[0] for share in (True, False))
    assert shared["num_pairs"] == own["num_pairs"] == 2 * 4 * 2
    assert (shared["num_forward_rows"], own["num_forward_rows"]) == (2 * 2, 2 * 4 * 2)


def test_several_optimizer_steps_compare_with_the_policy_that_rolled_out() -> None:
    options = {"num_epochs": 3, "groups_per_optimizer_step": 1, "learning_rate": 1e-2}
    metrics = train(learner_of("awm", clip_epsilon=0.9, **options), 1)[0]
    assert metrics["num_optimizer_steps"] == 6 and metrics["kl_old"] > 0
    clipped = train(learner_of("awm", clip_epsilon=1e-6, **options), 1)[0]
    assert clipped["kl_old"] < 0.8 * metrics["kl_old"]
    stopped = train(learner_of("awm", kl_threshold=1e-12, **options), 1)[0]
    assert stopped["stopped_early"] == 1 and stopped["num_optimizer_steps"] == 1


@pytest.mark.parametrize("size", [4, 1000])
def test_micro_batches_change_rounding_only(size: int) -> None:
    whole, parts = (learner_of("dgpo", micro_batch_size=given, trained_levels=0) for given in (8, size))
    train(whole, 2)
    train(parts, 2)
    a, b = whole.version().weights, parts.version().weights
    assert max(float(np.abs(a[name] - b[name]).max()) for name in a) < 1e-6


@pytest.mark.parametrize("weighting", ["exact", "dt", "x0"])
def test_the_penalty_holds_the_policy_near_the_base(weighting: str) -> None:
    options = {"kl_weighting": weighting, "trained_levels": 0, "noise_draws": 6, "learning_rate": 3e-3}
    free, held = (train(learner_of("awm", kl_penalty=weight, **options), 4)[-1] for weight in (0.0, 1e4))
    assert 0 < held["kl_reference"] < 0.5 * free["kl_reference"]
    assert {"kl_reference_position_0", "denoising_error_position_5"} <= free.keys()
    assert free["kl_reference_position_5"] == 0, "the last step is noiseless"


@pytest.mark.parametrize("lora", [True, False])
def test_the_penalty_may_refer_to_an_average_of_the_policy(lora: bool) -> None:
    """Which has moved on: the distance to it is smaller than to the base. It also holds for GRPO."""
    options = {"group_size": 4, "learning_rate": 1e-2, "policy_loss": "awm", "kl_penalty": 0.0}
    base, near = (
        train(GRPOLearner(make_policy(lora), GRPOSettings.model_validate({**options, "kl_average_decay": decay})), 5)[
            -1
        ]
        for decay in (0.0, 0.2)
    )
    assert 0 < near["kl_reference"] < 0.5 * base["kl_reference"]


def test_an_average_and_a_state_without_one_do_not_mix() -> None:
    with pytest.raises(UserError, match="kl_average_decay is 0 in one of checkpoint and run"):
        learner_of("awm", kl_average_decay=0.5).load(learner_of("awm").state())
    with pytest.raises(ValueError, match="another one"):
        GRPOLearner(make_policy(), GRPOSettings(kl_average_decay=0.5), reference=make_policy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy_loss": "nft", "loss_beta": 1.5}, "loss_beta is 1.5; policy_loss nft takes at most 1"),
        ({"trained_levels": 7}, "trained_levels is 7; the sampler has 6 noise levels"),
        ({"micro_batch_size": 3}, "micro_batch_size is 3; policy_loss awm compares the 4 samples"),
    ],
)
def test_options_out_of_a_losss_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        learner_of(**{"name": changes.pop("policy_loss", "awm"), **changes})


def test_a_rollout_that_kept_no_motions_is_refused() -> None:
    learner = learner_of("awm")
    trajectories = [replace(trajectory, motions=None) for trajectory in roll_out(learner, 0)[1]]
    with pytest.raises(ValueError, match="group 0 holds no final motions"):
        learner.update(trajectories, advantages(2))


def test_a_diverged_policy_changes_no_weight() -> None:
    learner = learner_of("awm")
    _, trajectories = roll_out(learner, 0)
    with torch.no_grad():
        next(iter(learner.policy.trainable_parameters().values())).fill_(torch.nan)
    before = learner.version().weights
    with pytest.raises(UserError, match=r"denoising error nan, KL nan.*changed no weight"):
        learner.update(trajectories, advantages(2))
    assert all(np.array_equal(before[name], value, equal_nan=True) for name, value in learner.version().weights.items())
