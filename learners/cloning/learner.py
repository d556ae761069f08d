"""Cloning: a Gaussian controller fitted to an expert's actions by maximum likelihood, and its critic's initial fit.

Choices:
1. The likelihood also fits the standard deviation to the residuals, with a lower bound on its logarithm: with a
standard deviation of 1, which remains if only the squared error is trained, the first sampled steps of reinforcement
learning make the character fall.
2. Observation statistics are computed from all data (`observe`) before the first step of a round and do not change
within it; the controller normalises and clips observations with the same code in training and in use.
3. The weights with the best validation likelihood are kept.
4. With several workers the global batch of every optimizer step is the same as with one; each works on its slice.

Symbols: a label, mu(s) mean, sigma std, w weight; loss = sum w (0.5 ((a - mu) / sigma)^2 + log sigma) / sum w, mean
over action components.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learners.cloning.settings import CloningSettings
from learners.trpo.critic import CriticFit, Share
from learners.workers import OneWorker, Workers
from rollouts.control.actor_critic import ActorCritic
from rollouts.devices import resolve_device
from rollouts.imitation.demonstrations import Demonstrations, split_by_blocks

FINAL_RATE = 0.1
"""Fraction of the learning rate that remains at the end of a round."""

VALIDATIONS = 20
"""Largest number of evaluations on the validation data per round."""

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class CloneLoss:
    """Sums over a batch, to be added over its parts: `loss` (differentiable), `squared_error` and `weight`."""

    loss: Tensor
    squared_error: Tensor
    weight: Tensor


def cloning_loss(mean: Tensor, log_std: Tensor, actions: Tensor, weights: Tensor) -> CloneLoss:
    """Weighted negative log-likelihood without its constant, summed over samples, mean over components.

    Args:
        mean: [B, A] of the policy.
        log_std: [A] or [B, A] of the policy.
        actions: labels [B, A].
        weights: [B], not negative.
    """
    error = (actions - mean).square()
    negative_log = 0.5 * error * torch.exp(-2.0 * log_std) + log_std
    return CloneLoss(
        (weights * negative_log.mean(dim=-1)).sum(), (weights * error.mean(dim=-1)).sum().detach(), weights.sum()
    )


def round_length(settings: CloningSettings, num_samples: int) -> tuple[int, int]:
    """Optimizer steps of a round that trains on so many samples, and how many of them a validation follows on."""
    num_steps = settings.epochs * math.ceil(num_samples / settings.batch_size)
    if settings.max_optimizer_steps is not None:
        num_steps = min(num_steps, settings.max_optimizer_steps)
    return num_steps, max(1, num_steps // VALIDATIONS)


def capped_epochs(settings: CloningSettings, num_samples: int) -> float | None:
    """Passes that a round on so many samples makes where `max_optimizer_steps` allows fewer than `epochs`, or None."""
    per_epoch = math.ceil(num_samples / settings.batch_size)
    num_steps = round_length(settings, num_samples)[0]
    return num_steps / per_epoch if num_steps < settings.epochs * per_epoch else None


def num_validations(settings: CloningSettings, num_samples: int) -> int:
    """Validations of a round that trains on so many samples."""
    num_steps, interval = round_length(settings, num_samples)
    return math.ceil(num_steps / interval)


class CloningLearner:
    """Fits a controller to demonstrations, round by round; each round starts with a new optimizer."""

    def __init__(
        self, controller: ActorCritic, settings: CloningSettings, seed: int, workers: Workers | None = None
    ) -> None:
        self.controller = controller
        self._settings = settings
        self._seed = seed
        self._workers = OneWorker() if workers is None else workers
        self._device = resolve_device(settings.cloning_device)
        self.num_training_samples = 0
        """Of the round that is trained or was trained last, without those for validation."""

    def observe(self, data: Demonstrations) -> None:
        """Adds new data to the controller's observation statistics: each sample once, before the round's `fit`.

        Raises:
            UserError: observations are not finite.
        """
        self.controller.update_statistics(data.observations)

    def fit(self, data: Demonstrations, round_index: int, report: Report | None = None) -> dict[str, float]:
        """One round of training.

        Args:
            data: everything collected so far; the same on all workers.
            round_index: number of the round; with the seed it determines split and batches.
            report: called with `loss`, `rmse`, `val_loss`, `val_rmse`, `optimizer_steps` and `std` at each validation.

        Returns:
            The metrics of the weights that were kept.

        Raises:
            ValueError: labels or observations are not finite, or there are no data.
        """
        for name, array in (("observations", data.observations), ("actions", data.actions)):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of the demonstrations are not finite")
        if not len(data):
            raise ValueError("there are no demonstrations")
        rng = np.random.default_rng([self._seed, round_index])
        train, held = split_by_blocks(data, self._settings.val_split, rng)
        self.num_training_samples = len(train)
        self.controller.to(self._device)
        try:
            return self._optimise(
                _on(train, self._device), _on(held if len(held) else train, self._device), rng, report
            )
        finally:
            self.controller.to("cpu")

    def _optimise(
        self, train: _Tensors, held: _Tensors, rng: np.random.Generator, report: Report | None
    ) -> dict[str, float]:
        settings, controller = self._settings, self.controller
        parameters = controller.policy_parameters()
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        batches_per_epoch = math.ceil(len(train) / settings.batch_size)
        num_steps, every = round_length(settings, len(train))
        kept: dict[str, float] = {}
        best: dict[str, Tensor] = {}
        running = np.zeros(3)
        order = np.zeros(0, dtype=np.int64)
        for step in range(num_steps):
            if step % batches_per_epoch == 0:
                order = rng.permutation(len(train))
            start = (step % batches_per_epoch) * settings.batch_size
            batch = order[start : start + settings.batch_size]
            for group in optimizer.param_groups:
                share = 0.5 * (1.0 + math.cos(math.pi * step / num_steps))
                group["lr"] = settings.learning_rate * (FINAL_RATE + (1.0 - FINAL_RATE) * share)
            running += self._step(train, batch, parameters, optimizer)
            if (step + 1) % every == 0 or step + 1 == num_steps:
                metrics = {"loss": float(running[0] / running[2]), "rmse": math.sqrt(running[1] / running[2])}
                metrics |= self._validate(held) | {"optimizer_steps": float(step + 1)}
                running = np.zeros(3)
                if not kept or metrics["val_loss"] < kept["val_loss"]:
                    kept = metrics
                    best = {name: value.detach().clone() for name, value in controller.state_dict().items()}
                if report is not None:
                    report(metrics)
        controller.load_state_dict(best)
        return kept

    def _step(
        self, train: _Tensors, batch: np.ndarray, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
    ) -> np.ndarray:
        """One optimizer step; returns the global sums of loss, squared error and weight."""
        mine = torch.from_numpy(batch[self._workers.rank :: self._workers.size].copy()).to(self._device)
        mean, log_std = self.controller.distribution(train.observations[mine])
        terms = cloning_loss(mean, log_std, train.actions[mine], train.weights[mine])
        optimizer.zero_grad(set_to_none=False)
        terms.loss.backward()
        sums = torch.stack([terms.loss.detach(), terms.squared_error, terms.weight])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self._workers.sum([*gradients, sums])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient / sums[2].clamp(min=1e-8)
        optimizer.step()
        with torch.no_grad():
            self.controller.log_std.clamp_(min=self._settings.log_std_floor)
        return sums.cpu().numpy().astype(np.float64)

    @torch.no_grad()
    def _validate(self, held: _Tensors) -> dict[str, float]:
        mean, log_std = self.controller.distribution(held.observations)
        terms = cloning_loss(mean, log_std, held.actions, held.weights)
        weight = float(terms.weight)
        return {
            "val_loss": float(terms.loss) / weight,
            "val_rmse": math.sqrt(float(terms.squared_error) / weight),
            "std": float(log_std.exp().mean()),
        }


@dataclass(frozen=True, slots=True)
class _Tensors:
    observations: Tensor
    actions: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.observations)


def _on(data: Demonstrations, device: torch.device) -> _Tensors:
    arrays = (data.observations, data.actions, data.weights)
    return _Tensors(*(torch.from_numpy(array).to(device) for array in arrays))


@dataclass(frozen=True, slots=True)
class CriticData:
    """Raw observations of states [M, O], and the discounted returns [M] that followed them."""

    observations: np.ndarray
    returns: np.ndarray


def discounted_returns(
    rewards: np.ndarray, ended: np.ndarray, values_after: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns [T, N] of time-major rewards [T, N], and [T, N] whether each is known.

    Args:
        ended: [T, N] bool, the episode ends with this step, by a fall or by a time limit.
        values_after: [T, N] value of the state after the step: 0 after a fall, NaN where it is unknown (at the time
            limit or at the end of the data). A return that depends on an unknown value is not known.
    """
    returns = np.zeros_like(rewards, dtype=np.float64)
    after = values_after[-1].astype(np.float64)
    for step in reversed(range(len(rewards))):
        after = np.where(ended[step], values_after[step], after)
        after = rewards[step] + gamma * after
        returns[step] = after
    return returns, np.isfinite(returns)


