"""The policy of one action: noise, means, motions, and how rollouts of it are recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from rollouts.diffusion.worker import RolloutWorker
from rollouts.gaussians import gaussian_kl
from rollouts.messages import PolicyVersion
from rollouts.one_action.policy import train_only
from rollouts.one_action.requirements import require_latent, require_no_denoising, sampling_of_one_action
from rollouts.settings import SamplingSettings, TrainedPart
from tests.toys.tiny_policy import ACTION_CONFIG, rollout_request, text_features, tiny_one_action_policy

NOISE = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))


def test_the_stochastic_step_does_not_look_at_the_noise_and_the_other_adds_it() -> None:
    policy, text = tiny_one_action_policy(), text_features(2)
    with policy.inference():
        first, second = (policy.transition(state, 0, text, None) for state in (NOISE, torch.zeros_like(NOISE)))
        still = policy.transition(NOISE, 0, text, None, stochastic=False)
    assert torch.equal(first.mean, second.mean)
    assert first.std.eq(1.0).all()
    assert torch.equal(still.mean, first.mean + NOISE)
    assert still.std.eq(0.0).all()
    assert torch.equal(policy.noiseless(NOISE, first.x0, 0), still.mean)


def test_an_action_becomes_a_motion_without_noise() -> None:
    policy, text = tiny_one_action_policy(), text_features(2)
    with policy.inference():
        step = policy.transition(NOISE, 1, text, None, num_frames=9)
        again = policy.transition(NOISE, 1, policy.embed(text, num_frames=9), None)
    assert step.mean.shape == (2, 9, 263)
    assert torch.equal(step.mean, again.mean)
    assert step.std.eq(0.0).all()
    with pytest.raises(ValueError, match="num_frames"):
        policy.transition(NOISE, 1, text, None)
    with pytest.raises(ValueError, match="one at a time"):
        policy.transition(NOISE, torch.tensor([0, 1]), text, None)


def test_a_rollout_records_the_action_with_its_density() -> None:
    policy = tiny_one_action_policy()
    request = rollout_request(stochastic_steps=(0,), trained_steps=(0,))
    motions, trajectory = RolloutWorker(policy).run(request, PolicyVersion(0, policy.weights()))
    rows, numbers = policy.state_shape(9)
    assert trajectory.next_states.shape == (1, 3, rows, numbers)
    assert trajectory.lengths.tolist() == [rows] * 3
    assert motions.lengths.tolist() == [9] * 3
    text = torch.from_numpy(request.condition.values).expand(3, -1, -1)
    with policy.inference():
        mean = policy.transition(torch.zeros(3, rows, numbers), 0, text, None).mean.numpy()
    squares = ((trajectory.next_states[0] - mean) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(trajectory.log_probs[0], -0.5 * squares - 0.5 * math.log(2 * math.pi), rtol=1e-5)


def test_an_evaluation_draws_no_noise_and_still_gives_every_sample_its_own_motion() -> None:
    policy = tiny_one_action_policy()
    request = rollout_request(stochastic_steps=(), trained_steps=(), share_initial_noise=False)
    version = PolicyVersion(0, policy.weights())
    first, second = (RolloutWorker(policy).run(request, version)[0].features for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.allclose(first[0], first[1])


def test_the_kl_to_the_prior_is_half_the_mean_square_of_the_mean() -> None:
    policy, text = tiny_one_action_policy(), text_features(2)
    with policy.inference():
        step = policy.transition(NOISE, 0, text, None)
    kl = gaussian_kl(step.mean, torch.zeros_like(step.mean), step.std, None)
    torch.testing.assert_close(kl, 0.5 * step.mean.square().mean(dim=(1, 2)))


def test_parts_learn_by_themselves() -> None:
    policy = tiny_one_action_policy()
    parts: dict[TrainedPart, set[str]] = {"prior": {"prior"}, "decoder": {"decoder"}, "both": {"prior", "decoder"}}
    for part, names in parts.items():
        train_only(policy.network, part)
        assert {name.split(".")[0] for name in policy.weights()} == names


def test_half_precision_is_near_single_precision() -> None:
    text = text_features(2)
    single, half = (tiny_one_action_policy(amp_dtype=kind) for kind in ("fp32", "bf16"))
    with single.inference(), half.inference():
        one, two = (policy.transition(NOISE, 1, text, None, num_frames=9).mean for policy in (single, half))
    assert two.dtype == torch.float32
    torch.testing.assert_close(one, two, rtol=0.1, atol=0.1)


def test_options_of_denoising_are_not_heard() -> None:
    adapted = sampling_of_one_action(SamplingSettings())
    assert (adapted.sde_window, adapted.sde_window_start) == (1, 1)
    assert sampling_of_one_action(adapted) == adapted
    with pytest.raises(UserError, match="sampling_steps is 5"):
        require_no_denoising(SamplingSettings(sampling_steps=5))
    with pytest.raises(UserError, match="latent_dim 0"):
        require_latent(tiny_one_action_policy(replace(ACTION_CONFIG, latent_dim=0)).network)
