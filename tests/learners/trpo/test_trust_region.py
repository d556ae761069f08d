"""One trust region step: the Fisher matrix, conjugate gradients, the line search."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from learners.optimizer import DivergenceError
from learners.trpo.settings import TRPOSettings
from learners.trpo.trust_region import (
    ExtraTerms,
    GaussianPolicy,
    PolicyBatch,
    TrustRegionReport,
    conjugate_gradients,
    fisher_product,
    flatten,
    trust_region_step,
    unflatten,
)
from rollouts.control.actor_critic import ActorCritic, ActorCriticConfig
from rollouts.gaussians import action_kl, action_log_prob

INPUTS, ACTIONS, SAMPLES = 3, 2, 200


def settings(**options: object) -> TRPOSettings:
    return TRPOSettings.model_validate(options)


def tiny_policy(seed: int = 0) -> GaussianPolicy:
    network = ActorCritic(ActorCriticConfig(INPUTS, ACTIONS, (4,), output_gain=1.0, initial_log_std=-0.3), seed)
    return GaussianPolicy(network.policy, network.log_std)


def tiny_batch(policy: GaussianPolicy, seed: int = 0) -> PolicyBatch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, INPUTS, generator=generator)
    with torch.no_grad():
        mean = policy.network(inputs)
    actions = mean + policy.log_std.detach().exp() * torch.randn(SAMPLES, ACTIONS, generator=generator)
    advantages = torch.sin(3 * inputs[:, 0]) * actions[:, 0] + 0.1 * torch.randn(SAMPLES, generator=generator)
    advantages = (advantages - advantages.mean()) / advantages.std()
    return PolicyBatch(inputs, actions, advantages, mean, policy.log_std.detach().clone(), SAMPLES)


def mean_kl(policy: GaussianPolicy, batch: PolicyBatch) -> float:
    with torch.no_grad():
        return float(action_kl(batch.old_mean, batch.old_log_std, policy.network(batch.inputs), policy.log_std).mean())


def surrogate(policy: GaussianPolicy, batch: PolicyBatch) -> float:
    with torch.no_grad():
        new = action_log_prob(batch.actions, policy.network(batch.inputs), policy.log_std)
        old = action_log_prob(batch.actions, batch.old_mean, batch.old_log_std)
        return float(((new - old).exp() * batch.advantages).mean())


def explicit_fisher(policy: GaussianPolicy, batch: PolicyBatch) -> Tensor:
    """E[score score'] over the policy's own actions in closed form: the mean's Jacobian and 2 for each log_std."""
    parameters = policy.parameters
    size = sum(parameter.numel() for parameter in parameters)
    fisher = torch.zeros(size, size)
    for row in batch.inputs:
        mean = policy.network(row)
        jacobian = torch.stack(
            [flatten(torch.autograd.grad(mean[a], [*policy.network.parameters()], retain_graph=True)) for a in (0, 1)]
        )
        inner = size - ACTIONS
        precision = torch.diag(torch.exp(-2 * policy.log_std.detach()))
        fisher[:inner, :inner] += jacobian.T @ precision @ jacobian / len(batch.inputs)
    fisher[-ACTIONS:, -ACTIONS:] = 2 * torch.eye(ACTIONS)
    return fisher


@pytest.mark.parametrize("method", ["double_backward", "gauss_newton"])
def test_products_are_those_of_the_explicit_fisher_matrix(method: str) -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    fisher = explicit_fisher(policy, batch)
    product = fisher_product(policy, batch, settings(fisher_product=method, cg_damping=0.25))
    columns = torch.stack([product(unit) for unit in torch.eye(len(fisher))])
    torch.testing.assert_close(columns, fisher + 0.25 * torch.eye(len(fisher)), rtol=1e-4, atol=1e-5)


def test_the_fisher_matrix_is_the_curvature_of_the_kl_divergence() -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    start = flatten(policy.parameters).detach().clone()
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        vector = torch.randn(start.shape, generator=generator)
        vector *= 0.02 / vector.norm()
        quadratic = 0.5 * float(vector @ fisher_product(policy, batch, settings(cg_damping=0.0))(vector))
        unflatten(start + vector, policy.parameters)
        ahead = mean_kl(policy, batch)
        unflatten(start - vector, policy.parameters)
        assert (ahead + mean_kl(policy, batch)) / 2 == pytest.approx(quadratic, rel=0.02)
        unflatten(start, policy.parameters)


def test_subsampled_products_are_those_of_every_nth_sample() -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    fewer = PolicyBatch(
        batch.inputs[::5], batch.actions[::5], batch.advantages[::5], batch.old_mean[::5], batch.old_log_std, 40
    )
    vector = torch.linspace(-1, 1, len(flatten(policy.parameters)))
    torch.testing.assert_close(
        fisher_product(policy, batch, settings(fisher_subsample=5))(vector),
        fisher_product(policy, fewer, settings())(vector),
    )


def test_conjugate_gradients_solve_and_stop() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, generator=generator)
    matrix, target = root @ root.T + torch.eye(8), torch.randn(8, generator=generator)
    solved = conjugate_gradients(lambda v: matrix @ v, target, max_iterations=30, residual_limit=1e-10)
    torch.testing.assert_close(solved.direction, torch.linalg.solve(matrix, target), rtol=1e-3, atol=1e-4)
    assert solved.iterations < 30 and solved.residual**2 <= 1e-10
    assert conjugate_gradients(lambda v: matrix @ v, target, 3, 0.0).iterations == 3
    assert conjugate_gradients(lambda v: matrix @ v, target * 0, 9, 0.0).iterations == 0


