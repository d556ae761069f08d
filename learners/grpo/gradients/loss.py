"""Losses that follow the gradient of a reward through the policy: what they are given, and how they are marked.

Rollouts denoise without gradient and keep the states at a few positions. The learner denoises on from there with a
gradient, and the loss is of the reward of what comes out. Neither advantages nor log-probabilities are needed, but a
reward that is differentiable in the motion (`rewards/gradients.py`).

Legend: M rows (sample, kept state) of a micro-batch, T frames (padded), D features, K denoising steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from learners.grpo.loss import weighted_kl
from learners.grpo.motion_loss import step_kl
from learners.grpo.settings import POLICY_LOSSES, GRPOSettings
from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.policy import Transition

_MARK = "_gradient_loss"

IGNORED_OPTIONS = (
    "it follows the reward's gradient. Rollouts keep the states that are denoised with a gradient; sde_window, "
    "sde_window_start, timestep_fraction, share_initial_noise, ratio_tolerance, clip_epsilon, kl_bound and options of "
    "advantages have no effect, eta and sampler act on the KL and, without ddim_sampling, on rollouts"
)
"""What a run with such a loss says of options."""

Positions = Callable[[GRPOSettings, int, np.random.Generator], tuple[int, ...]]
"""Positions whose states rollouts keep for an update, increasing, of K denoising steps."""


@dataclass(frozen=True, slots=True)
class GradientInputs:
    """M kept states with what the policy makes of them."""

    policy: Transition
    """The policy's step at each state; carries the gradient."""
    old_x0: Tensor
    """Clean motions [M, T, D] that the policy predicted there before the first optimizer step, without gradient;
    what it predicts now, where the loss does not ask for them (`reads_old`)."""
    loss_of: Callable[[Tensor], Tensor]
    """Loss [M] of motions [M, T, D], normalised, by their reward."""
    finish: Callable[[bool], Tensor]
    """Denoises on to the final motions [M, T, D], with the gradient through every step; True keeps the states between
    the steps only and computes the steps again for the gradient."""
    mask: Tensor | None
    """[M, T] bool, True = real frame; None = all are real."""


class GradientLoss(Protocol):
    """A function of kept states, differentiable in the policy."""

    def __call__(self, inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
        """Loss [M]."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a loss says of itself."""

    positions: Positions
    one_step_at_a_time: bool
    """Whether each kept position has an optimizer step of its own."""
    reads_old: bool
    """Whether it reads what the policy predicted before the first optimizer step of an update."""


LossT = TypeVar("LossT", bound=GradientLoss)


def gradient_loss(
    positions: Positions, *, one_step_at_a_time: bool = False, reads_old: bool = False
) -> Callable[[LossT], LossT]:
    """Marks a function as a loss that follows the reward's gradient; arguments as of `Kind`.

    Example:
        @gradient_loss(lambda settings, num_steps, rng: (num_steps - 1,))
        def last_step(inputs: GradientInputs, settings: GRPOSettings) -> Tensor:
            return inputs.loss_of(inputs.policy.x0)
    """

    def mark(function: LossT) -> LossT:
        setattr(function, _MARK, Kind(positions, one_step_at_a_time, reads_old))
        return function

    return mark


def gradient_kind(settings: GRPOSettings) -> Kind | None:
    """What the chosen loss says of itself if it follows the reward's gradient; None for other losses.

    Raises:
        UserError: there is no such loss.
    """
    chosen: Any = load_named("policy_loss", settings.policy_loss, POLICY_LOSSES)
    return getattr(chosen, _MARK, None)


def parts_of_update(settings: GRPOSettings, num_steps: int) -> int:
    """Number of parts of an update, each with optimizer steps of its own: positions that are trained one at a time."""
    kind = gradient_kind(settings)
    if kind is None or not kind.one_step_at_a_time:
        return 1
    return len(kind.positions(settings, num_steps, np.random.default_rng(0)))


def drawn_position(settings: GRPOSettings, num_steps: int, rng: np.random.Generator) -> tuple[int, ...]:
    """One position, after a drawn part of the K denoising steps or the last one, as `tune_timesteps` says."""
    if settings.tune_timesteps == "last":
        return (num_steps - 1,)
    part = int(rng.integers(settings.denoise_lower, settings.denoise_upper + 1))
    return (min(part * num_steps // 1000, num_steps - 1),)


def require_legal(settings: GRPOSettings, num_steps: int) -> None:
    """Checks options against the policy's number of denoising steps.

    Raises:
        UserError: a number of steps is larger.
    """
    for name in ("draft_steps", "tuned_steps"):
        if (value := getattr(settings, name)) > num_steps:
            raise UserError(f"{name} is {value}; the policy denoises in {num_steps} steps (sampling_steps)")


def shaped(rewards: Tensor, settings: GRPOSettings, jitter: float = 0.0) -> Tensor:
    """Loss of rewards, as `reward_shape` says.

    Args:
        jitter: number that `random_reward_loss` adds to all.
    """
    if settings.random_reward_loss:
        rewards = rewards + jitter
    if settings.reward_shape == "sigmoid":
        return torch.sigmoid(-rewards)
    if settings.reward_shape == "relu":
        return (settings.reward_ceiling - rewards).clamp(min=0.0)
    return -rewards


@dataclass(frozen=True, slots=True)
class GradientTerms:
    """Terms of M rows, each [M]. `loss` carries the gradient, the others are detached."""

    loss: Tensor
    policy_loss: Tensor
    penalty: Tensor
    """The term that `kl_penalty` multiplies."""
    kl_ref: Tensor
    """Exact KL of the denoising step at the kept state to the reference's; 0 for the noiseless last step."""
    reward: Tensor
    """Total reward of what was denoised with the gradient; 0 where none was asked."""

    def detached(self) -> GradientTerms:
        """The same values without the autograd graph."""
        return GradientTerms(*(getattr(self, field.name).detach() for field in fields(self)))

    def described(self, row: int) -> str:
        """Numbers of a row, for messages."""
        return f"reward {float(self.reward[row])}, KL {float(self.kl_ref[row])}"


def gradient_terms(
    own: Tensor,
    rewards: Tensor,
    policy: Transition,
    reference: Transition,
    mask: Tensor | None,
    noise_drops: Tensor,
    settings: GRPOSettings,
) -> GradientTerms:
    """Loss and its terms for M rows.

    Args:
        own: the loss by the reward [M].
        rewards: total rewards [M].
        policy, reference: their steps at the kept states.
        noise_drops: change of noise level of each step [M].
    """
    kl_ref = step_kl(policy.mean, reference.mean, policy.std, mask)
    penalty = weighted_kl(kl_ref, policy, reference, mask, noise_drops, settings)
    own = own.float()
    return GradientTerms(
        loss=settings.reward_scale * own + settings.kl_penalty * penalty,
        policy_loss=own.detach(),
        penalty=penalty.detach(),
        kl_ref=kl_ref.detach(),
        reward=rewards.detach().float(),
    )
