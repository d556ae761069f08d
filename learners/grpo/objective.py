"""What pairs lose: the part of an update that depends on the kind of policy loss.

`StepObjective` is that of losses of denoising steps, whose ratios must be 1 before the first optimizer step of an
update. Rollouts of an earlier version (`staleness`) are another policy's: their ratios are what they are, always refer
to the recorded log-probabilities, and are reported before and after clipping. That of losses of final motions is in
`learners/grpo/motion_objective.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from learners.grpo.device_batch import DeviceBatch
from learners.grpo.gradients.loss import GradientTerms, gradient_kind
from learners.grpo.loss import (
    GRPOInputs,
    GRPOTerms,
    PolicyLoss,
    clipped_ratio_metrics,
    grpo_loss,
    grpo_metrics,
)
from learners.grpo.motion_loss import MotionTerms, reads_motions
from learners.grpo.pair_batches import PairOrigins
from learners.grpo.settings import GRPOSettings
from motions.base.errors import UserError
from rollouts.gaussians import gaussian_kl, gaussian_log_prob
from rollouts.policy import Policy, Transition

RATIO_TOLERANCE = 1e-5
"""Default of `ratio_tolerance`."""
HALF_PRECISION_RATIO_TOLERANCE = 1e-3
"""Default of `ratio_tolerance` if the network runs in half precision."""

Kept = tuple[Tensor, ...]
"""What is kept of a micro-batch's first forward, each [U, T, D]."""


class RatioError(UserError):
    """The first ratio of an update is not 1: rollout and learner do not compute the same policy."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored micro-batch: a few numbers per pair."""

    origins: PairOrigins
    num_rows: int
    """Number of states that went through the network."""
    terms: GRPOTerms | MotionTerms | GradientTerms
    kl_old: Tensor
    """Exact KL to the policy that rolled out, [M]; 0 before the first optimizer step."""
    drift: Tensor | None = None
    """Log-probability that the ratio refers to minus that of the rollout, [M]; None where there are no ratios."""
    std: Tensor | None = None
    """Standard deviation of the steps, [M]; None where there are no ratios."""

    def detached(self) -> Scored:
        """The same values without the autograd graph."""
        return replace(self, terms=self.terms.detached())

    def on_cpu(self) -> Scored:
        """The same values in host memory, for other processes."""
        return _on_cpu(self)


PartT = TypeVar("PartT")


def _on_cpu(part: PartT) -> PartT:
    if isinstance(part, Tensor):
        return cast(PartT, part.cpu())
    if is_dataclass(part) and not isinstance(part, (type, PairOrigins)):
        return replace(part, **{field.name: _on_cpu(getattr(part, field.name)) for field in fields(part)})
    return part


class Objective(Protocol):
    """The loss of pairs and what is checked and reported of it, for one update."""

    @property
    def compares_with_old(self) -> bool:
        """Whether later optimizer steps of an update need what `kept` gives."""
        ...

    def pairs_per_batch(self, group_size: int) -> int:
        """Largest number of pairs of a micro-batch."""
        ...

    def kept(self, acted: Transition) -> Kept:
        """What later optimizer steps of the update need of the Gaussians before the first one."""
        ...

    def score(self, batch: DeviceBatch, acted: Transition, reference: Transition, old: Kept | None) -> Scored:
        """Scores a micro-batch; the loss carries the gradient.

        Args:
            acted: the policy's Gaussians of the U states.
            reference: those of the reference.
            old: of these states, on any device; None before the first optimizer step.
        """
        ...

    def require_on_policy(self, scored: Scored) -> None:
        """Checks a micro-batch that was scored before the first optimizer step.

        Raises:
            RatioError: its rollout was another policy's.
        """
        ...

    def require_acted(self, batch: DeviceBatch, acted: Transition) -> None:
        """The same for a micro-batch that is not scored yet."""
        ...

    def metrics(self, scored: Sequence[Scored], single: bool) -> dict[str, float]:
        """Metrics of all micro-batches of an update; `single` if it had one optimizer step."""
        ...


