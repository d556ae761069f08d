"""One GRPO update: inner epochs over windows of groups, one optimizer step per window, one micro-batch in memory.

Steps for a window:
    1. for each micro-batch of pairs: reference, policy, loss, backward; gradients sum to the mean over the window; with
       `kl_chain_penalty` the same for one more state of each group (`learners/grpo/chain_penalty.py`). Of several
       learners each takes every K-th micro-batch, and gradients and numbers are put together
    2. check that the losses are finite; otherwise the weights stay unchanged
    3. before the first optimizer step of the update: check that the ratio of every pair of every window is 1, where the
       policy loss has ratios
    4. if the exact KL(old || new) of the window is over `kl_threshold`, end the update without this step
    5. optimizer step, moving average

What the policy loss is stands in an objective (`learners/grpo/objective.py`). From the second optimizer step on, 4 and
some losses need the means or predictions of the policy that rolled out. They are kept in host memory (as large as the
recorded states): those of the first window are computed anyway, later windows are evaluated once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from learners.ema import EMA
from learners.grpo.device_batch import DeviceBatch, on_device
from learners.grpo.objective import Kept, Objective, Scored
from learners.grpo.pair_batches import micro_batches, num_pairs
from learners.grpo.settings import GRPOSettings
from learners.optimizer import DivergenceError, GradientOverflowError, Optimizer
from learners.workers import OneWorker, Workers
from rollouts.gaussians import gaussian_kl
from rollouts.messages import Trajectory
from rollouts.policy import Policy, Transition

UPDATE_STAGES = ("load", "reference", "policy", "backward", "behaviour", "exchange", "optimizer")
"""Timed parts of an update: `seconds_<stage>` in its metrics."""


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """A policy and its reference."""

    policy: Policy
    reference: Policy | None
    """None for the policy itself with its adapters off."""

    def reference_transition(self, batch: DeviceBatch) -> Transition:
        """The reference's Gaussians of the U states, without gradient."""
        if self.reference is not None:
            with self.reference.inference():
                return batch.transition_of(self.reference)
        with self.policy.adapters_disabled(), self.policy.inference():
            return batch.transition_of(self.policy)


