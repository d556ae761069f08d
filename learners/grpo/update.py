"""One GRPO update: inner epochs over windows of groups, one optimizer step per window, one micro-batch in memory.

Steps for a window:
    1. for each micro-batch of pairs: reference, policy, loss, backward; gradients sum to the mean over the window
    2. check that the losses are finite; otherwise the weights stay unchanged
    3. before the first optimizer step of the update: check that the ratio of every pair of every window is 1
    4. if the exact KL(old || new) of the window is over `kl_threshold`, end the update without this step
    5. optimizer step, moving average

From the second optimizer step on, 4 needs the means of the policy that rolled out. They are kept in host memory (as
large as the recorded states): those of the first window are computed anyway, later windows are evaluated once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learners.ema import EMA
from learners.grpo.loss import GRPOInputs, GRPOTerms, grpo_loss, grpo_metrics, noise_level_drops
from learners.grpo.pair_batches import PairBatch, PairOrigins, micro_batches, num_pairs
from learners.grpo.settings import GRPOSettings
from learners.optimizer import DivergenceError, GradientOverflowError, Optimizer
from motions.base.errors import UserError
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.transitions import Transition
from rollouts.gaussians import gaussian_kl, gaussian_log_prob
from rollouts.messages import Boundaries, Trajectory

UPDATE_STAGES = ("load", "reference", "policy", "backward", "behaviour", "optimizer")
"""Timed parts of an update: `seconds_<stage>` in its metrics."""


RATIO_TOLERANCE = 1e-5
"""Default of `ratio_tolerance`."""
HALF_PRECISION_RATIO_TOLERANCE = 1e-3
"""Default of `ratio_tolerance` if the network runs in half precision."""


class RatioError(UserError):
    """The first ratio of an update is not 1: rollout and learner do not compute the same policy."""


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """A policy and its reference."""

    policy: DiffusionPolicy
    reference: DiffusionPolicy | None
    """None for the policy itself with its adapters off."""

    def reference_transition(self, batch: _DeviceBatch) -> Transition:
        """The reference's Gaussians of the U states, without gradient."""
        if self.reference is not None:
            with self.reference.inference():
                return batch.transition_of(self.reference)
        with self.policy.adapters_disabled(), self.policy.inference():
            return batch.transition_of(self.policy)


@dataclass(frozen=True, slots=True)
class _DeviceBatch:
    """A micro-batch on the policy's device."""

    origins: PairOrigins
    states: Tensor
    """[U, T, D], as `state_positions`, `text` and the masks: one row for each distinct state."""
    state_positions: Tensor
    text: Tensor
    text_mask: Tensor | None
    boundaries: Boundaries
    state_mask: Tensor | None
    rows: Tensor
    """Row of each pair, [M]."""
    next_states: Tensor
    old_log_probs: Tensor
    advantages: Tensor

    @property
    def mask(self) -> Tensor | None:
        """Mask of the pairs' frames, [M, T]."""
        return None if self.state_mask is None else self.state_mask[self.rows]

    def transition_of(self, policy: DiffusionPolicy) -> Transition:
        """A policy's Gaussians of the U states."""
        return policy.transition(
            self.states,
            self.state_positions,
            self.text,
            self.state_mask,
            text_mask=self.text_mask,
            boundaries=self.boundaries,
        )

    def of_pairs(self, step: Transition) -> Transition:
        """Expands the Gaussians of the U states to the M pairs."""
        if len(self.rows) == len(self.states):
            return step
        mean, std, x0 = (part.index_select(0, self.rows) for part in (step.mean, step.std, step.x0))
        return Transition(mean, std, x0)


@dataclass(frozen=True, slots=True)
class _Scored:
    """What is kept of a scored micro-batch: a few numbers per pair."""

    origins: PairOrigins
    num_rows: int
    """Number of states that went through the network."""
    terms: GRPOTerms
    kl_old: Tensor
    """Exact KL to the policy that rolled out, [M]; 0 before the first optimizer step."""
    drift: Tensor
    """Log-probability that the ratio refers to minus that of the rollout, [M]."""


