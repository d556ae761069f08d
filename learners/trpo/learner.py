"""TRPO for an `ActorCritic`: improves a controller by its rollouts.

The order of one update:

    1. compute values, advantages and returns with the critic as it was during sampling
    2. check that the policy is still the one that sampled, by comparing its means with the recorded ones
    3. add the batch to the observation statistics
    4. take the trust region step. The KL divergence that is limited is between the policy that sampled and the one that
    acts next, with the new statistics. If the statistics alone would use more than half of it, they change only part of
    the way.
    5. fit the critic

Several learners may hold different rollouts of one batch. They exchange sums through `reduce` and make the same
decisions, so their controllers stay equal.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.optimizer import DivergenceError
from learners.trpo.critic import CriticFit, Share
from learners.trpo.gae import advantages_and_returns
from learners.trpo.settings import TRPOSettings
from learners.trpo.trust_region import (
    ExtraTerms,
    GaussianPolicy,
    PolicyBatch,
    Reduce,
    TrustRegionReport,
    alone,
    trust_region_step,
)
from motions.base.errors import UserError
from rollouts.control.actor_critic import ActorCritic
from rollouts.control.rollouts import ControlRollout
from rollouts.gaussians import action_entropy, action_kl

SYNC_TOLERANCE = 1e-3
"""Largest |recorded - computed| mean action, in standard deviations, at which the policies count as the same."""

STATISTICS_SHARE = 0.5
"""Largest fraction of `max_kl` that new observation statistics may use."""

_BLENDS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.0)


class OutOfSyncError(ValueError):
    """Rollouts were made by another policy than the learner's."""


@dataclass(frozen=True, slots=True)
class _Samples:
    """Valid rows of all rollouts, environment by environment."""

    observations: Tensor
    actions: Tensor
    means: Tensor
    log_std: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    expert_actions: Tensor | None


