"""The objects of a GRPO run: what its actors build, and what its checkpoints export.

Factories are module-level functions of the configuration, so that they pickle into any process; the same configuration
builds the same bits in each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from learners.grpo.advantages import Advantages, WeightedTerm, group_advantages
from learners.grpo.learner import GRPOLearner
from rewards.messages import RewardTerms
from rewards.mixing import MixedRewards, combine
from rewards.scorers import reward_weights
from rewards.settings import RewardSettings
from rollouts.checkpoints.loading import load_policy
from rollouts.checkpoints.mdm_files import model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgs
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import PolicyVersion
from rollouts.text.encoders import TextEncoder


def build_rollout_worker(config: GRPOConfig) -> RolloutWorker:
    """What a rollout actor holds."""
    return RolloutWorker(load_policy(config.policy, config.sampling))


def build_learner(config: GRPOConfig) -> GRPOLearner:
    """What the learner actor holds."""
    return GRPOLearner(load_policy(config.policy, config.sampling), config.grpo)


def mix_rewards(settings: RewardSettings, results: Sequence[RewardTerms], prompt_text: str) -> MixedRewards:
    """The rewards of one group from what the scorers returned."""
    return combine(results, settings, prompt_text)


def step_advantages(config: GRPOConfig, total: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    """Advantages of a step from totals [P, N] and terms [P, N] by name."""
    weights = reward_weights(config.rewards)
    weighted = {name: WeightedTerm(weight, terms[name]) for name, weight in weights.items() if name in terms}
    return group_advantages(total, config.grpo, weighted)


MERGED_BASE = "merged_base"
"""Folder of an export with the base of its adapter, where no other file holds it."""


class PolicyExport:
    """Writes a version of the policy as files that others read: a merged MDM checkpoint and a peft adapter.

    Args:
        policy: on the CPU; its weights are replaced.
    """

    def __init__(self, config: GRPOConfig, policy: DiffusionPolicy, encoder: TextEncoder) -> None:
        self._config = config
        self._policy = policy
        self._encoder = encoder

    def __call__(self, version: PolicyVersion, folder: Path) -> None:
        """`model#########.pt`, `args.json`, `Mean.npy`, `Std.npy`, and with LoRA `adapter/` in peft's format.

        With `merge_adapter` the adapter's base is no checkpoint of anybody's: it is written too, into `merged_base/`.
        """
        self.write(version, folder)

    def write(self, version: PolicyVersion, folder: Path) -> Path:
        """As calling it; returns the model file."""
        # peft takes seconds to import, and the driver needs it at the end only.
        from rollouts.checkpoints.adapters import base_network, has_lora, save_adapter

        policy = self._policy
        policy.load_weights(version.weights)
        args = model_args_of(
            policy.network,
            policy.schedule,
            policy.skeleton.name,
            self._encoder.name,
            text_encoder_fingerprint=self._encoder.fingerprint,
            command=cli.command_of(self._config, "jobs.grpo"),
            extra={name: value for name, value in self._config.flat().items() if name not in ModelArgs.model_fields},
        )
        if has_lora(policy.network):
            base_path = self._config.policy.model_path
            if self._config.policy.merge_adapter:
                # Relative to the adapter, for a checkpoint's folder is moved after it was written.
                base_path = f"../{MERGED_BASE}"
                save_mdm(folder / MERGED_BASE, 0, base_network(policy.network), args, policy.normalizer)
            save_adapter(folder / "adapter", policy.network, base_model=base_path)
        return save_mdm(folder, version.number, policy.network, args, policy.normalizer)

    def finish(self, version: PolicyVersion, folder: Path) -> Path:
        """Writes a run's result to its top: as calling it, with the model under the name `model_final.pt`."""
        final = folder / "model_final.pt"
        os.replace(self.write(version, folder), final)
        return final