def ratio_tolerance(settings: GRPOSettings, amp_dtype: str) -> float:
    """Largest |ratio - 1| that is rounding, where rollout and learner have the same weights."""
    default = RATIO_TOLERANCE if amp_dtype == "fp32" else HALF_PRECISION_RATIO_TOLERANCE
    return settings.ratio_tolerance or default


def rounding_clips(settings: GRPOSettings, amp_dtype: str) -> bool:
    """Whether rounding alone could push ratios out of the clip range."""
    low, high = settings.clip_range
    return ratio_tolerance(settings, amp_dtype) > 0.5 * min(1.0 - low, high - 1.0)


def require_legal_staleness(settings: GRPOSettings, amp_dtype: str) -> None:
    """Checks that an update could use rollouts of the version before, if `staleness` asks for it.

    Raises:
        UserError: their recorded log-probabilities are not all that the loss compares with, or are too inexact.
    """
    if not settings.staleness:
        return
    if reads_motions(settings):
        raise UserError(
            f"staleness is {settings.staleness}, but policy_loss {settings.policy_loss} is a loss of final motions, "
            "which compares with predictions of the policy that rolled out: give staleness 0"
        )
    if gradient_kind(settings) is None and rounding_clips(settings, amp_dtype):
        low, high = settings.clip_range
        raise UserError(
            f"staleness is {settings.staleness}, but ratios of amp_dtype {amp_dtype} may be off by "
            f"{ratio_tolerance(settings, amp_dtype):g} (ratio_tolerance) and are clipped to [{low:g}, {high:g}]: "
            "rounding alone would clip them. Give a clip_epsilon of twice ratio_tolerance or more, amp_dtype fp32, or "
            "staleness 0"
        )