@pytest.mark.parametrize("worst", [0.0, -1.0, math.nan, math.inf])
def test_conjugate_gradients_stop_on_curvature_that_is_not_positive(worst: float) -> None:
    diagonal = torch.tensor([2.0, 1.0, worst])
    solved = conjugate_gradients(lambda v: diagonal * v, torch.tensor([1.0, 1.0, 0.0]), 10, 1e-10)
    assert bool(solved.direction.isfinite().all())
    flat = conjugate_gradients(lambda v: v * worst, torch.ones(3), 10, 1e-10)
    assert flat.iterations == 0 and not bool(flat.direction.any())


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
def test_a_step_improves_within_the_limit(max_kl: float) -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    before = surrogate(policy, batch)
    report = trust_region_step(policy, batch, settings(max_kl=max_kl))
    assert report.accepted
    assert surrogate(policy, batch) - before == pytest.approx(report.gain, abs=1e-6) and report.gain > 0
    assert mean_kl(policy, batch) == pytest.approx(report.kl, abs=1e-7)
    assert 0.2 * max_kl < report.kl <= max_kl


def test_a_step_beyond_the_limit_is_scaled_onto_it() -> None:
    """The next size follows from the KL divergence, not from the shrink factor, which would waste most of the step."""
    policy = tiny_policy()
    batch = tiny_batch(policy)
    report = trust_region_step(policy, batch, settings(max_kl=0.01, cg_damping=0.01, line_search_shrink=0.1))
    assert 0.8 < report.step_fraction < 1
    assert 0.9 * 0.01 < report.kl <= 0.01


