"""Losses of final motions: policy losses that need no trajectory, only what came out and how the policy denoises it.

A final motion x0 is noised by the forward process, x = sqrt(abar) x0 + sqrt(1 - abar) noise, and the policy predicts
the clean motion from x. A loss compares these predictions with x0: motions with a high advantage are to be denoised
better, those with a low one worse. So rollouts may use any solver, and an update needs only their final motions.

    here       DiffusionNFT 2509.16117  AWM 2509.25050  DGPO 2510.08425  meaning
    policy     v_theta                  v_theta         theta            predictions of the policy that is trained
    old        v_old                    v_old           -                those of the policy that rolled out
    reference  v_ref                    EMA             ref              the base weights, or an average
    motions    x_0                      x_0             x_0              the final motions

With `kl_average_decay` the reference is an average of the trained weights. The papers predict velocities; here a
network predicts x0, whose error differs by a factor that depends on the level alone.

Legend: M rows (sample, draw of noise) of a micro-batch, N samples of a group, T frames (padded), D features. Rows of a
draw are adjacent, and a draw is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from learners.grpo.loss import PolicyLoss, weighted_kl
from learners.grpo.settings import POLICY_LOSSES, GRPOSettings
from motions.base.errors import UserError
from motions.base.named import load_named
from rollouts.gaussians import masked_mean
from rollouts.policy import Transition

_MARK = "_largest_beta"

IGNORED_OPTIONS = (
    "a loss of final motions. Rollouts draw no noise but their initial one, which is each sample's own; sde_window, "
    "sde_window_start, sde_window_strategy, timestep_fraction, share_initial_noise, ratio_tolerance and kl_bound have "
    "no effect, eta, noise_scale and sampler only on the KL"
)
"""What a run with such a loss says of options."""

LEAST_ERROR = 1e-6
"""Divisors of errors are at least this."""


@dataclass(frozen=True, slots=True)
class MotionInputs:
    """M noised motions with the clean ones that policy, old policy and reference predict from them."""

    policy: Tensor
    """Predictions [M, T, D] of the policy being trained; they carry the gradient."""
    old: Tensor
    """Predictions of the policy that rolled out, without gradient; before the first optimizer step the same numbers."""
    reference: Tensor
    """Predictions of the reference, without gradient."""
    motions: Tensor
    """The final motions [M, T, D] that were noised, normalised."""
    advantages: Tensor
    """Advantages [M]."""
    num_samples: int
    """Samples N of a group."""
    mask: Tensor | None
    """[M, T] bool, True = real frame; None = all are real."""

    def error(self, predicted: Tensor) -> Tensor:
        """Squared error [M] of predicted clean motions [M, T, D], mean over valid elements."""
        return masked_mean((predicted - self.motions).square(), self.mask)

    def relative_error(self, predicted: Tensor) -> Tensor:
        """The same [M], divided by the old policy's mean error in the draw: alike at all noise levels, and comparable
        between the samples of a draw."""
        scale = self.draw_means(self.error(self.old)).clamp_min(LEAST_ERROR)
        return self.error(predicted) / scale

    def draw_means(self, values: Tensor) -> Tensor:
        """Means over the samples of each draw: [M] -> [M]."""
        return values.view(-1, self.num_samples).mean(dim=1).repeat_interleave(self.num_samples)


class MotionLoss(Protocol):
    """A pure function of predictions and advantages, differentiable in the policy's predictions."""

    def __call__(self, inputs: MotionInputs, settings: GRPOSettings) -> Tensor:
        """Loss [M] of M rows. Where the policy is still the old one, its gradient by the error of a row must have the
        sign of the row's advantage."""
        ...


LossT = TypeVar("LossT", bound=MotionLoss)


def motion_loss(*, largest_beta: float | None = None) -> Callable[[LossT], LossT]:
    """Marks a function as a loss of final motions.

    Args:
        largest_beta: largest legal `loss_beta`.

    Example:
        @motion_loss()
        def weighted_error(inputs: MotionInputs, settings: GRPOSettings) -> Tensor:
            return inputs.advantages * inputs.relative_error(inputs.policy)
    """

    def mark(function: LossT) -> LossT:
        setattr(function, _MARK, largest_beta)
        return function

    return mark


