"""Losses that follow a reward's gradient, in an update: kept states, the rest of the denoising, and the objective.

An update has the form of all others: groups of pairs (sample, state), micro-batches, windows of groups with an
optimizer step each. Where a loss trains one denoising step at a time, each position becomes a part of the update of its
own (`in_parts`), so that memory depends on a micro-batch alone, whatever the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from learners.grpo.device_batch import DeviceBatch
from learners.grpo.gradients.loss import (
    GradientInputs,
    GradientLoss,
    GradientTerms,
    gradient_kind,
    gradient_terms,
    shaped,
)
from learners.grpo.motion_objective import compared_with_old, kept_predictions
from learners.grpo.objective import Kept, Scored, by_position, device_drops
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt
from rewards.gradients import MotionReward
from rollouts.diffusion.noise import levels_generator
from rollouts.messages import Trajectory
from rollouts.policy import Policy, Transition


def in_parts(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """One trajectory for each kept position and group, positions first, in the order of the denoising."""
    return [
        replace(
            trajectory,
            states=trajectory.states[place : place + 1],
            next_states=trajectory.next_states[place : place + 1],
            steps=trajectory.steps[place : place + 1],
            log_probs=trajectory.log_probs[place : place + 1],
        )
        for place in range(len(trajectories[0].steps))
        for trajectory in trajectories
    ]


def prompts_of(trajectories: Sequence[Trajectory]) -> list[Prompt]:
    """The prompt of each trajectory.

    Raises:
        ValueError: a rollout kept no states.
    """
    prompts = [trajectory.prompt for trajectory in trajectories if trajectory.prompt is not None]
    if len(prompts) < len(trajectories):
        raise ValueError("a trajectory does not say its prompt: its request kept no states (kept_steps)")
    return prompts


def drawn_jitter(seed: int, step: int) -> float:
    """The number of an update that `random_reward_loss` adds."""
    return float(levels_generator(seed, step, 1).random())


class GradientObjective:
    """Losses that follow a reward's gradient.

    Args:
        reward: of motions of one prompt.
        prompts: of the groups.
        jitter: number that `random_reward_loss` adds to the rewards.
    """

    def __init__(
        self,
        loss: GradientLoss,
        policy: Policy,
        settings: GRPOSettings,
        reward: MotionReward,
        prompts: Sequence[Prompt],
        jitter: float = 0.0,
    ) -> None:
        self._loss = loss
        self._policy = policy
        self._settings = settings
        self._reward = reward
        self._prompts = prompts
        self._jitter = jitter
        self._noise_drops = device_drops(policy)

    @property
    def compares_with_old(self) -> bool:
        """Only a loss that asks for the first predictions, and `kl_threshold`, which measures KL(old || new)."""
        kind = gradient_kind(self._settings)
        return self._settings.kl_threshold > 0 or (kind is not None and kind.reads_old)

    def pairs_per_batch(self, group_size: int) -> int:
        """Micro-batches cut anywhere: `micro_batch_size` pairs."""
        return self._settings.micro_batch_size

    def kept(self, acted: Transition) -> Kept:
        """The predictions, and the means for KL(old || new)."""
        return kept_predictions(acted)

    def score(self, batch: DeviceBatch, acted: Transition, reference: Transition, old: Kept | None) -> Scored:
        """Rewards of what the kept states become and their loss, with the KL to the reference and to the old policy."""
        policy, frozen = batch.of_pairs(acted), batch.of_pairs(reference)
        old_x0, kl_old = compared_with_old(policy, batch, old)
        found = [torch.zeros_like(batch.advantages)]

        def loss_of(motions: Tensor) -> Tensor:
            found[0] = self._rewards(motions, batch)
            return shaped(found[0], self._settings, self._jitter)

        inputs = GradientInputs(
            policy=policy,
            old_x0=old_x0,
            loss_of=loss_of,
            finish=lambda checkpointed: self._finished(policy.x0, batch, checkpointed),
            mask=batch.mask,
        )
        own = torch.zeros_like(batch.advantages)
        if self._settings.reward_scale:
            own = self._loss(inputs, self._settings)
        drops = self._noise_drops[batch.state_positions][batch.rows]
        terms = gradient_terms(own, found[0], policy, frozen, batch.mask, drops, self._settings)
        return Scored(batch.origins, len(batch.states), terms, kl_old)

    def require_on_policy(self, scored: Scored) -> None:
        """There are no ratios to check."""

    def require_acted(self, batch: DeviceBatch, acted: Transition) -> None:
        """Nothing is checked here either."""

    def metrics(self, scored: Sequence[Scored], single: bool) -> dict[str, float]:
        """Means over the rows of all micro-batches, reward and KL also by denoising position."""
        terms = [cast("GradientTerms", batch.terms) for batch in scored]
        names = {
            "loss": "loss",
            "policy_loss": "policy_loss",
            "kl_loss": "penalty",
            "kl_reference": "kl_ref",
            "tuned_reward": "reward",
        }
        values = {name: torch.cat([getattr(term, field) for term in terms]).cpu() for name, field in names.items()}
        metrics = {name: float(value.mean()) for name, value in values.items()}
        for name in ("kl_reference", "tuned_reward"):
            for position, here in by_position(scored):
                metrics[f"{name}_position_{position}"] = float(values[name].numpy()[here].mean())
        return metrics

    def _rewards(self, motions: Tensor, batch: DeviceBatch) -> Tensor:
        """Rewards [M] of normalised motions [M, T, D]."""
        features = self._policy.normalizer.denormalize(motions)
        lengths = torch.full((len(motions),), motions.shape[1], device=motions.device)
        if batch.mask is not None:
            lengths = batch.mask.sum(dim=1)
        rewards = torch.zeros(len(motions), dtype=torch.float64, device=motions.device)
        for group in np.unique(batch.origins.groups):
            rows = torch.from_numpy(np.flatnonzero(batch.origins.groups == group)).to(motions.device)
            own = self._reward(features[rows], lengths[rows], self._prompts[int(group)])
            rewards = rewards.index_put((rows,), own.to(rewards))
        return rewards

    def _finished(self, x0: Tensor, batch: DeviceBatch, checkpointed: bool) -> Tensor:
        """Final motions [M, T, D] of the kept states, whose predicted motions are `x0`, without further noise."""
        policy, rows = self._policy, batch.rows
        positions = batch.state_positions.cpu()[rows.cpu()]
        if len(starts := positions.unique()) > 1:
            raise ValueError(f"the states are those of positions {starts.tolist()}; all must be of one")
        text_mask = None if batch.text_mask is None else batch.text_mask[rows]
        embedded = policy.embed(batch.text[rows], text_mask, batch.boundaries, batch.num_frames)
        x_t = policy.noiseless(batch.states[rows], x0, positions)

        def step(state: Tensor, position: int) -> Tensor:
            return policy.transition(state, position, embedded, batch.mask, stochastic=False).mean

        for position in range(int(starts[0]) + 1, policy.num_steps):
            if checkpointed:
                x_t = cast("Tensor", checkpoint(step, x_t, position, use_reentrant=False, preserve_rng_state=False))
            else:
                x_t = step(x_t, position)
        return x_t
