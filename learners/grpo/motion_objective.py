"""Losses of final motions in an update: the forward process that noises the motions, and the objective.

The noised motions take the form of recorded steps: a pair's state is the noised motion and its next state the clean
one, so that everything else of an update serves both kinds of losses. At the noisiest level a state is noise alone, as
it is where the sampler begins; the motion's share in it is small anyway (abar 1e-6 in MDM's cosine schedule of 50
steps). With `share_noise` the samples of a group are in one state there, and share one row of the forward.

Legend: N samples, T frames, D features, K denoising steps, S draws of noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from learners.grpo.device_batch import DeviceBatch
from learners.grpo.motion_loss import (
    MotionInputs,
    MotionLoss,
    MotionTerms,
    motion_metrics,
    motion_terms,
    require_legal,
    step_kl,
)
from learners.grpo.objective import Kept, Scored, by_position, device_drops
from learners.grpo.settings import GRPOSettings
from rollouts.diffusion.noise import forward_noise, levels_generator
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.transitions import q_sample
from rollouts.messages import Trajectory
from rollouts.policy import Policy, Transition


def noised(
    trajectory: Trajectory, schedule: DiffusionSchedule, settings: GRPOSettings, seed: int, step: int, group: int
) -> Trajectory:
    """A group's final motions after `noise_draws` draws of the forward process, in the form of recorded steps.

    Args:
        trajectory: with its final motions.
        schedule: the policy's, of K levels.
        seed: with step and group the key of levels and noise.

    Raises:
        ValueError: the trajectory does not hold its motions.
    """
    if trajectory.motions is None:
        raise ValueError(f"group {group} holds no final motions: its request did not ask for them (keep_motions)")
    motions = trajectory.motions
    num_samples, num_frames, num_features = motions.shape
    positions = levels(settings, schedule.num_steps, levels_generator(seed, step, group))
    drawn = 1 if settings.share_noise else num_samples
    clean = torch.from_numpy(np.array(motions))
    states = []
    for draw, position in enumerate(positions):
        noise = torch.from_numpy(forward_noise(seed, step, group, drawn, draw, num_frames, num_features))
        noise = noise.expand(num_samples, -1, -1)
        share = np.full(num_samples, schedule.alphas_cumprod[schedule.index(int(position))])
        states.append(noise if position == 0 else q_sample(clean, noise, share))
    return replace(
        trajectory,
        states=torch.stack(states).numpy(),
        next_states=np.broadcast_to(motions, (len(positions), *motions.shape)),
        steps=positions,
        log_probs=np.zeros((len(positions), num_samples), np.float32),
    )


def levels(settings: GRPOSettings, num_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Positions [S] int64 of the draws in the denoising sequence, 0 = noisiest: all trained ones equally often, as far
    as the number of draws allows, and in increasing order."""
    count = settings.trained_levels or num_steps
    rounds, rest = divmod(settings.noise_draws, count)
    chosen = [*np.tile(np.arange(count), rounds), *rng.choice(count, size=rest, replace=False)]
    return np.sort(np.array(chosen, np.int64))


def kept_predictions(acted: Transition) -> Kept:
    """What `compared_with_old` reads later: predicted motions and means of the policy that rolled out."""
    return acted.x0.detach(), acted.mean.detach()


def compared_with_old(policy: Transition, batch: DeviceBatch, old: Kept | None) -> tuple[Tensor, Tensor]:
    """Motions [M, T, D] that the policy predicted when it rolled out, and KL(old || new) [M].

    Args:
        policy: its present transitions.
        old: `kept_predictions` of all pairs; None where the policy has not moved since, whose own are taken and KL 0.
    """
    if old is None:
        return policy.x0.detach(), torch.zeros_like(batch.advantages)
    old_x0, old_mean = (part.to(policy.mean.device)[batch.rows] for part in old)
    return old_x0, step_kl(old_mean, policy.mean.detach(), policy.std, batch.mask)


class MotionObjective:
    """Losses of final motions."""

    def __init__(self, loss: MotionLoss, policy: Policy, settings: GRPOSettings) -> None:
        require_legal(settings, policy.num_steps)
        self._motion_loss = loss
        self._settings = settings
        self._noise_drops = device_drops(policy)

    @property
    def compares_with_old(self) -> bool:
        """Their predictions are what the loss compares with."""
        return True

    def pairs_per_batch(self, group_size: int) -> int:
        """As many whole draws as are in `micro_batch_size`."""
        return self._settings.micro_batch_size // group_size * group_size

    def kept(self, acted: Transition) -> Kept:
        """The predictions, and the means for KL(old || new)."""
        return kept_predictions(acted)

    def score(self, batch: DeviceBatch, acted: Transition, reference: Transition, old: Kept | None) -> Scored:
        """Errors of the predicted motions and their loss, with the KL to the reference and to the old policy."""
        policy, frozen = batch.of_pairs(acted), batch.of_pairs(reference)
        old_x0, kl_old = compared_with_old(policy, batch, old)
        inputs = MotionInputs(
            policy=policy.x0,
            old=old_x0,
            reference=frozen.x0,
            motions=batch.next_states,
            advantages=batch.advantages,
            num_samples=int(np.unique(batch.origins.samples).size),
            mask=batch.mask,
        )
        drops = self._noise_drops[batch.state_positions][batch.rows]
        terms = motion_terms(self._motion_loss, inputs, policy, frozen, drops, self._settings)
        return Scored(batch.origins, len(batch.states), terms, kl_old)

    def require_on_policy(self, scored: Scored) -> None:
        """There are no ratios to check: a final motion does not say with which probability it was drawn."""

    def require_acted(self, batch: DeviceBatch, acted: Transition) -> None:
        """Nothing is checked here either."""

    def metrics(self, scored: Sequence[Scored], single: bool) -> dict[str, float]:
        """`motion_metrics`, and error and KL by noise level."""
        terms = [cast("MotionTerms", batch.terms) for batch in scored]
        metrics = motion_metrics(terms)
        for name, field in (("kl_reference", "kl_ref"), ("denoising_error", "error")):
            values = torch.cat([getattr(term, field) for term in terms]).cpu().numpy()
            for position, here in by_position(scored):
                metrics[f"{name}_position_{position}"] = float(values[here].mean())
        return metrics
