"""Group rollouts: a pure function of request and weights, in physical units, with clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from motions.data.prompts import Prompt, Segment
from rollouts.diffusion.noise import initial_noise
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.worker import RolloutError, RolloutWorker
from rollouts.gaussians import gaussian_log_prob
from rollouts.messages import GroupMotions, PolicyVersion, TextCondition, Trajectory
from rollouts.policy import WeightsError
from tests.toys.tiny_policy import NUM_FEATURES, rollout_request, tiny_policy

VERSION = PolicyVersion(0, tiny_policy().weights())
OTHER = PolicyVersion(1, tiny_policy(network_seed=9).weights())


def roll(worker: RolloutWorker | None = None, version: PolicyVersion = VERSION, **changes: Any):
    worker = worker or RolloutWorker(tiny_policy())
    return worker.run(rollout_request(policy_version=version.number, **changes), version)


def same(a: tuple[GroupMotions, Trajectory], b: tuple[GroupMotions, Trajectory]) -> bool:
    fields = ("states", "next_states", "steps", "log_probs", "lengths")
    return np.array_equal(a[0].features, b[0].features) and all(
        np.array_equal(getattr(a[1], name), getattr(b[1], name)) for name in fields
    )


def test_shapes_and_labels() -> None:
    motions, trajectory = roll()
    assert motions.features.shape == (3, 9, NUM_FEATURES) and motions.features.dtype == np.float32
    assert motions.lengths.tolist() == [9, 9, 9] and motions.lengths.dtype == np.int64
    assert motions.prompt.text == "walks, then kicks" and motions.seconds > 0
    assert trajectory.states.shape == trajectory.next_states.shape == (1, 3, 9, NUM_FEATURES)
    assert trajectory.steps.tolist() == [2] and trajectory.log_probs.shape == (1, 3)
    assert {array.dtype for array in (trajectory.states, trajectory.log_probs)} == {np.dtype(np.float32)}
    assert motions.policy_version == trajectory.policy_version == 0


def test_bits_do_not_depend_on_the_worker_or_on_what_it_did_before() -> None:
    expected = roll()
    busy = RolloutWorker(tiny_policy(network_seed=5))
    roll(busy, OTHER, prompt_index=0, num_samples=5)
    torch.manual_seed(99)
    assert same(roll(busy), expected)
    again = roll(busy, OTHER)
    assert not same(again, expected)
    assert same(roll(busy), expected) and same(roll(busy, OTHER), again)


def test_every_key_of_the_request_matters() -> None:
    expected = roll()
    changes: list[dict[str, Any]] = [{"seed": 8}, {"step": 5}, {"prompt_index": 2}, {"stochastic_steps": (1, 2, 3)}]
    for change in changes:
        assert not np.array_equal(roll(**change)[0].features, expected[0].features)
    longer = roll(num_samples=4)
    np.testing.assert_allclose(longer[0].features[:3], expected[0].features, atol=1e-4)


def test_samples_of_a_group_share_their_start_or_not() -> None:
    quiet: dict[str, Any] = {"stochastic_steps": (), "trained_steps": ()}
    shared = roll(share_initial_noise=True, **quiet)[0].features
    own = roll(share_initial_noise=False, **quiet)[0].features
    assert np.array_equal(shared[1], shared[0])
    assert np.abs(own[1] - own[0]).max() > 0.1
    apart = roll(share_initial_noise=True)[0].features
    assert np.abs(apart[1] - apart[0]).max() > 1e-3


def test_a_shared_start_is_denoised_once_until_the_first_stochastic_step_is_drawn() -> None:
    policy = tiny_policy()
    batches: list[int] = []
    policy.network.get_submodule("backbone").register_forward_hook(
        lambda module, args, out: batches.append(args[0].shape[0])
    )
    _, trajectory = roll(RolloutWorker(policy), stochastic_steps=(2, 3), trained_steps=(2, 3))
    assert batches == [2, 2, 2, 6, 6, 6]  # conditional and unconditional
    assert all(np.array_equal(state, trajectory.states[0, 0]) for state in trajectory.states[0])
    assert not np.array_equal(trajectory.next_states[0, 0], trajectory.next_states[0, 1])
    batches.clear()
    roll(RolloutWorker(policy), share_initial_noise=False)
    assert batches == [6] * 6


def test_motions_are_in_physical_units() -> None:
    policy = tiny_policy()
    request = rollout_request(stochastic_steps=(), trained_steps=())
    motions, _ = RolloutWorker(policy).run(request, VERSION)
    start = policy.normalizer.normalize(motions.features)
    x_t = initial_noise(7, 4, 1, 1, 9, NUM_FEATURES)
    text = torch.from_numpy(request.condition.values)[None]
    normalised = sample(policy, text, None, torch.from_numpy(x_t), lambda position: torch.zeros(()), ()).motions
    np.testing.assert_allclose(start, normalised.expand(3, -1, -1).numpy(), atol=1e-5)


def test_recorded_log_probs_are_those_of_the_behaviour_policy() -> None:
    motions, trajectory = roll(stochastic_steps=(0, 1, 2, 3, 4), trained_steps=(0, 3, 4))
    policy = tiny_policy()
    text = torch.from_numpy(trajectory.condition.values).expand(3, -1, -1)
    mask = torch.arange(9) < torch.from_numpy(trajectory.lengths)[:, None]
    for row, position in enumerate(trajectory.steps):
        step = policy.transition(torch.from_numpy(trajectory.states[row]), int(position), text, mask)
        scored = gaussian_log_prob(torch.from_numpy(trajectory.next_states[row]), step.mean, step.std, mask)
        np.testing.assert_allclose(scored.detach().numpy(), trajectory.log_probs[row], atol=1e-6)
    assert np.isfinite(motions.features).all()


def test_requests_that_cannot_be_run() -> None:
    with pytest.raises(ValueError, match="num_samples is 0"):
        roll(num_samples=0)
    empty = Prompt("stands", (Segment("stands", 0),))
    with pytest.raises(ValueError, match="'stands' of step 4 has 0 frames"):
        roll(prompt=empty)
    with pytest.raises(ValueError, match="asks for policy version 2, the weights are 0"):
        RolloutWorker(tiny_policy()).run(rollout_request(policy_version=2), VERSION)
    with pytest.raises(ValueError, match="64 frames; legal are 1 to 63"):
        roll(prompt=Prompt("walks", (Segment("walks", 64),)))
    with pytest.raises(ValueError, match=r"text has shape \(1, 1, 5\)"):
        roll(condition=TextCondition(np.zeros((1, 5), np.float32)))
    with pytest.raises(ValueError, match="noiseless"):
        roll(stochastic_steps=(5,), trained_steps=())


def test_broken_weights_are_an_error_not_a_motion() -> None:
    broken = {name: array.copy() for name, array in VERSION.weights.items()}
    broken["output_proj.bias"][3] = np.nan
    with pytest.raises(WeightsError, match=r"'output_proj.bias'.*not finite"):
        roll(version=PolicyVersion(0, broken))
    broken["output_proj.bias"][3] = 3e38
    with pytest.raises(
        RolloutError, match=r"samples \[0, 1, 2\] of prompt 1 'walks, then kicks' of step 4 are not finite"
    ):
        roll(version=PolicyVersion(0, broken))
