"""The KL divergence of a tuned policy from its base over the whole denoising chain.

Training measures it where it trains, which may be one step of many; the others use the same network and move unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rollouts.diffusion.windows import ancestral_positions
from rollouts.diffusion.worker import RolloutWorker
from rollouts.gaussians import gaussian_kl
from rollouts.messages import PolicyVersion, RolloutRequest
from rollouts.policy import Policy


def chain_kl(
    policy: Policy, tuned: PolicyVersion, base: PolicyVersion, requests: Sequence[RolloutRequest]
) -> np.ndarray:
    """KL(tuned || base) of every stochastic position, exact, mean over elements and samples: [steps - 1].

    The states are those of the tuned policy when every step draws noise; the last step is noiseless and has no density.
    Their sum is the divergence of the whole chain, per element.

    Args:
        policy: its weights are replaced.
        requests: prompts to sample; their kind of denoising and stochastic steps do not matter.
    """
    steps = ancestral_positions(policy.num_steps)
    worker = RolloutWorker(policy)
    found = []
    for request in requests:
        whole = replace(
            request, denoising=None, stochastic_steps=steps, trained_steps=steps, policy_version=tuned.number
        )
        _, trajectory = worker.run(whole, tuned)
        condition = request.condition
        repeats = (request.num_samples, *(1 for _ in condition.values.shape))
        text = torch.from_numpy(np.tile(condition.values, repeats))
        mask = None if condition.mask is None else torch.from_numpy(np.tile(condition.mask, repeats[:-1]))
        means, stds = [], []
        for version in (tuned, base):
            policy.load_weights(version.weights)
            with policy.inference():
                embedded = policy.embed(text.to(policy.device), mask, condition.boundaries, request.prompt.num_frames)
                taken = [
                    policy.transition(torch.from_numpy(states).to(policy.device), position, embedded, None)
                    for position, states in zip(steps, trajectory.states, strict=True)
                ]
            means.append([step.mean for step in taken])
            stds = [step.std for step in taken]
        pairs = zip(*means, stds, strict=True)
        found.append([float(gaussian_kl(mean, base_mean, std, None).mean()) for mean, base_mean, std in pairs])
    return np.mean(found, axis=0)
