"""What holds for GRPO whatever the policy is: the first ratio, the KL, adapters, resuming, micro-batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learners.grpo.learner import GRPOLearner
from learners.grpo.settings import GRPOSettings
from rollouts.checkpoints.adapters import add_lora
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import TextCondition, Trajectory
from rollouts.one_action.policy import train_only
from rollouts.policy import Policy
from rollouts.refining.policy import RefiningPolicy
from rollouts.settings import PolicySettings
from tests.toys.tiny_policy import (
    CONFIG,
    refined_condition,
    rollout_request,
    text_features,
    tiny_one_action_policy,
    tiny_policy,
    tiny_refining_policy,
)

pytestmark = pytest.mark.slow

POLICIES: dict[str, dict[str, Any]] = {
    "trans_enc": {},
    "trans_dec": {"arch": "trans_dec"},
    "gru": {"arch": "gru"},
    "mamba": {"arch": "mamba", "d_state": 6},
    "mamba, rates by channel": {"arch": "mamba", "d_state": 4, "ssm_decay": "channel"},
}
"""Denoisers."""
ONE_ACTION = {"motion_ssm": tiny_one_action_policy, "physics_ssm": tiny_refining_policy}
"""Policies of one action."""
FRAMES = (6, 9, 6)
every_policy = pytest.mark.parametrize("kind", [*POLICIES, *ONE_ACTION])


def make_policy(kind: str, lora: bool, **sampling: Any) -> Policy:
    policy: Policy
    if kind in ONE_ACTION:
        policy = ONE_ACTION[kind](**sampling)
        if not lora:
            train_only(policy.network, "prior")
    else:
        policy = tiny_policy(replace(CONFIG, **POLICIES[kind]), **sampling)
    if lora:
        spec = "prior" if kind in ONE_ACTION else "all"
        add_lora(policy.network, PolicySettings(lora_r=2, lora_target_spec=spec))
    return policy


def make_learner(kind: str, lora: bool = True, amp_dtype: str = "fp32", **settings: Any) -> GRPOLearner:
    options = GRPOSettings.model_validate({"group_size": 4, "learning_rate": 1e-2, "micro_batch_size": 5} | settings)
    return GRPOLearner(make_policy(kind, lora, amp_dtype=amp_dtype), options)


def roll_out(learner: GRPOLearner, step: int) -> list[Trajectory]:
    """Groups of the learner's present version, by a policy of its own."""
    steps = (1, 2) if isinstance(learner.policy, DiffusionPolicy) else (0,)
    worker = RolloutWorker(learner.policy)
    made = []
    for index, frames in enumerate(FRAMES):
        base = rollout_request(
            step=step, prompt_index=index, num_samples=4, stochastic_steps=steps, trained_steps=steps
        )
        segment = replace(base.prompt.segments[0], num_frames=frames)
        prompt = replace(base.prompt, segments=(segment,))
        request = replace(base, prompt=prompt, policy_version=learner.number)
        if isinstance(learner.policy, RefiningPolicy):
            request = replace(request, condition=TextCondition(refined_condition(frames, index)))
        made.append(worker.run(request, learner.version())[1])
    return made


def advantages(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((len(FRAMES), 4)).astype(np.float32)
    return drawn - drawn.mean(axis=1, keepdims=True)


def train(learner: GRPOLearner, steps: int, first: int = 0) -> list[dict[str, float]]:
    return [learner.update(roll_out(learner, step), advantages(step)) for step in range(first, first + steps)]


@every_policy
@pytest.mark.parametrize("lora", [True, False])
def test_ratio_and_kl_begin_at_one_and_zero(kind: str, lora: bool) -> None:
    first, second = train(make_learner(kind, lora), 2)
    assert max(first["first_ratio_error"], second["first_ratio_error"]) <= 1e-5
    assert first["kl_reference"] == 0.0 < second["kl_reference"]


@every_policy
def test_half_precision_scores_what_it_rolled_out(kind: str) -> None:
    metrics = train(make_learner(kind, amp_dtype="bf16"), 2)
    assert max(each["first_ratio_error"] for each in metrics) <= 1e-3
    assert metrics[1]["kl_reference"] > 0.0


@every_policy
def test_only_adapters_learn_and_without_them_the_policy_is_its_base(kind: str) -> None:
    learner, base = make_learner(kind), make_policy(kind, lora=False)
    train(learner, 2)
    noise = torch.randn(2, *base.state_shape(7), generator=torch.Generator().manual_seed(0))
    condition = torch.from_numpy(np.stack([refined_condition(7)] * 2)) if kind == "physics_ssm" else text_features(2)
    step = (noise, 0 if kind in ONE_ACTION else 3, condition, None)
    with torch.no_grad():
        tuned, plain = (policy.transition(*step).mean for policy in (learner.policy, base))
        with learner.policy.adapters_disabled():
            without = learner.policy.transition(*step).mean
    assert torch.equal(without, plain)
    assert not torch.allclose(tuned, plain)


@every_policy
def test_a_resumed_learner_takes_the_same_steps(kind: str) -> None:
    whole, half = make_learner(kind, lora=False), make_learner(kind, lora=False)
    train(whole, 3)
    train(half, 1)
    resumed = make_learner(kind, lora=False)
    resumed.load(half.state())
    train(resumed, 2, first=1)
    weights = whole.version().weights
    assert all(np.array_equal(value, weights[name]) for name, value in resumed.version().weights.items())


@every_policy
def test_micro_batches_change_rounding_only(kind: str) -> None:
    small, large = (make_learner(kind, lora=False, micro_batch_size=size) for size in (1, 1000))
    gradients = []
    for learner in (small, large):
        learner.update(roll_out(learner, 0), advantages(0))
        gradients.append(learner.state()["optimizer"]["moments"])
    for name, moments in gradients[0].items():
        torch.testing.assert_close(moments["exp_avg"], gradients[1][name]["exp_avg"], rtol=1e-3, atol=2e-6)
