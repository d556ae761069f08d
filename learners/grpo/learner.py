"""GRPO updates of a policy: from trajectories and advantages to a new version of the weights.

Memory is that of one micro-batch of (sample, step) pairs: each is scored, back-propagated and dropped, independent of
the numbers of trained steps and groups. The reference processes the same micro-batch: with adapters it is the same
network with adapters off, without them a frozen copy of the policy made at construction (which takes the memory of the
weights again). All pairs are scored before the first optimizer step of an update, while the policy still is the one
that rolled out, so that a wrong ratio is found before any weight changes. Noise, which only losses of final motions
draw, is a function of the run's seed and the number of the update, so the learner's state has no generator.

The update itself is in `learners/grpo/update.py`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from learners.ema import EMA, copy_named
from learners.grpo.adaptive_penalty import adapted_penalty
from learners.grpo.chain_penalty import chain_states
from learners.grpo.gradients.loss import gradient_kind, require_legal
from learners.grpo.gradients.objective import GradientObjective, drawn_jitter, in_parts, prompts_of
from learners.grpo.motion_loss import chosen_loss, reads_motions
from learners.grpo.motion_objective import MotionObjective, noised
from learners.grpo.objective import Objective, StepObjective, require_legal_staleness
from learners.grpo.pair_batches import require_trajectories, split_groups
from learners.grpo.settings import GRPOSettings
from learners.grpo.update import GRPOUpdate, TrainedPolicy
from learners.optimizer import Optimizer, OptimizerOptions, undecayed_names
from learners.workers import OneWorker, Workers
from motions.base.errors import UserError
from rewards.gradients import MotionReward
from rollouts.checkpoints.adapted import has_lora
from rollouts.diffusion.policy import require_denoising
from rollouts.messages import PolicyVersion, Trajectory
from rollouts.policy import Policy


class ClipLoss(Protocol):
    """A loss on clips of the data; `learners.supervised.policy_loss.ClipLoss` is one."""

    def __call__(self, policy: Policy, update: int, optimizer_step: int) -> Tensor:
        """Mean loss of a drawn batch, a function of the arguments; carries the gradient."""
        ...


class GRPOLearner:
    """Trains a policy in place.

    Example:
        learner = GRPOLearner(policy, GRPOSettings())
        motions, trajectory = RolloutWorker(policy).run(request, learner.version())
        metrics = learner.update([trajectory], group_advantages(rewards, settings).values)
    """

    def __init__(
        self,
        policy: Policy,
        settings: GRPOSettings,
        reference: Policy | None = None,
        total_steps: int = 0,
        seed: int = 0,
        reward: MotionReward | None = None,
        clip_loss: ClipLoss | None = None,
    ) -> None:
        """Starts at version 0 with the policy's present weights.

        Args:
            policy: the policy to train: its adapters if it has any, else all its parameters that require a gradient.
            settings: options of GRPO.
            reference: policy that the KL penalty refers to; by default the policy without its adapters, or a frozen
                copy of it if it has none, which takes memory.
            total_steps: optimizer steps of the whole run, over which a cosine falls.
            seed: key of the noise that losses of final motions and the chain's penalty draw.
            reward: differentiable reward, for policy losses that follow its gradient.
            clip_loss: training loss on real clips, which `mdm_loss_weight` adds.

        Raises:
            UserError: nothing is trainable, or an option is out of the policy loss's range or needs a policy that
                denoises.
            ValueError: policy and reference have different numbers of steps, there are two references, or
                reward or clip loss are missing.
        """
        if reference is not None and reference.num_steps != policy.num_steps:
            raise ValueError(f"the reference has {reference.num_steps} steps, the policy {policy.num_steps}")
        if reads_motions(settings):
            require_denoising(policy, f"policy_loss {settings.policy_loss}")
        if settings.kl_chain_penalty:
            require_denoising(policy, "kl_chain_penalty")
        if reference is not None and settings.kl_average_decay:
            raise ValueError("a reference is given, and kl_average_decay makes the average another one")
        self.policy = policy
        self.settings = settings
        self.number = 0
        self._seed = seed
        self._workers: Workers = OneWorker()
        self._loss: Any = chosen_loss(settings)
        self._reads_motions = reads_motions(settings)
        self._kind = gradient_kind(settings)
        self._reward = reward
        self._clip_loss = clip_loss
        if self._kind is not None:
            require_legal(settings, policy.num_steps)
            if reward is None or (clip_loss is None and settings.mdm_loss_weight):
                raise ValueError(f"policy_loss {settings.policy_loss} needs a reward, mdm_loss_weight a clip loss")
        require_legal_staleness(settings, policy.sampling.amp_dtype)
        self._kl_penalty = settings.kl_penalty
        self._objective(settings, [])  # its options are checked
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
            undecayed=undecayed_names(policy.network),
        )
        decay = settings.policy_ema_decay
        self._ema = EMA(self._parameters, decay) if decay else None
        if reference is None and (settings.kl_average_decay or not has_lora(policy.network)):
            reference = copy.deepcopy(policy)
            reference.network.requires_grad_(False)
        self._trained = TrainedPolicy(policy, reference)
        self._average = EMA(self._parameters, settings.kl_average_decay) if settings.kl_average_decay else None
        """What the reference is, if it moves."""

    def join(self, workers: Workers) -> None:
        """Makes later updates together with other learners, whose weights and arguments are the same. Each takes every
        K-th micro-batch; results then differ from those of one learner by the rounding of sums."""
        self._workers = workers

    def update(self, trajectories: Sequence[Trajectory], advantages: np.ndarray) -> dict[str, float]:
        """Updates the policy from P groups; the version's number increases by one.

        Args:
            trajectories: P groups of N samples, rolled out by this learner's present version, with `staleness` 1 also
                by the one before.
            advantages: [P, N].

        Returns:
            Means over the pairs of all inner epochs (`grpo_metrics`, of losses of final motions `motion_metrics`), some
            of them also per denoising position (`kl_reference_position_<k>`), `kl_old`, `first_ratio_error` (if an
            earlier version rolled out `off_policy_ratio_error`, the largest |ratio - 1| of the first forward),
            `kl_chain` with `kl_chain_penalty`, the update's `kl_penalty` with `kl_target`, `grad_norm`,
            `learning_rate`, counts, and `seconds_<stage>`. If there is no pair (all groups dropped) only counts and
            seconds.

        Raises:
            RatioError: the first ratio of a rollout by the present version differs from 1 by more than
                `ratio_tolerance`. No weight was changed.
            DivergenceError: a loss or gradient is not finite. The step that found it changed no weight.
            ValueError: trajectories that do not fit each other or the learner.
        """
        chain: list[Trajectory] = []
        if self.settings.kl_chain_penalty:
            schedule = require_denoising(self.policy, "kl_chain_penalty").schedule
            chain = chain_states(trajectories, schedule, self.settings, self._seed, self.number)
        if self._reads_motions:
            schedule = require_denoising(self.policy, f"policy_loss {self.settings.policy_loss}").schedule
            trajectories = [
                noised(trajectory, schedule, self.settings, self._seed, self.number, group)
                for group, trajectory in enumerate(trajectories)
            ]
        require_trajectories(trajectories, advantages, self.number, self.settings.staleness)
        kept = list(range(len(trajectories)))
        size = self.settings.groups_per_optimizer_step
        if self._kind is not None:
            size = size or len(trajectories)
            trajectories = in_parts(trajectories) if self._kind.one_step_at_a_time else trajectories
            advantages = np.zeros((len(trajectories), advantages.shape[1]), np.float32)
            kept = list(range(len(trajectories)))
        elif self.settings.drop_zero_variance_groups:
            kept = [group for group in kept if advantages[group].any()]
        windows = split_groups(kept, size)
        settings = self.settings.model_copy(update={"kl_penalty": self._kl_penalty})
        update = GRPOUpdate(
            self._trained,
            self._objective(settings, trajectories),
            settings,
            self._optimizer,
            self._ema,
            trajectories,
            advantages,
            chain,
            self._beside(),
            self._workers,
        )
        metrics = update.run(windows) | {"num_dropped_groups": float(len(trajectories) - len(kept))}
        if settings.kl_target:
            metrics["kl_penalty"] = self._kl_penalty
            if "kl_reference" in metrics:
                self._kl_penalty = adapted_penalty(self._kl_penalty, metrics["kl_reference"], self.settings)
        if self._average is not None:
            self._average.update()
            self._show_average()
        self.number += 1
        return metrics | {"policy_version": float(self.number)}

    def _objective(self, settings: GRPOSettings, trajectories: Sequence[Trajectory]) -> Objective:
        """The objective of an update, with its options."""
        if self._reads_motions:
            return MotionObjective(self._loss, self.policy, settings)
        if self._kind is None:
            stale = any(trajectory.policy_version < self.number for trajectory in trajectories)
            return StepObjective(self._loss, self.policy, settings, stale=stale)
        assert self._reward is not None
        jitter, prompts = drawn_jitter(self._seed, self.number), prompts_of(trajectories)
        return GradientObjective(self._loss, self.policy, settings, self._reward, prompts, jitter)

    def _beside(self) -> Callable[[int], Tensor] | None:
        """The weighted loss on real clips of this update's optimizer steps."""
        clip_loss, weight = self._clip_loss, self.settings.mdm_loss_weight
        if clip_loss is None or not weight:
            return None
        return lambda optimizer_step: weight * clip_loss(self.policy, self.number, optimizer_step)

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
            "kl_penalty": self._kl_penalty,
            "kl_average": None if self._average is None else self._average.state(),
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
        average = state.get("kl_average")
        if (average is None) != (self._average is None):
            raise UserError("kl_average_decay is 0 in one of checkpoint and run: its reference would be another one")
        copy_named(state["parameters"], self._parameters, "the checkpoint")
        self._optimizer.load(state["optimizer"])
        if self._ema is not None:
            self._ema.load(state["ema"])
        if self._average is not None and average is not None:
            self._average.load(average)
            self._show_average()
        # Checkpoints of earlier versions do not say it, and knew no other weight.
        self._kl_penalty = float(state.get("kl_penalty", self.settings.kl_penalty))
        self.number = int(state["number"])

    def reference_fingerprint(self) -> str:
        """SHA-256 of the weights of the reference policy, as far as they are not trained or an average of those."""
        reference = None if self._average is not None else self._trained.reference
        network = self.policy.network if reference is None else reference.network
        skipped = self._parameters if reference is None else ()
        values = {name: value for name, value in network.named_parameters() if name not in skipped}
        digest = hashlib.sha256()
        for name in sorted(values):
            digest.update(name.encode())
            digest.update(values[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _show_average(self) -> None:
        """Gives the reference the averaged weights."""
        assert self._average is not None and self._trained.reference is not None
        weights = dict(self._trained.reference.network.named_parameters())
        copy_named(self._average.weights(), {name: weights[name] for name in self._parameters}, "the average")
