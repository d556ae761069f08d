"""The GRPO loss: hand-computed cases, finite differences, and the identities that must hold at the start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learners.grpo.loss import GRPOInputs, GRPOTerms, grpo_loss, grpo_metrics
from learners.grpo.settings import GRPOSettings
from rollouts.diffusion.schedule import DiffusionSchedule, noise_level_drops
from rollouts.diffusion.transitions import StepCoefficients, ddpm_transition
from rollouts.gaussians import gaussian_log_prob
from rollouts.policy import Transition

SCHEDULE = DiffusionSchedule("cosine", 8)


def settings(**changes: Any) -> GRPOSettings:
    return GRPOSettings.model_validate({"kl_penalty": 0.0, "clip_epsilon": 0.1, **changes})


def pairs_with_log_ratio(
    log_ratio: list[float], advantages: list[float], **changes: Any
) -> tuple[GRPOTerms, list[bool]]:
    """Terms of pairs whose log-ratio is given (the old log-probability is shifted), and which means get a gradient."""
    num = len(log_ratio)
    mean = torch.zeros(num, 3, 2, requires_grad=True)
    policy = Transition(mean, torch.ones(num), mean)
    reference = Transition(mean.detach(), torch.ones(num), mean.detach())
    drawn = torch.ones(num, 3, 2)
    log_probs = gaussian_log_prob(drawn, mean, policy.std, None).detach()
    inputs = GRPOInputs(
        policy=policy,
        reference=reference,
        next_states=drawn,
        old_log_probs=log_probs - torch.tensor(log_ratio),
        advantages=torch.tensor(advantages),
        mask=None,
        noise_drops=torch.ones(num),
    )
    terms = grpo_loss(inputs, settings(**changes))
    terms.loss.sum().backward()
    assert mean.grad is not None
    return terms.detached(), [bool(gradient.any()) for gradient in mean.grad]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "has_gradient"),
    [
        (1.05, 2.0, -2.1, True),  # inside the range
        (1.05, -2.0, 2.1, True),
        (1.3, 2.0, -2.2, False),  # good and already likelier: held at 1.1
        (1.3, -2.0, 2.6, True),  # bad and likelier: full gradient back
        (0.7, 2.0, -1.4, True),  # good and less likely: full gradient back
        (0.7, -2.0, 1.8, False),  # bad and already less likely: held at 0.9
        (1.3, 0.0, 0.0, False),
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, loss: float, has_gradient: bool) -> None:
    terms, moves = pairs_with_log_ratio([math.log(ratio)], [advantage])
    assert terms.loss.item() == pytest.approx(loss, abs=1e-5)
    assert moves == [has_gradient]
    assert bool(terms.clipped_high) == (ratio > 1.1 and advantage > 0)
    assert bool(terms.clipped_low) == (ratio < 0.9 and advantage < 0)


def test_range_can_be_asymmetric() -> None:
    terms, moves = pairs_with_log_ratio([math.log(1.3), math.log(0.7)], [2.0, -2.0], clip_epsilon_high=0.5)
    torch.testing.assert_close(terms.loss, torch.tensor([-2.6, 1.8]))
    assert moves == [True, False]


def tiny_policy(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def tiny_batch(num: int = 6, frames: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 2, 3, 4, 1, 2])[:num]
    return {
        "x_t": torch.randn(num, frames, 3, generator=generator, dtype=torch.float64),
        "noise": torch.randn(num, frames, 3, generator=generator, dtype=torch.float64),
        "advantages": torch.tensor([1.5, -1.0, 0.5, -0.3, 2.0, -2.0], dtype=torch.float64)[:num],
        "indices": np.array([7, 6, 5, 4, 3, 2])[:num],
        "mask": torch.arange(frames)[None] < lengths[:, None],
    }


def transition(network: nn.Module, batch: dict[str, Any]) -> Transition:
    return ddpm_transition(batch["x_t"], network(batch["x_t"]), StepCoefficients.of(SCHEDULE, batch["indices"]))


def evaluate(network: nn.Module, behaviour: nn.Module, base: nn.Module, options: GRPOSettings) -> GRPOTerms:
    """The loss of a network on states drawn by `behaviour`, with reference `base`."""
    batch = tiny_batch()
    with torch.no_grad():
        old, reference = transition(behaviour, batch), transition(base, batch)
        drawn = old.mean + old.std[:, None, None] * batch["noise"]
        old_log_probs = gaussian_log_prob(drawn, old.mean, old.std, batch["mask"])
    drops = torch.from_numpy(noise_level_drops(SCHEDULE)[SCHEDULE.num_steps - 1 - batch["indices"]])
    policy = transition(network, batch)
    return grpo_loss(
        GRPOInputs(policy, reference, drawn, old_log_probs, batch["advantages"], batch["mask"], drops), options
    )


def moved(network: nn.Module, by: float, seed: int) -> nn.Module:
    copy = tiny_policy()
    copy.load_state_dict(network.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return copy


@pytest.mark.parametrize("weighting", ["exact", "dt", "x0", "k3"])
def test_gradient_equals_finite_differences(weighting: str) -> None:
    """Through network, posterior, log-probability, clipped ratio and KL, in float64; some pairs are clipped."""
    base = tiny_policy()
    behaviour, network = moved(base, 0.05, 1), moved(base, 0.1, 2)
    options = settings(kl_penalty=0.7, clip_epsilon=0.03, kl_weighting=weighting)
    terms = evaluate(network, behaviour, base, options)
    assert 0 < (terms.clipped_low + terms.clipped_high).sum() < 6
    terms.loss.mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        numeric = torch.zeros_like(parameter)
        for index in np.ndindex(*parameter.shape):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter[index] += sign * 1e-6
                    values.append(evaluate(network, behaviour, base, options).loss.mean().item())
                    parameter[index] -= sign * 1e-6
            numeric[index] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(parameter.grad, numeric, rtol=1e-5, atol=1e-8)
        assert parameter.grad.abs().max() > 1e-4


def test_first_ratio_is_one_and_kl_is_zero_at_the_base() -> None:
    base = tiny_policy()
    terms = evaluate(base, base, base, settings(kl_penalty=1.0))
    assert (terms.log_ratio.exp() - 1).abs().max() < 1e-5
    assert torch.equal(terms.kl_ref, torch.zeros_like(terms.kl_ref))
    torch.testing.assert_close(terms.loss, -tiny_batch()["advantages"])
    assert not terms.clipped_low.any() and not terms.clipped_high.any()


def test_on_policy_gradient_is_the_policy_gradient() -> None:
    """At ratio 1 the gradient of the loss is -E[A grad log pi]; a rollout kept in the graph would make it 0."""
    base = tiny_policy()
    evaluate(base, base, base, settings()).loss.mean().backward()
    got = [parameter.grad.clone() for parameter in base.parameters() if parameter.grad is not None]
    base.zero_grad()
    batch = tiny_batch()
    policy = transition(base, batch)
    drawn = (policy.mean + policy.std[:, None, None] * batch["noise"]).detach()
    score = gaussian_log_prob(drawn, policy.mean, policy.std, batch["mask"])
    (-(batch["advantages"] * score).mean()).backward()
    for gradient, parameter in zip(got, base.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
        assert gradient.norm() > 1e-3


def test_exact_kl_is_positive_and_matches_its_definition() -> None:
    base = tiny_policy()
    network = moved(base, 0.2, 3)
    terms = evaluate(network, base, base, settings(kl_penalty=1.0))
    assert (terms.kl_ref > 0).all()
    batch = tiny_batch()
    new, old = transition(network, batch), transition(base, batch)
    normal = torch.distributions.Normal
    full = torch.distributions.kl_divergence(
        normal(new.mean, new.std[:, None, None].double()), normal(old.mean, old.std[:, None, None].double())
    ).mean(dim=2)
    expected = torch.stack([full[i][batch["mask"][i]].mean() for i in range(6)])
    torch.testing.assert_close(terms.kl_ref, expected.detach())


def test_padding_changes_nothing() -> None:
    base = tiny_policy()
    network = moved(base, 0.2, 4)
    batch = tiny_batch()
    policy, reference = transition(network, batch), transition(base, batch)
    drawn = reference.mean.detach() + 0.1

    def loss(poison: float) -> Tensor:
        outside = ~batch["mask"][:, :, None]
        dirty = torch.where(outside, torch.full_like(drawn, poison), drawn)
        mean = torch.where(outside, torch.full_like(drawn, -poison), policy.mean)
        inputs = GRPOInputs(
            Transition(mean, policy.std, policy.x0),
            reference,
            dirty,
            torch.zeros(6),
            batch["advantages"],
            batch["mask"],
            torch.ones(6),
        )
        return grpo_loss(inputs, settings(kl_penalty=1.0)).loss

    assert torch.equal(loss(0.0), loss(1e6))


def test_weightings_scale_the_penalty_only() -> None:
    base = tiny_policy()
    network = moved(base, 0.2, 5)
    exact, by_dt, by_x0 = (
        evaluate(network, base, base, settings(kl_penalty=0.3, kl_weighting=name)) for name in ("exact", "dt", "x0")
    )
    torch.testing.assert_close(exact.penalty, exact.kl_ref)
    torch.testing.assert_close(by_dt.kl_ref, exact.kl_ref)
    drops = torch.from_numpy(noise_level_drops(SCHEDULE)[:6])
    torch.testing.assert_close(by_dt.penalty, exact.kl_ref * drops)
    assert not torch.allclose(by_x0.penalty, exact.penalty)
    torch.testing.assert_close(by_x0.loss, by_x0.policy_loss + 0.3 * by_x0.penalty)


def test_noise_levels_fall_from_almost_one_to_zero() -> None:
    drops = noise_level_drops(SCHEDULE)
    assert (drops > 0).all() and len(drops) == 8
    noise = math.sqrt(1 - SCHEDULE.alphas_cumprod[-1])
    assert drops.sum() == pytest.approx(noise / (noise + math.sqrt(SCHEDULE.alphas_cumprod[-1])))


def test_deterministic_steps_have_no_ratio() -> None:
    mean = torch.zeros(1, 2, 3)
    last = Transition(mean, torch.zeros(1), mean)
    inputs = GRPOInputs(last, last, mean, torch.zeros(1), torch.ones(1), None, torch.ones(1))
    with pytest.raises(ValueError, match="deterministic step"):
        grpo_loss(inputs, settings())


def test_metrics_are_means_over_all_pairs() -> None:
    first, _ = pairs_with_log_ratio([math.log(1.3), 0.0, math.log(0.7)], [1.0, 1.0, -1.0])
    second, _ = pairs_with_log_ratio([math.log(1.2)], [1.0])
    metrics = grpo_metrics([first, second])
    assert metrics["ratio_mean"] == pytest.approx((1.3 + 1 + 0.7 + 1.2) / 4, abs=1e-6)
    assert metrics["ratio_min"] == pytest.approx(0.7, abs=1e-6)
    assert metrics["ratio_max"] == pytest.approx(1.3, abs=1e-6)
    assert metrics["clip_fraction_high"] == pytest.approx(0.5)
    assert metrics["clip_fraction_low"] == pytest.approx(0.25)
    assert metrics["clip_fraction"] == pytest.approx(0.75)
    assert metrics["policy_loss"] == pytest.approx((-1.1 - 1 + 0.9 - 1.1) / 4, abs=1e-6)
    ratio = np.array([1.3, 1, 0.7, 1.2])
    assert metrics["approx_kl"] == pytest.approx((ratio - 1 - np.log(ratio)).mean(), abs=1e-6)