def chosen_loss(settings: GRPOSettings) -> PolicyLoss | MotionLoss:
    """The function that `policy_loss` names.

    Raises:
        UserError: there is no such function.
    """
    return load_named("policy_loss", settings.policy_loss, POLICY_LOSSES)


def reads_motions(settings: GRPOSettings) -> bool:
    """Whether `policy_loss` is a loss of final motions.

    Raises:
        UserError: there is no such function.
    """
    return hasattr(chosen_loss(settings), _MARK)


def require_legal(settings: GRPOSettings, num_levels: int) -> None:
    """Checks the options of a loss of final motions.

    Args:
        num_levels: noise levels of the policy's sampler.

    Raises:
        UserError: an option is out of the loss's range.
    """
    largest = getattr(chosen_loss(settings), _MARK)
    if largest is not None and settings.loss_beta > largest:
        raise UserError(
            f"loss_beta is {settings.loss_beta:g}; policy_loss {settings.policy_loss} takes at most {largest:g}"
        )
    if settings.trained_levels > num_levels:
        raise UserError(
            f"trained_levels is {settings.trained_levels}; the sampler has {num_levels} noise levels (sampling_steps)"
        )
    needing_steps = {
        "kl_weighting k3": settings.kl_weighting == "k3",
        "ratio_normalisation": settings.ratio_normalisation,
    }
    for option, given in needing_steps.items():
        if given:
            raise UserError(
                f"{option} needs recorded denoising steps, of which policy_loss {settings.policy_loss} has none"
            )
    if settings.micro_batch_size < settings.group_size:
        raise UserError(
            f"micro_batch_size is {settings.micro_batch_size}; policy_loss {settings.policy_loss} compares the "
            f"{settings.group_size} samples of a group (group_size) in one forward"
        )


@dataclass(frozen=True, slots=True)
class MotionTerms:
    """Terms of M rows, each [M] fp32. `loss` carries the gradient, the others are detached."""

    loss: Tensor
    policy_loss: Tensor
    penalty: Tensor
    """The term that `kl_penalty` multiplies."""
    kl_ref: Tensor
    """Exact KL of the denoising step at the noised state to the reference's; 0 for the noiseless last step."""
    error: Tensor
    """Squared error of the policy's prediction."""

    def detached(self) -> MotionTerms:
        """The same values without the autograd graph."""
        return MotionTerms(*(getattr(self, field.name).detach() for field in fields(self)))

    def described(self, row: int) -> str:
        """Numbers of a row, for messages."""
        return f"denoising error {float(self.error[row])}, KL {float(self.kl_ref[row])}"


def motion_terms(
    loss: MotionLoss,
    inputs: MotionInputs,
    policy: Transition,
    reference: Transition,
    noise_drops: Tensor,
    settings: GRPOSettings,
) -> MotionTerms:
    """Loss and its terms for M rows.

    Args:
        policy: the policy's step at each noised state; its `x0` is `inputs.policy`.
        reference: the reference's step there.
        noise_drops: change of noise level of each step [M].
    """
    kl_ref = step_kl(policy.mean, reference.mean, policy.std, inputs.mask)
    penalty = weighted_kl(kl_ref, policy, reference, inputs.mask, noise_drops, settings)
    own = loss(inputs, settings)
    return MotionTerms(
        loss=own + settings.kl_penalty * penalty,
        policy_loss=own.detach(),
        penalty=penalty.detach(),
        kl_ref=kl_ref.detach(),
        error=inputs.error(inputs.policy).detach(),
    )


def step_kl(mean: Tensor, other_mean: Tensor, std: Tensor, mask: Tensor | None) -> Tensor:
    """KL [M] of two denoising steps with the same std [M], as `gaussian_kl`, and 0 for noiseless ones."""
    squares = masked_mean((mean - other_mean).square(), mask)
    noisy = std > 0
    return torch.where(noisy, squares / (2.0 * torch.where(noisy, std, 1.0).square()), 0.0)


def motion_metrics(terms: Sequence[MotionTerms]) -> dict[str, float]:
    """Means over the rows of all micro-batches."""
    names = {
        "loss": "loss",
        "policy_loss": "policy_loss",
        "kl_loss": "penalty",
        "kl_reference": "kl_ref",
        "denoising_error": "error",
    }
    return {name: float(torch.cat([getattr(term, field) for term in terms]).mean()) for name, field in names.items()}