class GRPOUpdate:
    """A single update; call `run` once."""

    def __init__(
        self,
        trained: TrainedPolicy,
        settings: GRPOSettings,
        optimizer: Optimizer,
        ema: EMA | None,
        trajectories: Sequence[Trajectory],
        advantages: np.ndarray,
    ) -> None:
        self._trained = trained
        self._settings = settings
        single = trained.policy.sampling.amp_dtype == "fp32"
        default = RATIO_TOLERANCE if single else HALF_PRECISION_RATIO_TOLERANCE
        self._ratio_tolerance = settings.ratio_tolerance or default
        low, high = settings.clip_range
        self._own_log_probs = self._ratio_tolerance > 0.5 * min(1.0 - low, high - 1.0)
        """Whether ratios refer to log-probabilities that the learner computed itself: those of the rollout may differ
        from them by so much rounding that pairs would be clipped by it."""
        self._single = True
        self._optimizer = optimizer
        self._ema = ema
        self._trajectories = trajectories
        self._advantages = advantages
        self._device = trained.policy.device
        self._noise_drops = torch.from_numpy(noise_level_drops(trained.policy.schedule)).float().to(self._device)
        self._old_means: dict[tuple[int, int], Tensor] = {}
        self._seconds: dict[str, float] = dict.fromkeys(UPDATE_STAGES, 0.0)
        self._scored: list[_Scored] = []
        self._grad_norms: list[float] = []
        self._first_ratio_error = 0.0

    def run(self, windows: Sequence[Sequence[int]]) -> dict[str, float]:
        """Trains on windows of group indices; returns the metrics of `GRPOLearner.update`."""
        learning_rate = self._optimizer.learning_rate
        self._single = len(windows) * self._settings.num_epochs == 1
        epochs = 0
        stopped = False
        for _ in range(self._settings.num_epochs if windows else 0):
            epochs += 1
            stopped = any(not self._train_window(index, windows) for index in range(len(windows)))
            if stopped:
                break
        counts = {
            "learning_rate": learning_rate,
            "num_epochs_run": float(epochs),
            "stopped_early": float(stopped),
            "num_optimizer_steps": float(len(self._grad_norms)),
            "num_pairs": float(sum(len(scored.origins) for scored in self._scored)),
            "num_forward_rows": float(sum(scored.num_rows for scored in self._scored)),
        }
        seconds = {f"seconds_{stage}": value for stage, value in self._seconds.items()}
        return (self._pair_metrics() if self._scored else {}) | counts | seconds

    def _train_window(self, index: int, windows: Sequence[Sequence[int]]) -> bool:
        """Steps 1 to 5 of the module's docstring for one window. Returns False if the KL threshold ended the update."""
        while True:
            scored = self._accumulate(index, windows[index], keep_means=not self._single)
            _require_finite_losses(scored)
            if not self._grad_norms:
                self._require_on_policy(scored, [] if self._single else windows[index + 1 :], index + 1)
            kl_old = float(torch.cat([batch.kl_old for batch in scored]).mean())
            threshold = self._settings.kl_threshold
            if threshold and kl_old > threshold:
                self._optimizer.zero_grad()
                self._scored += scored
                return False
            try:
                with self._timed("optimizer"):
                    self._grad_norms.append(self._optimizer.step())
            except GradientOverflowError:
                continue  # fp16: the same gradients again, at half the loss scale
            break
        self._scored += scored
        if self._ema is not None:
            self._ema.update()
        return True

    def _accumulate(self, window: int, groups: Sequence[int], keep_means: bool) -> list[_Scored]:
        """Accumulates gradients of the mean loss over the window's pairs, one micro-batch at a time."""
        self._optimizer.zero_grad()
        total = num_pairs(self._trajectories, groups)
        scored = []
        with ExitStack() as stack:
            with self._timed("policy"):
                stack.enter_context(self._trained.policy.accumulation())
            for number, batch in enumerate(self._batches(groups)):
                key = window, number
                with self._timed("reference"):
                    reference = self._trained.reference_transition(batch)
                with self._timed("policy"):
                    acted = batch.transition_of(self._trained.policy)
                    old_log_probs = self._old_log_probs(key, batch, acted)
                    terms = self._loss(batch, acted, reference, old_log_probs)
                with self._timed("backward"):
                    self._optimizer.scaled(terms.loss.sum() / total).backward()
                kl_old = self._kl_old(key, batch, acted)
                drift = old_log_probs - batch.old_log_probs
                scored.append(_Scored(batch.origins, len(batch.states), terms.detached(), kl_old, drift))
                if keep_means and not self._grad_norms:
                    self._old_means[key] = acted.mean.detach().cpu()
            with self._timed("backward"):
                stack.close()
        return scored

    def _old_log_probs(self, key: tuple[int, int], batch: _DeviceBatch, acted: Transition) -> Tensor:
        """Log-probabilities [M] that ratios refer to: those of the rollout, or the learner's own before its first
        optimizer step."""
        if not self._own_log_probs:
            return batch.old_log_probs
        policy = batch.of_pairs(acted)
        mean = self._old_means[key].to(self._device)[batch.rows] if self._grad_norms else policy.mean.detach()
        return gaussian_log_prob(batch.next_states, mean, policy.std, batch.mask)

    def _loss(self, batch: _DeviceBatch, acted: Transition, reference: Transition, old_log_probs: Tensor) -> GRPOTerms:
        """Terms of a micro-batch's pairs, from the Gaussians of its states."""
        inputs = GRPOInputs(
            policy=batch.of_pairs(acted),
            reference=batch.of_pairs(reference),
            next_states=batch.next_states,
            old_log_probs=old_log_probs,
            advantages=batch.advantages,
            mask=batch.mask,
            noise_drops=self._noise_drops[batch.state_positions][batch.rows],
        )
        return grpo_loss(inputs, self._settings)

    def _kl_old(self, key: tuple[int, int], batch: _DeviceBatch, acted: Transition) -> Tensor:
        """Exact KL(old || new) of a micro-batch [M]."""
        if not self._grad_norms:
            return torch.zeros_like(batch.advantages)
        policy = batch.of_pairs(acted)
        old_mean = self._old_means[key].to(self._device)[batch.rows]
        return gaussian_kl(old_mean, policy.mean.detach(), policy.std, batch.mask)

    def _require_on_policy(self, scored: Sequence[_Scored], later: Sequence[Sequence[int]], number: int) -> None:
        """Checks the first ratio of the scored window and of later ones, which it evaluates; keeps their means."""
        for batch in scored:
            self._require_ratio(batch.origins, batch.terms.log_ratio + batch.drift)
        with self._timed("behaviour"), self._trained.policy.inference():
            for window, groups in enumerate(later, start=number):
                for index, batch in enumerate(self._batches(groups)):
                    acted = batch.transition_of(self._trained.policy)
                    policy = batch.of_pairs(acted)
                    log_probs = gaussian_log_prob(batch.next_states, policy.mean, policy.std, batch.mask)
                    self._require_ratio(batch.origins, log_probs - batch.old_log_probs)
                    self._old_means[window, index] = acted.mean.cpu()

    def _require_ratio(self, origins: PairOrigins, log_ratio: Tensor) -> None:
        error = log_ratio.expm1().abs()
        worst = int(error.argmax())
        self._first_ratio_error = max(self._first_ratio_error, float(error[worst]))
        if not float(error[worst]) <= self._ratio_tolerance:
            raise RatioError(
                f"the first ratio is {float(log_ratio[worst].exp()):.8g} for {origins.described(worst)}; it must be 1 "
                f"within ratio_tolerance {self._ratio_tolerance:g}. Rollout and learner do not compute the "
                "same transition: compare their weights, guidance_scale, sampler, sampling_steps, amp_dtype and "
                "kind of device. No weight was changed"
            )

    def _batches(self, groups: Sequence[int]) -> Iterator[_DeviceBatch]:
        """The groups' micro-batches on the device."""
        batches = micro_batches(self._trajectories, self._advantages, groups, self._settings.micro_batch_size)
        while True:
            with self._timed("load"):
                pairs = next(batches, None)
                if pairs is None:
                    return
                batch = _on_device(pairs, self._device)
            yield batch

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[stage] += time.perf_counter() - start

    def _pair_metrics(self) -> dict[str, float]:
        terms = [scored.terms for scored in self._scored]
        metrics = grpo_metrics(terms)
        if self._single:
            # Nothing clips where every ratio is 1: a figure would look like a measurement.
            metrics = {name: value for name, value in metrics.items() if not name.startswith("clip_fraction")}
        metrics["kl_old"] = float(torch.cat([scored.kl_old for scored in self._scored]).mean())
        metrics["first_ratio_error"] = self._first_ratio_error
        if self._grad_norms:
            metrics["grad_norm"] = float(np.mean(self._grad_norms))
        positions = np.concatenate([scored.origins.positions for scored in self._scored])
        kl_ref = torch.cat([term.kl_ref for term in terms]).cpu().numpy()
        ratio = torch.cat([term.log_ratio for term in terms]).double().exp().cpu().numpy()
        for position in np.unique(positions):
            here = positions == position
            metrics[f"kl_reference_position_{position}"] = float(kl_ref[here].mean())
            metrics[f"ratio_mean_position_{position}"] = float(ratio[here].mean())
            metrics[f"ratio_std_position_{position}"] = float(ratio[here].std())
        return metrics