def test_the_kl_limit_alone_shortens_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full step improves and breaks the limit: it must not be taken (joschu/modular_rl issue 29)."""
    import learners.trpo.trust_region as module

    policy = tiny_policy()
    batch = tiny_batch(policy)
    # A Fisher product that is 50 times too small promises steps 7 times too long.
    exact = module.fisher_product

    def too_small(*arguments: Any) -> module.Product:
        product = exact(*arguments)
        return lambda vector: product(vector) / 50

    monkeypatch.setattr(module, "fisher_product", too_small)
    report = trust_region_step(policy, batch, settings(max_kl=0.01, line_search_shrink=0.5))
    assert report.accepted and report.step_fraction < 0.5
    assert report.kl <= 0.01 and mean_kl(policy, batch) <= 0.01 * (1 + 1e-5)


def test_without_an_acceptable_step_the_parameters_are_what_they_were() -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    start = flatten(policy.parameters).detach().clone()
    # The policy is already further from the one that sampled than is allowed.
    moved = PolicyBatch(
        batch.inputs, batch.actions, batch.advantages, batch.old_mean + 1.0, batch.old_log_std, batch.total
    )
    report = trust_region_step(policy, moved, settings(max_kl=1e-3))
    assert not report.accepted and report.step_fraction == 0.0 and report.gain == 0.0
    assert report.kl == report.kl_before > 1e-3
    assert torch.equal(flatten(policy.parameters), start)


def test_zero_advantages_change_nothing() -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    start = flatten(policy.parameters).detach().clone()
    idle = PolicyBatch(
        batch.inputs, batch.actions, batch.advantages * 0, batch.old_mean, batch.old_log_std, batch.total
    )
    assert not trust_region_step(policy, idle, settings()).accepted
    assert torch.equal(flatten(policy.parameters), start)


def test_what_is_not_finite_is_refused_before_anything_changes() -> None:
    policy = tiny_policy()
    batch = tiny_batch(policy)
    start = flatten(policy.parameters).detach().clone()
    batch.advantages[3] = math.nan
    with pytest.raises(DivergenceError, match="the policy was not changed"):
        trust_region_step(policy, batch, settings())
    assert torch.equal(flatten(policy.parameters), start)


def test_both_products_take_the_same_step() -> None:
    ends, reports = [], []
    for method in ("double_backward", "gauss_newton"):
        policy = tiny_policy()
        reports.append(trust_region_step(policy, tiny_batch(policy), settings(fisher_product=method)))
        ends.append(flatten(policy.parameters).detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-4)
    assert reports[0].kl == pytest.approx(reports[1].kl, rel=1e-2)


def test_a_fixed_deviation_stays() -> None:
    policy = tiny_policy()
    fixed = GaussianPolicy(policy.network, policy.log_std, train_log_std=False)
    before = policy.log_std.detach().clone()
    for method in ("double_backward", "gauss_newton"):
        assert trust_region_step(fixed, tiny_batch(policy), settings(fisher_product=method)).accepted
        assert torch.equal(policy.log_std.detach(), before)
    assert trust_region_step(policy, tiny_batch(policy), settings()).accepted
    assert not torch.equal(policy.log_std.detach(), before)


def step_with(extra: ExtraTerms, **fields: Any) -> tuple[GaussianPolicy, PolicyBatch, TrustRegionReport]:
    policy = tiny_policy()
    plain = tiny_batch(policy)
    batch = PolicyBatch(
        plain.inputs, plain.actions, plain.advantages * 0, plain.old_mean, plain.old_log_std, plain.total, **fields
    )
    return policy, batch, trust_region_step(policy, batch, settings(), extra)


def test_the_entropy_term_widens_the_policy() -> None:
    policy, batch, report = step_with(ExtraTerms(entropy=0.1))
    assert report.accepted and bool((policy.log_std > batch.old_log_std).all())


def test_the_cloning_term_pulls_the_mean_to_the_expert_and_leaves_the_deviation() -> None:
    expert = torch.ones(SAMPLES, ACTIONS)
    policy, batch, report = step_with(ExtraTerms(cloning=1.0), expert_actions=expert)
    with torch.no_grad():
        after = (policy.network(batch.inputs) - expert).square().mean()
    assert report.accepted and after < (batch.old_mean - expert).square().mean()
    assert torch.equal(policy.log_std.detach(), batch.old_log_std)


def test_the_clone_penalty_pulls_towards_the_clone() -> None:
    clone_mean, clone_log_std = torch.zeros(SAMPLES, ACTIONS), torch.full((ACTIONS,), -1.0)
    policy, batch, report = step_with(ExtraTerms(clone_kl=1.0), clone_mean=clone_mean, clone_log_std=clone_log_std)
    with torch.no_grad():
        after = action_kl(policy.network(batch.inputs), policy.log_std, clone_mean, clone_log_std).mean()
        before = action_kl(batch.old_mean, batch.old_log_std, clone_mean, clone_log_std).mean()
    assert report.accepted and after < before


def test_repeated_steps_learn_a_bandit_monotonically() -> None:
    """Reward -(action - sin(3 input))^2: the expected reward rises in every step."""
    policy = tiny_policy()
    generator = torch.Generator().manual_seed(5)
    expected = []
    for _ in range(25):
        inputs = torch.rand(1000, INPUTS, generator=generator) * 2 - 1
        with torch.no_grad():
            mean, log_std = policy.network(inputs), policy.log_std.detach().clone()
        goal = torch.sin(3 * inputs[:, :1])
        actions = mean + log_std.exp() * torch.randn(1000, ACTIONS, generator=generator)
        rewards = -(actions - goal).square().sum(1)
        expected.append(-float((mean - goal).square().sum(1).mean() + log_std.exp().square().sum()))
        advantages = (rewards - rewards.mean()) / rewards.std()
        report = trust_region_step(
            policy, PolicyBatch(inputs, actions, advantages, mean, log_std, 1000), settings(max_kl=0.05)
        )
        assert report.accepted
    assert all(later > earlier for earlier, later in itertools.pairwise(expected))
    assert expected[-1] > 0.35 * expected[0]