def fit_critic(controller: ActorCritic, data: CriticData, settings: CloningSettings, seed: int) -> dict[str, float]:
    """Fits the critic to the returns of the frozen policy, before reinforcement learning changes the policy.

    Returns are standardised by their own mean and standard deviation (`ActorCritic.rescale_value`).

    Returns:
        `critic_loss` in standardised units and `explained_variance` on the data.

    Raises:
        ValueError: there are no data, or they are not finite.
    """
    if not len(data.returns) or not np.isfinite(data.returns).all():
        raise ValueError(f"the critic needs finite returns; got {len(data.returns)}, not all finite or none")
    mean, std = float(data.returns.mean()), max(float(data.returns.std()), 1e-3)
    controller.rescale_value(mean, std)
    observations = torch.from_numpy(np.ascontiguousarray(data.observations, dtype=np.float32))
    targets = torch.from_numpy((data.returns - mean) / std).float()
    with torch.no_grad():
        inputs = controller.statistics(observations)
    rng = np.random.default_rng([seed, 0])
    share = Share(0, len(targets), len(targets))
    fit = CriticFit(controller.critic, settings.learning_rate)
    fit.fit(inputs, targets, share, settings.critic_warm_epochs, settings.batch_size, rng)
    with torch.no_grad():
        error = float((controller.critic(inputs).squeeze(-1) - targets).square().mean())
    return {"critic_loss": error, "explained_variance": 1.0 - error}