class GRPOUpdate:
    """A single update; call `run` once."""

    def __init__(
        self,
        trained: TrainedPolicy,
        objective: Objective,
        settings: GRPOSettings,
        optimizer: Optimizer,
        ema: EMA | None,
        trajectories: Sequence[Trajectory],
        advantages: np.ndarray,
        chain: Sequence[Trajectory] = (),
        beside: Callable[[int], torch.Tensor] | None = None,
        workers: Workers = OneWorker(),  # noqa: B008 - it has no state
    ) -> None:
        """Prepares the update.

        Args:
            chain: states in which the KL to the reference is punished besides, one for each group; none by default.
            beside: a loss of its own, already weighted, that is added in every optimizer step, by its number in the
                update.
            workers: the learners that make this update together, each with the same arguments.
        """
        self._trained = trained
        self._workers = workers
        self._objective = objective
        self._settings = settings
        self._single = True
        self._keeps = False
        self._optimizer = optimizer
        self._ema = ema
        self._trajectories = trajectories
        self._advantages = advantages
        self._chain = chain
        self._chain_kl: list[torch.Tensor] = []
        self._beside = beside
        self._beside_losses: list[float] = []
        self._device = trained.policy.device
        self._old: dict[tuple[int, int], Kept] = {}
        self._seconds: dict[str, float] = dict.fromkeys(UPDATE_STAGES, 0.0)
        self._scored: list[Scored] = []
        self._grad_norms: list[float] = []

    def run(self, windows: Sequence[Sequence[int]]) -> dict[str, float]:
        """Trains on windows of group indices; returns the metrics of `GRPOLearner.update`."""
        learning_rate = self._optimizer.learning_rate
        self._single = len(windows) * self._settings.num_epochs == 1
        self._keeps = self._objective.compares_with_old and not self._single
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
            scored = self._accumulate(index, windows[index], keep=self._keeps)
            _require_finite_losses(scored)
            if not self._grad_norms:
                self._require_on_policy(scored, windows[index + 1 :] if self._keeps else [], index + 1)
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

    def _accumulate(self, window: int, groups: Sequence[int], keep: bool) -> list[Scored]:
        """Accumulates gradients of the mean loss over the window's pairs, one micro-batch at a time."""
        self._optimizer.zero_grad()
        total = num_pairs(self._trajectories, groups)
        scored = []
        with ExitStack() as stack:
            with self._timed("policy"):
                stack.enter_context(self._trained.policy.accumulation())
            for number, batch in self._batches(groups):
                key = window, number
                with self._timed("reference"):
                    reference = self._trained.reference_transition(batch)
                with self._timed("policy"):
                    acted = batch.transition_of(self._trained.policy)
                    old = self._old.get(key) if self._grad_norms else None
                    result = self._objective.score(batch, acted, reference, old)
                with self._timed("backward"):
                    self._optimizer.scaled(result.terms.loss.sum() / total).backward()
                scored.append(result.detached())
                if keep and not self._grad_norms:
                    self._old[key] = self._kept(acted)
            if self._chain:
                self._punish_chain(groups)
            if self._beside is not None and self._workers.rank == 0:
                with self._timed("backward"):
                    loss = self._beside(len(self._grad_norms))
                    self._optimizer.scaled(loss).backward()
                self._beside_losses.append(float(loss.detach()))
            with self._timed("backward"):
                stack.close()
        with self._timed("exchange"):
            self._optimizer.sum_gradients(self._workers)
            if self._workers.size > 1:
                scored = self._workers.interleaved([batch.on_cpu() for batch in scored])
        return scored

    def _punish_chain(self, groups: Sequence[int]) -> None:
        """Adds the gradient of the chain's penalty, whose loss is a mean over the groups."""
        # Parts of an update that are one denoising step each have the groups again and again.
        groups = sorted({group % len(self._chain) for group in groups})
        unused = np.zeros((len(self._chain), 1), np.float32)
        weight = self._settings.kl_chain_penalty / len(groups)
        size, workers = self._settings.micro_batch_size, self._workers
        for _, pairs in micro_batches(self._chain, unused, groups, size, workers.rank, workers.size):
            batch = on_device(pairs, self._device)
            with self._timed("reference"):
                reference = self._trained.reference_transition(batch)
            with self._timed("policy"):
                acted = batch.transition_of(self._trained.policy)
                kl = gaussian_kl(acted.mean, reference.mean, acted.std, batch.mask)
            with self._timed("backward"):
                self._optimizer.scaled(weight * kl.sum()).backward()
            self._chain_kl.append(kl.detach().cpu())

    def _require_on_policy(self, scored: Sequence[Scored], later: Sequence[Sequence[int]], number: int) -> None:
        """Checks the first ratio of the scored window and of later ones, which it evaluates; keeps what is needed."""
        for batch in scored:
            self._objective.require_on_policy(batch)
        with self._timed("behaviour"), self._trained.policy.inference():
            for window, groups in enumerate(later, start=number):
                for index, batch in self._batches(groups):
                    acted = batch.transition_of(self._trained.policy)
                    self._objective.require_acted(batch, acted)
                    self._old[window, index] = self._kept(acted)

    def _kept(self, acted: Transition) -> Kept:
        return tuple(part.cpu() for part in self._objective.kept(acted))

    def _batches(self, groups: Sequence[int]) -> Iterator[tuple[int, DeviceBatch]]:
        """This learner's micro-batches of the groups on the device, each with its number among those of all."""
        size = self._objective.pairs_per_batch(self._advantages.shape[1])
        workers = self._workers
        batches = micro_batches(self._trajectories, self._advantages, groups, size, workers.rank, workers.size)
        while True:
            with self._timed("load"):
                numbered = next(batches, None)
                if numbered is None:
                    return
                number, pairs = numbered
                batch = on_device(pairs, self._device)
            yield number, batch

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
        metrics = self._objective.metrics(self._scored, self._single)
        metrics["kl_old"] = float(torch.cat([scored.kl_old for scored in self._scored]).mean())
        if self._chain:  # also of a learner that had no micro-batch of it, which the others wait for
            metrics["kl_chain"] = float(torch.cat(self._workers.interleaved(self._chain_kl)).mean())
        if self._beside_losses:
            metrics["mdm_loss"] = float(np.mean(self._beside_losses))
        if self._grad_norms:
            metrics["grad_norm"] = float(np.mean(self._grad_norms))
        return metrics


def _require_finite_losses(scored: Sequence[Scored]) -> None:
    for batch in scored:
        finite = batch.terms.loss.isfinite()
        if not bool(finite.all()):
            pair = int((~finite).nonzero()[0])
            raise DivergenceError(
                f"the loss of {batch.origins.described(pair)} is {float(batch.terms.loss[pair])} "
                f"({batch.terms.described(pair)}); this step changed no weight"
            )