class TRPOLearner:
    """Trains a controller by TRPO and keeps the state of the training.

    Example:
        learner = TRPOLearner(controller, TRPOSettings(), seed=0)
        metrics = learner.update([sampler.collect(controller, 128, learner.iteration)])
    """

    def __init__(
        self,
        controller: ActorCritic,
        settings: TRPOSettings,
        seed: int,
        reduce: Reduce = alone,
        rank: int = 0,
        num_learners: int = 1,
    ) -> None:
        """Trains `controller` in place; its present policy is the one that `clone_kl_weight` refers to.

        Args:
            seed: seed of the order of the critic's samples.
            reduce: sum over all learners.
            rank: number of this learner among `num_learners`.
        """
        self.controller = controller
        self.settings = settings
        self.iteration = 0
        self._seed = seed
        self._reduce = reduce
        self._rank, self._num_learners = rank, num_learners
        self._critic = CriticFit(controller.critic, settings.critic_learning_rate)
        self._clone = copy.deepcopy(controller).requires_grad_(False) if settings.clone_kl_weight else None

    def update(self, rollouts: Sequence[ControlRollout]) -> dict[str, float]:
        """Makes one iteration with this learner's rollouts.

        Returns:
            Metrics, equal on all learners except for `seconds`.

        Raises:
            OutOfSyncError: another policy made the rollouts.
            DivergenceError: a number is not finite; nothing was changed.
        """
        samples = self._samples(rollouts)
        share = self._share(len(samples.actions))
        self._require_finite(samples)
        self._require_sync(samples)
        advantages = self._standardised(samples.advantages, share)
        statistics = {name: value.clone() for name, value in self.controller.statistics.state_dict().items()}
        blend, statistics_kl = self._update_statistics(samples, share)
        inputs = self.controller.statistics(samples.observations)
        metrics = {"statistics/blend": blend, "statistics/kl": statistics_kl}
        if self.iteration >= self.settings.critic_warmup_batches:
            batch = self._policy_batch(samples, inputs, advantages, share)
            policy = GaussianPolicy(self.controller.policy, self.controller.log_std, self.settings.train_log_std)
            try:
                report = trust_region_step(policy, batch, self.settings, self._extra_terms(), self._reduce)
            except DivergenceError:
                self.controller.statistics.load_state_dict(statistics)
                raise
            metrics |= _report_metrics(report) | self._extra_metrics(batch)
        metrics |= self._fit_critic(samples, inputs, share)
        with torch.no_grad():
            log_std = self.controller.log_std
            metrics |= {"policy/entropy": float(action_entropy(log_std)), "policy/std": float(log_std.exp().mean())}
        self.iteration += 1
        return metrics

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as tensors and plain values."""
        return {
            "controller": {name: value.clone() for name, value in self.controller.state_dict().items()},
            "critic": copy.deepcopy(self._critic.state()),
            "clone": None if self._clone is None else dict(self._clone.state_dict()),
            "iteration": self.iteration,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues exactly from `state()`.

        Raises:
            UserError: the state is of a run with another `clone_kl_weight`.
        """
        if (state["clone"] is None) != (self._clone is None):
            raise UserError("the saved state and these settings disagree on clone_kl_weight being 0")
        self.controller.load_state_dict(state["controller"])
        if self._clone is not None:
            self._clone.load_state_dict(state["clone"])
        self._critic.load(copy.deepcopy(state["critic"]))
        self.iteration = int(state["iteration"])

    def _sum(self, *values: float) -> list[float]:
        return self._reduce(torch.tensor(values, dtype=torch.float64)).tolist()

    def _share(self, size: int) -> Share:
        sizes = self._sum(*(float(size) if rank == self._rank else 0.0 for rank in range(self._num_learners)))
        return Share(int(sum(sizes[: self._rank])), size, int(sum(sizes)))

    @torch.no_grad()
    def _samples(self, rollouts: Sequence[ControlRollout]) -> _Samples:
        """The valid rows of all rollouts with their advantages, environment by environment."""
        device = self.controller.log_std.device
        columns: dict[str, list[np.ndarray]] = {}
        for rollout in rollouts:
            values, advantages, returns = self.advantages(rollout)
            arrays = {
                "observations": rollout.observations,
                "actions": rollout.actions,
                "means": rollout.means,
                "advantages": advantages,
                "returns": returns,
                "values": values,
            }
            if self.settings.cloning_weight:
                if rollout.expert_actions is None:
                    raise ValueError("cloning_weight needs rollouts with the expert's actions")
                arrays["expert_actions"] = rollout.expert_actions
            rows = rollout.valid.swapaxes(0, 1)
            for name, array in arrays.items():
                columns.setdefault(name, []).append(array.swapaxes(0, 1)[rows])
        tensors = {
            name: torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(device)
            for name, parts in columns.items()
        }
        log_std = torch.tensor(rollouts[0].log_std, device=device)
        return _Samples(**{"expert_actions": None, **tensors}, log_std=log_std)

    def advantages(self, rollout: ControlRollout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, advantages and returns [T, N] of a rollout, by the critic as it is."""
        values, last, ends = (
            self._values(array) for array in (rollout.observations, rollout.last_observations, rollout.end_observations)
        )
        next_values = np.concatenate([values[1:], last[None]])
        next_values[rollout.end_indices[:, 0], rollout.end_indices[:, 1]] = ends
        advantages, returns = advantages_and_returns(
            rollout.rewards,
            values,
            next_values,
            rollout.terminated,
            rollout.truncated,
            self.settings.gamma,
            self.settings.gae_lambda,
        )
        return values, advantages, returns

    def _values(self, observations: np.ndarray) -> np.ndarray:
        device = self.controller.log_std.device
        return self.controller.value(torch.tensor(observations, device=device)).cpu().numpy()

    def _require_finite(self, samples: _Samples) -> None:
        """Raises before anything is changed, and on all learners alike, so that none waits for one that has raised."""
        columns = {
            name: value
            for name in ("observations", "actions", "means", "values", "advantages", "expert_actions")
            if (value := getattr(samples, name)) is not None
        }
        counts = self._sum(*(float((~value.isfinite()).sum()) for value in columns.values()))
        bad = [f"{name} ({count:.0f})" for name, count in zip(columns, counts, strict=True) if count]
        # Report the first cause: if observations are not finite, nothing computed from them is.
        if bad:
            raise DivergenceError(
                f"iteration {self.iteration}: entries of the rollouts' {', '.join(bad)} are not finite; nothing was "
                "changed. If it is the advantages alone: look at the rewards and at the states that episodes ended in"
            )

    @torch.no_grad()
    def _require_sync(self, samples: _Samples) -> None:
        mean, log_std = self.controller.distribution(samples.observations)
        apart = ((mean - samples.means).abs() * torch.exp(-samples.log_std)).max() if len(mean) else torch.zeros(())
        apart = torch.maximum(apart, (log_std - samples.log_std).abs().max())
        # Written as "not within", so that NaN is refused too.
        if not float(apart) <= SYNC_TOLERANCE:
            raise OutOfSyncError(
                f"iteration {self.iteration}: the learner's policy differs from the one that made the rollouts by "
                f"{float(apart):.2g} standard deviations; its weights were not sent to the sampler"
            )

    def _standardised(self, advantages: Tensor, share: Share) -> Tensor:
        mean = self._sum(float(advantages.double().sum()))[0] / share.total
        squares = self._sum(float((advantages.double() - mean).square().sum()))[0]
        standardised = (advantages - mean) / ((squares / share.total) ** 0.5 + 1e-8)
        limit = self.settings.advantage_limit
        return standardised.clamp(-limit, limit) if limit else standardised

    @torch.no_grad()
    def _update_statistics(self, samples: _Samples, share: Share) -> tuple[float, float]:
        """Updates the statistics; returns the fraction of the way they moved and the KL divergence that this caused."""
        statistics = self.controller.statistics
        if 0 < self.settings.normalizer_steps <= float(statistics.count):
            return 0.0, 0.0
        data = samples.observations.double()
        mean = self._reduce(data.sum(0)) / share.total
        variance = self._reduce((data - mean).square().sum(0)) / share.total
        before = {name: value.clone() for name, value in statistics.state_dict().items()}
        kl = 0.0
        for blend in _BLENDS:
            statistics.load_state_dict(before)
            statistics.merge(share.total, mean, variance, blend)
            now, log_std = self.controller.distribution(samples.observations)
            kl = self._sum(float(action_kl(samples.means, samples.log_std, now, log_std).sum()))[0] / share.total
            if kl <= STATISTICS_SHARE * self.settings.max_kl:
                return blend, kl
        return 0.0, kl

    def _policy_batch(self, samples: _Samples, inputs: Tensor, advantages: Tensor, share: Share) -> PolicyBatch:
        clone_mean = clone_log_std = None
        if self._clone is not None:
            clone_mean, clone_log_std = self._clone.distribution(samples.observations)
        return PolicyBatch(
            inputs=inputs,
            actions=samples.actions,
            advantages=advantages,
            old_mean=samples.means,
            old_log_std=samples.log_std,
            total=share.total,
            start=share.start,
            clone_mean=clone_mean,
            clone_log_std=clone_log_std,
            expert_actions=samples.expert_actions,
        )

    def _extra_terms(self) -> ExtraTerms:
        settings = self.settings
        age = self.iteration - settings.critic_warmup_batches
        return ExtraTerms(
            entropy=settings.policy_entcoeff,
            clone_kl=settings.clone_kl_weight * settings.clone_kl_decay**age,
            cloning=settings.cloning_weight * settings.cloning_decay**age,
        )

    @torch.no_grad()
    def _extra_metrics(self, batch: PolicyBatch) -> dict[str, float]:
        metrics: dict[str, float] = {}
        mean, log_std = self.controller.policy(batch.inputs), self.controller.log_std
        if batch.clone_mean is not None and batch.clone_log_std is not None:
            apart = action_kl(mean, log_std, batch.clone_mean, batch.clone_log_std).sum()
            metrics["policy/kl_clone"] = self._sum(float(apart))[0] / batch.total
        if batch.expert_actions is not None:
            error = (mean - batch.expert_actions).square().mean(-1).sum()
            metrics["policy/expert_error"] = self._sum(float(error))[0] / batch.total
        return metrics

    def _fit_critic(self, samples: _Samples, inputs: Tensor, share: Share) -> dict[str, float]:
        returns = samples.returns.double()
        mean = self._sum(float(returns.sum()))[0] / share.total
        squares, errors = self._sum(
            float((returns - mean).square().sum()), float((returns - samples.values.double()).square().sum())
        )
        std = (squares / share.total) ** 0.5
        if self.settings.standardize_returns:
            self.controller.rescale_value(mean, std + 1e-3)
        targets = (returns - self.controller.value_mean) / self.controller.value_std
        self._critic.fit(
            inputs,
            targets.float(),
            share,
            self.settings.critic_epochs,
            self.settings.critic_batch_size,
            np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, self.iteration, 2]))),
            self._reduce,
        )
        return {"critic/explained_variance": 1.0 - errors / max(squares, 1e-12), "critic/return_mean": mean}


def _report_metrics(report: TrustRegionReport) -> dict[str, float]:
    return {
        "policy/kl": report.kl,
        "policy/gain": report.gain,
        "policy/expected_gain": report.expected_gain,
        "policy/step_fraction": report.step_fraction,
        "policy/gradient_norm": report.gradient_norm,
        "cg/iterations": float(report.cg_iterations),
        "cg/residual": report.cg_residual,
    }
