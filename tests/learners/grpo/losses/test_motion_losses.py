"""The losses of final motions: each against a few lines of plain arithmetic, and against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.grpo.losses.awm import awm_loss
from learners.grpo.losses.dgpo import dgpo_loss
from learners.grpo.losses.nft import nft_loss
from learners.grpo.motion_loss import MotionInputs, MotionLoss
from learners.grpo.settings import GRPOSettings

NUM_SAMPLES, DRAWS, FRAMES, WIDTH = 3, 2, 4, 2
LENGTHS = np.array([4, 3, 4, 4, 3, 4])
MASK = torch.from_numpy(np.arange(FRAMES) < LENGTHS[:, None])
LOSSES: dict[str, MotionLoss] = {"nft": nft_loss, "awm": awm_loss, "dgpo": dgpo_loss}


def settings(name: str, **changes: Any) -> GRPOSettings:
    return GRPOSettings.model_validate({"policy_loss": name, "clip_epsilon": 0.05, "advantage_clip": 3.0, **changes})


def given(policy_is_old: bool = False, advantages: tuple[float, ...] = (1.5, -0.5, -1.0)) -> MotionInputs:
    """Two draws of three samples in double precision; samples with index 1 have three valid frames."""
    rng = np.random.default_rng(0)
    motions = np.tile(rng.standard_normal((NUM_SAMPLES, FRAMES, WIDTH)), (DRAWS, 1, 1))
    old, reference, moved = (motions + 0.3 * rng.standard_normal(motions.shape) for _ in range(3))
    policy = old if policy_is_old else 0.7 * old + 0.3 * moved
    return MotionInputs(
        policy=torch.from_numpy(policy),
        old=torch.from_numpy(old),
        reference=torch.from_numpy(reference),
        motions=torch.from_numpy(motions),
        advantages=torch.tensor(advantages * DRAWS).double(),
        num_samples=NUM_SAMPLES,
        mask=MASK,
    )


def errors(predicted: Tensor, inputs: MotionInputs, power: int = 2) -> np.ndarray:
    """Mean over valid frames of |predicted - motions|^power."""
    gaps = (predicted - inputs.motions).numpy()
    return np.array([np.mean(np.abs(gap[:length]) ** power) for gap, length in zip(gaps, LENGTHS, strict=True)])


def nft_by_hand(inputs: MotionInputs, beta: float) -> np.ndarray:
    results = []
    for row, advantage in enumerate(inputs.advantages.tolist()):
        share = (1 + max(-1.0, min(1.0, advantage / 3.0))) / 2
        plus = inputs.old + beta * (inputs.policy - inputs.old)
        minus = inputs.old - beta * (inputs.policy - inputs.old)
        good, bad = (errors(part, inputs)[row] / errors(part, inputs, 1)[row] for part in (plus, minus))
        results.append(3.0 / beta * (share * good + (1 - share) * bad))
    return np.array(results)


def relative(predicted: Tensor, inputs: MotionInputs) -> np.ndarray:
    scale = errors(inputs.old, inputs).reshape(DRAWS, NUM_SAMPLES).mean(1)
    return errors(predicted, inputs) / np.repeat(scale, NUM_SAMPLES)


def awm_by_hand(inputs: MotionInputs, beta: float) -> np.ndarray:
    results = []
    change = relative(inputs.old, inputs) - relative(inputs.policy, inputs)
    for advantage, gained in zip(inputs.advantages.tolist(), change, strict=True):
        ratio = math.exp(beta * gained)
        results.append(-min(advantage * ratio, advantage * min(max(ratio, 0.95), 1.05)) / beta)
    return np.array(results)


def dgpo_by_hand(inputs: MotionInputs, beta: float) -> np.ndarray:
    gained = relative(inputs.reference, inputs) - relative(inputs.policy, inputs)
    margins = (inputs.advantages.numpy() * gained).reshape(DRAWS, NUM_SAMPLES).mean(1)
    return np.repeat([2 / beta * math.log(1 + math.exp(-beta * margin)) for margin in margins], NUM_SAMPLES)


BY_HAND: dict[str, Callable[[MotionInputs, float], np.ndarray]] = {
    "nft": nft_by_hand,
    "awm": awm_by_hand,
    "dgpo": dgpo_by_hand,
}


@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("name", LOSSES)
def test_the_formula_by_hand(name: str, beta: float) -> None:
    inputs = given()
    found = LOSSES[name](inputs, settings(name, loss_beta=beta))
    np.testing.assert_allclose(found.numpy(), BY_HAND[name](inputs, beta), rtol=1e-9)


def loss_at(name: str, inputs: MotionInputs, policy: Tensor, **changes: Any) -> Tensor:
    """Sum of the losses as a function of the policy's predictions."""
    return LOSSES[name](replace(inputs, policy=policy), settings(name, **changes)).sum()