def _on_device(pairs: PairBatch, device: torch.device) -> _DeviceBatch:
    num_frames = pairs.states.shape[1]
    # Without padding no mask, as in the rollout: the masked attention kernel rounds in another way.
    mask = None
    if bool((pairs.state_lengths < num_frames).any()):
        mask = torch.from_numpy(np.arange(num_frames) < pairs.state_lengths[:, None]).to(device)
    return _DeviceBatch(
        origins=pairs.origins,
        states=torch.from_numpy(pairs.states).to(device),
        state_positions=torch.from_numpy(pairs.state_positions).to(device),
        text=torch.from_numpy(pairs.text).to(device),
        text_mask=None if pairs.text_mask is None else torch.from_numpy(pairs.text_mask).to(device),
        boundaries=pairs.boundaries,
        state_mask=mask,
        rows=torch.from_numpy(pairs.rows).to(device),
        next_states=torch.from_numpy(pairs.next_states).to(device),
        old_log_probs=torch.from_numpy(pairs.old_log_probs).to(device),
        advantages=torch.from_numpy(pairs.advantages).to(device),
    )


def _require_finite_losses(scored: Sequence[_Scored]) -> None:
    for batch in scored:
        finite = batch.terms.loss.isfinite()
        if not bool(finite.all()):
            pair = int((~finite).nonzero()[0])
            log_ratio, kl_ref = float(batch.terms.log_ratio[pair]), float(batch.terms.kl_ref[pair])
            raise DivergenceError(
                f"the loss of {batch.origins.described(pair)} is {float(batch.terms.loss[pair])} "
                f"(log-ratio {log_ratio}, KL {kl_ref}); this step changed no weight"
            )
