"""The KL divergence over the whole chain, also where nothing was trained."""

from __future__ import annotations

import numpy as np
import pytest

from rollouts.diffusion.chain_kl import chain_kl
from rollouts.messages import PolicyVersion
from tests.toys.tiny_policy import NUM_STEPS, rollout_request, tiny_policy


def test_every_step_of_the_chain_is_measured() -> None:
    policy = tiny_policy()
    base = PolicyVersion(0, policy.weights())
    requests = [rollout_request(), rollout_request(seed=2)]
    assert chain_kl(policy, PolicyVersion(1, base.weights), base, requests).tolist() == [0.0] * (NUM_STEPS - 1)
    moved = PolicyVersion(1, {name: value + np.float32(1e-3) for name, value in base.weights.items()})
    further = PolicyVersion(1, {name: value + np.float32(2e-3) for name, value in base.weights.items()})
    near, far = (chain_kl(policy, version, base, requests) for version in (moved, further))
    assert near.shape == (NUM_STEPS - 1,) and (near > 0).all() and (far > near).all()
    assert near.tolist() == chain_kl(policy, moved, base, requests).tolist()
    alone = [chain_kl(policy, moved, base, [request]) for request in requests]
    assert near == pytest.approx(np.mean(alone, axis=0))
