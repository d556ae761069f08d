"""GRPO updates of a diffusion policy: from trajectories and advantages to a new version of the weights.

Memory is that of one micro-batch of (sample, step) pairs: each is scored, back-propagated and dropped, independent of
the numbers of trained steps and groups. The reference processes the same micro-batch: with adapters it is the same
network with adapters off, without them a frozen copy of the policy made at construction (which takes the memory of the
weights again). All pairs are scored before the first optimizer step of an update, while the policy still is the one
that rolled out, so that a wrong ratio is found before any weight changes. The learner uses no random numbers (no
dropout, and a fixed order of pairs), so its state has no generator.

The update itself is in `learners/grpo/update.py`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from learners.ema import EMA, copy_named
from learners.grpo.pair_batches import require_trajectories, split_groups
from learners.grpo.settings import GRPOSettings
from learners.grpo.update import GRPOUpdate, TrainedPolicy
from learners.optimizer import Optimizer, OptimizerOptions
from motions.base.errors import UserError
from rollouts.checkpoints.adapters import has_lora
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.messages import PolicyVersion, Trajectory


class GRPOLearner:
    """Trains a diffusion policy in place.

    Example:
        learner = GRPOLearner(policy, GRPOSettings())
        motions, trajectory = RolloutWorker(policy).run(request, learner.version())
        metrics = learner.update([trajectory], group_advantages(rewards, settings).values)
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        settings: GRPOSettings,
        reference: DiffusionPolicy | None = None,
        total_steps: int = 0,
    ) -> None:
        """Starts at version 0 with the policy's present weights.

        Args:
            policy: the policy to train: its adapters if it has any, else all its parameters that require a gradient.
            settings: options of GRPO.
            reference: policy that the KL penalty refers to; by default the policy without its adapters, or a frozen
                copy of it if it has none, which takes memory.
            total_steps: optimizer steps of the whole run, over which a cosine falls.

        Raises:
            ValueError: nothing is trainable, or policy and reference have different numbers of denoising steps.
        """
        if reference is not None and reference.num_steps != policy.num_steps:
            raise ValueError(f"the reference has {reference.num_steps} denoising steps, the policy {policy.num_steps}")
        self.policy = policy
        self.settings = settings
        self.number = 0
        self._parameters: dict[str, Tensor] = dict(policy.trainable_parameters())
        self._optimizer = Optimizer(
            self._parameters,
            OptimizerOptions(
                learning_rate=settings.learning_rate,
                beta1=settings.adam_beta1,
                beta2=settings.adam_beta2,
                weight_decay=settings.weight_decay,
                max_grad_norm=settings.max_grad_norm,
                warmup_steps=settings.warmup_steps,
                decay_steps=settings.decay_steps(total_steps),
            ),
            loss_scaling=policy.sampling.amp_dtype == "fp16",
        )
        decay = settings.policy_ema_decay
        self._ema = EMA(self._parameters, decay) if decay else None
        if reference is None and not has_lora(policy.network):
            reference = copy.deepcopy(policy)
            reference.network.requires_grad_(False)
        self._trained = TrainedPolicy(policy, reference)

    def update(self, trajectories: Sequence[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        """Updates the policy from P groups; the version's number increases by one.

        Args:
            trajectories: P groups of N samples, rolled out by this learner's present version.
            advantages: [P, N].

        Returns:
            Means over the pairs of all inner epochs (`grpo_metrics`), per denoising position
            `kl_reference_position_<k>` and `ratio_std_position_<k>`, `kl_old`, `first_ratio_error`, `grad_norm`,
            `learning_rate`, counts, and `seconds_<stage>`. If there is no pair (all groups dropped) only counts and
            seconds.

        Raises:
            RatioError: the first ratio differs from 1 by more than `ratio_tolerance`. No weight was changed.
            DivergenceError: a loss or gradient is not finite. The step that found it changed no weight.
            ValueError: trajectories that do not fit each other or the learner.
        """
        require_trajectories(trajectories, advantages, self.number)
        kept = list(range(len(trajectories)))
        if self.settings.drop_zero_variance_groups:
            kept = [group for group in kept if advantages[group].any()]
        windows = split_groups(kept, self.settings.groups_per_optimizer_step)
        update = GRPOUpdate(self._trained, self.settings, self._optimizer, self._ema, trajectories, advantages)
        metrics = update.run(windows) | {"num_dropped_groups": float(len(trajectories) - len(kept))}
        self.number += 1
        return metrics | {"policy_version": float(self.number)}

    def version(self) -> PolicyVersion:
        """Copies of the present weights with their number."""
        return PolicyVersion(self.number, self.policy.weights())

    def evaluation_version(self) -> PolicyVersion:
        """Copies of the averaged weights if `policy_ema_decay` is on, else of the present ones."""
        if self._ema is None:
            return self.version()
        weights = {name: value.cpu().numpy() for name, value in self._ema.weights().items()}
        return PolicyVersion(self.number, weights)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs: copies of tensors, and plain types, loadable with `weights_only=True`.

        It does not include the base weights: construct the learner from the same base before `load`.
        """
        return {
            "kind": "grpo",
            "number": self.number,
            "parameters": {name: value.detach().cpu().clone() for name, value in self._parameters.items()},
            "optimizer": self._optimizer.state(),
            "ema": None if self._ema is None else self._ema.state(),
            "reference": self.reference_fingerprint(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues exactly from `state()`; later updates are bit for bit those of the other run.

        Raises:
            UserError: the state belongs to another kind of learner, base policy or adapters, or differs in averaging.
        """
        if state.get("kind") != "grpo":
            raise UserError(f"this is the state of a {state.get('kind')!r} learner, not of a 'grpo' one")
        if state["reference"] != self.reference_fingerprint():
            raise UserError(
                "the checkpoint was trained from another base policy (or, without adapters, this learner was not "
                "constructed from the base weights): its reference would change"
            )
        if (state["ema"] is None) != (self._ema is None):
            raise UserError("policy_ema_decay is 0 in one of checkpoint and run: the averaged weights would be lost")
        copy_named(state["parameters"], self._parameters, "the checkpoint")
        self._optimizer.load(state["optimizer"])
        if self._ema is not None:
            self._ema.load(state["ema"])
        self.number = int(state["number"])

    def reference_fingerprint(self) -> str:
        """SHA-256 of the weights of the reference policy."""
        reference = self._trained.reference
        network = self.policy.network if reference is None else reference.network
        skipped = self._parameters if reference is None else ()
        values = {name: value for name, value in network.named_parameters() if name not in skipped}
        digest = hashlib.sha256()
        for name in sorted(values):
            digest.update(name.encode())
            digest.update(values[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
