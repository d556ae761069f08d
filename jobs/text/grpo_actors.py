"""Builds the objects of a GRPO run's actors, and exports its checkpoints.

Factories are module-level functions of the configuration, so that they can be pickled; equal configurations build the
same bits in every process.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_prompts import load_matching_dataset
from learners.grpo.advantages import Advantages, WeightedTerm, group_advantages
from learners.grpo.gradients.loss import gradient_kind, parts_of_update
from learners.grpo.learner import GRPOLearner
from learners.supervised.policy_loss import ClipLoss
from rewards.gradients import build_rewards
from rewards.messages import RewardTerms
from rewards.mixing import MixedRewards, combine
from rewards.scorers import reward_weights
from rewards.settings import RewardSettings
from rollouts.checkpoints.adapted import has_lora
from rollouts.checkpoints.loading import load_policy_text_encoder, load_reference
from rollouts.checkpoints.mdm_files import model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgs
from rollouts.checkpoints.motion_ssm_files import save_motion_ssm
from rollouts.diffusion.policy import require_denoising
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import PolicyVersion
from rollouts.one_action.motion_ssm import MotionSSM
from rollouts.one_action.policy import OneActionPolicy
from rollouts.policy import Policy
from rollouts.refining.checkpoints import save_refiner
from rollouts.refining.opening import open_trained, open_trained_policy
from rollouts.refining.policy import RefiningPolicy
from rollouts.text.encoders import TextEncoder


def build_rollout_worker(config: GRPOConfig) -> RolloutWorker:
    """The object of a rollout actor."""
    return RolloutWorker(open_trained_policy(open_trained(config.policy), config.policy, config.sampling))


def build_learner(config: GRPOConfig, rewards: RewardSettings | None = None) -> GRPOLearner:
    """The object of the learner actor.

    Args:
        rewards: those of the options, with the constants of the data; only policy losses that follow the reward's
            gradient load them here too.
    """
    policy = open_trained_policy(open_trained(config.policy), config.policy, config.sampling)
    steps = config.grpo.optimizer_steps(config.prompts.batch_size, parts_of_update(config.grpo, policy.num_steps))
    total = config.run.num_steps * steps
    reward = clip_loss = None
    if gradient_kind(config.grpo) is not None:
        here = (rewards or config.rewards).model_copy(update={"reward_device": policy.device.type})
        reward = build_rewards(here, policy.skeleton, config.policy)
        if config.grpo.mdm_loss_weight:
            clip_loss = build_clip_loss(config, policy)
    return GRPOLearner(
        policy,
        config.grpo,
        reference=load_reference(config.policy, policy, config.sampling),
        total_steps=total,
        seed=config.run.seed,
        reward=reward,
        clip_loss=clip_loss,
    )


def build_clip_loss(config: GRPOConfig, policy: Policy) -> ClipLoss:
    """MDM's training loss on the training split of the data.

    Raises:
        UserError: the data has another skeleton than the policy.
    """
    dataset = load_matching_dataset(config, policy.skeleton)
    return ClipLoss(
        dataset.items("train"),
        load_policy_text_encoder(config.policy),
        batch_size=config.grpo.mdm_batch_size,
        max_frames=min(policy.most_frames_at_once, config.rewards.max_motion_length),
        seed=config.run.seed,
    )


def mix_rewards(settings: RewardSettings, results: Sequence[RewardTerms], prompt_text: str) -> MixedRewards:
    """The rewards of one group, from the terms that the scorers returned."""
    return combine(results, settings, prompt_text)


def step_advantages(config: GRPOConfig, total: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    """Advantages of a step from totals [P, N] and terms [P, N] by name."""
    weights = reward_weights(config.rewards)
    weighted = {name: WeightedTerm(weight, terms[name]) for name, weight in weights.items() if name in terms}
    return group_advantages(total, config.grpo, weighted)


MERGED_BASE = "merged_base"
"""Folder of an export that holds the base of its adapter, if no other file does."""


class PolicyExport:
    """Exports a version of the policy: a merged MDM checkpoint and a peft adapter.

    Args:
        policy: policy on the CPU; its weights are replaced.
    """

    def __init__(self, config: GRPOConfig, policy: Policy, encoder: TextEncoder) -> None:
        self._config = config
        self._policy = policy
        self._encoder = encoder

    def __call__(self, version: PolicyVersion, folder: Path) -> None:
        """Writes `model#########.pt`, `args.json`, `Mean.npy`, `Std.npy`, and with LoRA `adapter/` in peft's format.

        With `merge_adapter` no existing checkpoint holds the adapter's base, so it is written too, into `merged_base/`.
        """
        self.write(version, folder)

    def write(self, version: PolicyVersion, folder: Path) -> Path:
        """Writes the same files; returns the path of the model."""
        # peft takes seconds to import, and the driver needs it at the end only.
        from rollouts.checkpoints.adapters import base_network, save_adapter

        if isinstance(self._policy, OneActionPolicy):
            return self._write_one_action(self._policy, version, folder)
        policy = require_denoising(self._policy, "a checkpoint in MDM's layout")
        policy.load_weights(version.weights)
        args = model_args_of(
            policy.network,
            policy.schedule,
            policy.skeleton.name,
            self._encoder.name,
            max_frames=policy.trained_frames,
            text_encoder_fingerprint=self._encoder.fingerprint,
            command=cli.command_of(self._config, "jobs.grpo"),
            extra={name: value for name, value in self._config.flat().items() if name not in ModelArgs.model_fields},
        )
        if has_lora(policy.network):
            base_path = self._config.policy.model_path
            if self._config.policy.merge_adapter:
                # Relative to the adapter, because a checkpoint's folder is moved after it has been written.
                base_path = f"../{MERGED_BASE}"
                save_mdm(folder / MERGED_BASE, 0, base_network(policy.network), args, policy.normalizer)
            save_adapter(folder / "adapter", policy.network, base_model=base_path)
        return save_mdm(folder, version.number, policy.network, args, policy.normalizer)

    def _write_one_action(self, policy: OneActionPolicy, version: PolicyVersion, folder: Path) -> Path:
        from rollouts.checkpoints.adapters import base_network, merge_into_base, save_adapter

        policy.load_weights(version.weights)
        if isinstance(policy, RefiningPolicy):
            return self._write_refiner(policy, version, folder)
        network: MotionSSM = policy.network
        save = functools.partial(
            save_motion_ssm,
            normalizer=policy.normalizer,
            skeleton=policy.skeleton,
            encoder=self._encoder,
            trained_frames=policy.trained_frames,
            provenance={"command": cli.command_of(self._config, "jobs.grpo"), "updates": version.number},
        )
        if not has_lora(network):
            return save(folder, network)
        base_path = self._config.policy.model_path
        if self._config.policy.merge_adapter:
            base_path = f"../{MERGED_BASE}"
            save(folder / MERGED_BASE, base_network(network))
        save_adapter(folder / "adapter", network, base_model=base_path)
        return save(folder, merge_into_base(network))

    def _write_refiner(self, policy: RefiningPolicy, version: PolicyVersion, folder: Path) -> Path:
        """The refiner with what was learned, as `jobs.generate --refiner` reads it; adapters are merged."""
        from rollouts.checkpoints.adapters import merge_into_base

        network = policy.network
        head = (merge_into_base(network) if has_lora(network) else network).prior
        provenance = {"command": cli.command_of(self._config, "jobs.grpo"), "updates": version.number}
        save_refiner(folder, dataclasses.replace(network.refiner, residual=head), provenance=provenance)
        return folder

    def finish(self, version: PolicyVersion, folder: Path) -> Path:
        """Writes a run's result: the same files, with an MDM under the name `model_final.pt`."""
        if isinstance(self._policy, OneActionPolicy):
            return self.write(version, folder)
        final = folder / "model_final.pt"
        os.replace(self.write(version, folder), final)
        return final