@pytest.mark.parametrize("name", ["awm", "dgpo"])
def test_gradient_equals_finite_differences(name: str) -> None:
    inputs = given()
    policy = inputs.policy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(name, inputs, policy), policy)
    rng = np.random.default_rng(1)
    for index in rng.integers(0, policy.numel(), 12):
        step = torch.zeros(policy.numel(), dtype=torch.float64)
        step[index] = 1e-6
        step = step.view_as(policy)
        change = loss_at(name, inputs, inputs.policy + step) - loss_at(name, inputs, inputs.policy - step)
        assert gradient.flatten()[index].item() == pytest.approx(change.item() / 2e-6, rel=1e-5, abs=1e-8)


def test_nft_has_the_gradient_of_errors_with_fixed_normalisation() -> None:
    """Finite differences would move the divisors too, which carry no gradient: they are held here."""
    inputs = given()
    policy = inputs.policy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at("nft", inputs, policy), policy)
    plus, minus = inputs.policy, 2 * inputs.old - inputs.policy
    divisors = [torch.from_numpy(errors(part, inputs, 1)) for part in (plus, minus)]
    share = 0.5 + inputs.advantages / 6
    valid = MASK[:, :, None] / torch.from_numpy(LENGTHS * WIDTH)[:, None, None]
    pull = share / divisors[0] * 2
    push = (1 - share) / divisors[1] * 2
    expected = (
        3 * valid * (pull[:, None, None] * (plus - inputs.motions) - push[:, None, None] * (minus - inputs.motions))
    )
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_the_first_step_lowers_errors_of_good_samples_and_raises_those_of_bad_ones(name: str) -> None:
    inputs = given(policy_is_old=True)
    policy = inputs.policy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(name, inputs, policy), policy)
    change = errors(inputs.policy - 1e-3 * gradient, inputs) - errors(inputs.policy, inputs)
    assert (np.sign(change) == -np.sign(inputs.advantages.numpy())).all()


@pytest.mark.parametrize("name", LOSSES)
def test_equal_rewards_move_nothing(name: str) -> None:
    inputs = given(policy_is_old=True, advantages=(0.0, 0.0, 0.0))
    policy = inputs.policy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(name, inputs, policy), policy)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_first_gradients_agree_whatever_beta_is(beta: float) -> None:
    """A times the gradient of the error; the losses and their strengths differ in how it fades."""
    inputs = given(policy_is_old=True)
    inputs = replace(inputs, reference=inputs.old)
    gradients = []
    for name in ("awm", "dgpo"):
        policy = inputs.policy.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss_at(name, inputs, policy, loss_beta=beta), policy)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["awm", "dgpo"])
def test_beta_decides_where_the_gradient_fades(name: str) -> None:
    """AWM is clipped earlier, DGPO saturates where the preference is reached."""
    inputs = given()
    norms = []
    for beta in (0.01, 100.0):
        policy = inputs.policy.clone().requires_grad_()
        norms.append(float(torch.autograd.grad(loss_at(name, inputs, policy, loss_beta=beta), policy)[0].norm()))
    assert norms[0] != pytest.approx(norms[1], rel=0.1)
