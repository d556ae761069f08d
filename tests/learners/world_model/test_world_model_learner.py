"""The learner's iterations: what they change, what they measure, and that a saved learner goes on alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from learners.world_model.imagination import Imagined, imagine
from learners.world_model.learner import WorldModelLearner, policy_loss, sampler_options
from learners.world_model.settings import WorldModelSettings
from rollouts.control.vector_sampler import VectorSampler
from tests.toys.characters.character_rollouts import character_env, small_controller, state_sampler

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    **{"rollout_steps": 80, "warmup_iterations": 2, "model_hidden_size": 16, "model_batch_size": 16},
    **{"model_window": 3, "model_warmup_updates": 3, "model_updates": 2, "policy_updates": 2},
    **{"imagined_starts": 8, "imagined_steps": 4},
}


def small_learner(**options: Any) -> WorldModelLearner:
    env = character_env(8)
    return WorldModelLearner(small_controller(env), env.task, WorldModelSettings(**{**SMALL, **options}), seed=3)


def iterate(learner: WorldModelLearner, sampler: Any, count: int) -> list[dict[str, float]]:
    return [learner.update([sampler.collect(learner.controller, 10, learner.iteration)]) for _ in range(count)]


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def test_a_saved_learner_goes_on_to_the_same_bits() -> None:
    whole, sampler = small_learner(), state_sampler(character_env(8))
    iterate(whole, sampler, 3)
    saved, environments = whole.state(), sampler.state()
    iterate(whole, sampler, 2)
    resumed, again = small_learner(), state_sampler(character_env(8))
    resumed.load(saved)
    again.load(environments)
    iterate(resumed, again, 2)
    assert_same(whole.state(), resumed.state())


def test_pushes_begin_with_an_iteration() -> None:
    env = character_env(8, push_force=300.0, push_interval_s=0.3, push_duration_s=0.1)
    settings = WorldModelSettings(**SMALL, push_from_iteration=1)
    sampler = VectorSampler(env, 0, **sampler_options(settings))
    pushed = []
    for iteration in range(2):
        rollout = sampler.collect(small_controller(env), 20, iteration)
        assert rollout.states is not None
        pushed.append(bool(rollout.states["pushed"].any()))
    assert pushed == [False, True]


def test_the_first_iterations_only_collect() -> None:
    learner, sampler = small_learner(), state_sampler(character_env(8))
    before = {name: value.clone() for name, value in learner.controller.state_dict().items()}
    assert iterate(learner, sampler, 1) == [{}]
    assert_same(before, learner.controller.state_dict())
    (metrics,) = iterate(learner, sampler, 1)
    assert {"model/loss", "imagined/reward", "policy/grad_norm"} <= set(metrics)
    statistics = {name: value.clone() for name, value in learner.controller.statistics.state_dict().items()}
    assert statistics["count"] > 0
    iterate(learner, sampler, 1)
    assert_same(statistics, learner.controller.statistics.state_dict())


def imagined_loss(learner: WorldModelLearner) -> float:
    """The loss of the policy that acts, from fixed states."""
    controller, starts = learner.controller, learner.replay.starts(64, torch.Generator().manual_seed(9))
    acts, noise = lambda seen: controller.policy(controller.statistics(seen)), torch.zeros(4, 64, 28)
    with torch.no_grad():
        return float(policy_loss(imagine(learner.task, learner.model, acts, starts, noise), learner.settings))


def test_the_policy_s_updates_raise_the_imagined_return() -> None:
    learner = small_learner(policy_learning_rate=1e-3, policy_updates=1, policy_average=0.0)
    iterate(learner, state_sampler(character_env(8)), 2)
    before = imagined_loss(learner)
    for _ in range(8):
        learner.update([])
    assert imagined_loss(learner) < before - 0.01


def imagined(**changes: torch.Tensor) -> Imagined:
    parts = {
        "actions": torch.zeros(3, 2, 4),
        "rewards": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, float("nan")]]),
        "costs": torch.zeros(3, 2),
        "counted": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
        "alive": torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]),
    }
    return Imagined(**{**parts, **changes})


def test_the_policy_s_loss_is_that_of_its_formula() -> None:
    settings = WorldModelSettings(tracking_cost=2.0, action_cost=0.1, smoothness_cost=0.5)
    assert float(policy_loss(imagined(), settings)) == pytest.approx(-4.0 * 5 / 6)
    costs = torch.full((3, 2), 0.25)
    assert float(policy_loss(imagined(costs=costs), settings)) == pytest.approx(-4.0 * 5 / 6 * 0.5)
    actions = torch.zeros(3, 2, 4)
    actions[1] = 2.0
    expected = -4.0 * 5 / 6 + 0.1 * 4 / 3 + 0.5 * 4
    assert float(policy_loss(imagined(actions=actions), settings)) == pytest.approx(expected)


def test_the_policy_that_acts_is_the_average() -> None:
    fast, slow = small_learner(policy_average=0.0), small_learner(policy_average=0.9999)
    starts = [{name: v.clone() for name, v in one.controller.policy.state_dict().items()} for one in (fast, slow)]
    for learner in (fast, slow):
        iterate(learner, state_sampler(character_env(8)), 3)
    ways = [
        sum(float((value - start[name]).abs().sum()) for name, value in learner.controller.policy.state_dict().items())
        for learner, start in zip((fast, slow), starts, strict=True)
    ]
    assert 0 < ways[1] < ways[0]