class StepObjective:
    """Losses of denoising steps."""

    def __init__(self, loss: PolicyLoss, policy: Policy, settings: GRPOSettings, *, stale: bool = False) -> None:
        """
        Args:
            stale: whether an earlier version than the present one rolled out.
        """
        self._policy_loss = loss
        self._stale = stale
        self._settings = settings
        self._ratio_tolerance = ratio_tolerance(settings, policy.sampling.amp_dtype)
        self._own_log_probs = not stale and rounding_clips(settings, policy.sampling.amp_dtype)
        """Whether ratios refer to log-probabilities that the learner computed itself: those of the rollout may differ
        from them by so much rounding that pairs would be clipped by it."""
        self._noise_drops = device_drops(policy)
        self._mean_std = float(policy.step_stds[:-1].mean()) if settings.ratio_normalisation else None
        self._first_ratio_error = 0.0

    @property
    def compares_with_old(self) -> bool:
        """Their means make KL(old || new) and log-probabilities."""
        return True

    def pairs_per_batch(self, group_size: int) -> int:
        """Micro-batches cut anywhere: `micro_batch_size` pairs."""
        return self._settings.micro_batch_size

    def kept(self, acted: Transition) -> Kept:
        """The means of the Gaussians."""
        return (acted.mean.detach(),)

    def score(self, batch: DeviceBatch, acted: Transition, reference: Transition, old: Kept | None) -> Scored:
        """Ratios and their loss, with the KL to the reference and to the old policy."""
        policy = batch.of_pairs(acted)
        old_mean = None if old is None else old[0].to(policy.mean.device)[batch.rows]
        kl_old = None if old_mean is None else gaussian_kl(old_mean, policy.mean, policy.std, batch.mask)
        old_log_probs = batch.old_log_probs
        if self._own_log_probs:
            mean = policy.mean.detach() if old_mean is None else old_mean
            old_log_probs = gaussian_log_prob(batch.next_states, mean, policy.std, batch.mask)
        inputs = GRPOInputs(
            policy=policy,
            reference=batch.of_pairs(reference),
            next_states=batch.next_states,
            old_log_probs=old_log_probs,
            advantages=batch.advantages,
            mask=batch.mask,
            noise_drops=self._noise_drops[batch.state_positions][batch.rows],
            kl_old=kl_old,
            mean_std=self._mean_std,
        )
        return Scored(
            origins=batch.origins,
            num_rows=len(batch.states),
            terms=grpo_loss(inputs, self._settings, self._policy_loss),
            kl_old=torch.zeros_like(batch.advantages) if kl_old is None else kl_old.detach(),
            drift=old_log_probs - batch.old_log_probs,
            std=policy.std,
        )

    def require_on_policy(self, scored: Scored) -> None:
        """Checks that every first ratio is 1 within the tolerance."""
        terms = cast("GRPOTerms", scored.terms)
        assert scored.drift is not None and scored.std is not None
        scale = 1.0 if self._mean_std is None else self._mean_std / scored.std
        self._require_ratio(scored.origins, terms.log_ratio * scale + scored.drift)

    def require_acted(self, batch: DeviceBatch, acted: Transition) -> None:
        """Checks the same from the Gaussians alone."""
        policy = batch.of_pairs(acted)
        log_probs = gaussian_log_prob(batch.next_states, policy.mean, policy.std, batch.mask)
        self._require_ratio(batch.origins, log_probs - batch.old_log_probs)

    def metrics(self, scored: Sequence[Scored], single: bool) -> dict[str, float]:
        """`grpo_metrics`, the first ratio, the clipped ratio, and KL and ratio by denoising position."""
        terms = [cast("GRPOTerms", batch.terms) for batch in scored]
        metrics = grpo_metrics(terms) | clipped_ratio_metrics(terms, self._settings.clip_range)
        if single and not self._stale:
            # Nothing clips where every ratio is 1: a figure would look like a measurement.
            metrics = {name: value for name, value in metrics.items() if not name.startswith(_SILENT_AT_RATIO_ONE)}
        metrics["off_policy_ratio_error" if self._stale else "first_ratio_error"] = self._first_ratio_error
        kl_ref = torch.cat([term.kl_ref for term in terms]).cpu().numpy()
        ratio = torch.cat([term.log_ratio for term in terms]).double().exp().cpu().numpy()
        for position, here in by_position(scored):
            metrics[f"kl_reference_position_{position}"] = float(kl_ref[here].mean())
            metrics[f"ratio_mean_position_{position}"] = float(ratio[here].mean())
            metrics[f"ratio_std_position_{position}"] = float(ratio[here].std())
        return metrics

    def _require_ratio(self, origins: PairOrigins, log_ratio: Tensor) -> None:
        error = log_ratio.expm1().abs()
        worst = int(error.argmax())
        self._first_ratio_error = max(self._first_ratio_error, float(error[worst]))
        if not self._stale and not float(error[worst]) <= self._ratio_tolerance:
            raise RatioError(
                f"the first ratio is {float(log_ratio[worst].exp()):.8g} for {origins.described(worst)}; it must be 1 "
                f"within ratio_tolerance {self._ratio_tolerance:g}. Rollout and learner do not compute the "
                "same transition: compare their weights, guidance_scale, sampler, sampling_steps, amp_dtype and "
                "kind of device. No weight was changed"
            )


_SILENT_AT_RATIO_ONE = ("clip_fraction", "left_out_fraction", "ratio_clipped")


def device_drops(policy: Policy) -> Tensor:
    """`Policy.noise_drops` [K], float32 on its device."""
    return torch.from_numpy(policy.noise_drops).float().to(policy.device)


def by_position(scored: Sequence[Scored]) -> list[tuple[int, np.ndarray]]:
    """Denoising positions of the pairs of micro-batches, each with a mask [all pairs] of the pairs there."""
    positions = np.concatenate([batch.origins.positions for batch in scored])
    return [(int(position), positions == position) for position in np.unique(positions)]
