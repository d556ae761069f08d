"""A micro-batch on the policy's device, and the Gaussians of its states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learners.grpo.pair_batches import PairBatch, PairOrigins
from rollouts.messages import Boundaries
from rollouts.policy import Policy, Transition


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A micro-batch on the policy's device."""

    origins: PairOrigins
    states: Tensor
    """[U, R, F], as `state_positions`, `text` and the masks: one entry for each distinct state."""
    state_positions: Tensor
    text: Tensor
    text_mask: Tensor | None
    boundaries: Boundaries
    num_frames: int
    state_mask: Tensor | None
    rows: Tensor
    """Row of each pair, [M]."""
    next_states: Tensor
    old_log_probs: Tensor
    advantages: Tensor

    @property
    def mask(self) -> Tensor | None:
        """Mask of the rows of the pairs' states, [M, R]."""
        return None if self.state_mask is None else self.state_mask[self.rows]

    def transition_of(self, policy: Policy) -> Transition:
        """A policy's Gaussians of the U states."""
        return policy.transition(
            self.states,
            self.state_positions,
            self.text,
            self.state_mask,
            text_mask=self.text_mask,
            boundaries=self.boundaries,
            num_frames=self.num_frames,
        )

    def of_pairs(self, step: Transition) -> Transition:
        """Expands the Gaussians of the U states to the M pairs."""
        if len(self.rows) == len(self.states):
            return step
        mean, std, x0 = (part.index_select(0, self.rows) for part in (step.mean, step.std, step.x0))
        return Transition(mean, std, x0)


def on_device(pairs: PairBatch, device: torch.device) -> DeviceBatch:
    """Copies a micro-batch to a device."""
    num_rows = pairs.states.shape[1]
    # Without padding no mask, as in the rollout: the masked attention kernel rounds in another way.
    mask = None
    if bool((pairs.state_lengths < num_rows).any()):
        mask = torch.from_numpy(np.arange(num_rows) < pairs.state_lengths[:, None]).to(device)
    return DeviceBatch(
        origins=pairs.origins,
        states=torch.from_numpy(pairs.states).to(device),
        state_positions=torch.from_numpy(pairs.state_positions).to(device),
        text=torch.from_numpy(pairs.text).to(device),
        text_mask=None if pairs.text_mask is None else torch.from_numpy(pairs.text_mask).to(device),
        boundaries=pairs.boundaries,
        num_frames=pairs.num_frames,
        state_mask=mask,
        rows=torch.from_numpy(pairs.rows).to(device),
        next_states=torch.from_numpy(pairs.next_states).to(device),
        old_log_probs=torch.from_numpy(pairs.old_log_probs).to(device),
        advantages=torch.from_numpy(pairs.advantages).to(device),
    )
