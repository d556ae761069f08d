"""The objects of a GRPO run: what its actors build, and what its checkpoints export.

Factories are module-level functions of the configuration, so that they pickle into any process; the same configuration
builds the same bits in each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from learners.grpo.advantages import Advantages
    from learners.grpo.learner import GRPOLearner
    from rewards.messages import RewardTerms
    from rewards.mixing import MixedRewards
    from rollouts.diffusion.policy import DiffusionPolicy
    from rollouts.diffusion.worker import RolloutWorker
    from rollouts.messages import PolicyVersion
    from rollouts.text.encoders import TextEncoder


def build_rollout_worker(config: GRPOConfig) -> RolloutWorker:
    """What a rollout actor holds."""
    from rollouts.checkpoints.loading import load_policy
    from rollouts.diffusion.worker import RolloutWorker

    return RolloutWorker(load_policy(config, config))


def build_learner(config: GRPOConfig) -> GRPOLearner:
    """What the learner actor holds."""
    from learners.grpo.learner import GRPOLearner
    from rollouts.checkpoints.loading import load_policy

    return GRPOLearner(load_policy(config, config), config)


def mix_rewards(config: GRPOConfig, results: Sequence[RewardTerms], prompt_text: str) -> MixedRewards:
    """The rewards of one group from what the scorers returned."""
    from rewards.mixing import combine

    return combine(results, config, prompt_text)


def step_advantages(config: GRPOConfig, total: np.ndarray, terms: dict[str, np.ndarray]) -> Advantages:
    """Advantages of a step from totals [P, N] and terms [P, N] by name."""
    from learners.grpo.advantages import WeightedTerm, group_advantages
    from rewards.mixing import term_weights

    weighted = {name: WeightedTerm(w, terms[name]) for name, w in term_weights(config).items() if name in terms}
    return group_advantages(total, config, weighted)


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
        from rollouts.checkpoints.adapters import base_network, has_lora, save_adapter
        from rollouts.checkpoints.mdm_files import model_args_of, save_mdm
        from rollouts.checkpoints.model_args import ModelArgs

        policy = self._policy
        policy.load_weights(version.weights)
        args = model_args_of(
            policy.network,
            policy.schedule,
            policy.skeleton.name,
            self._encoder.name,
            text_encoder_fingerprint=self._encoder.fingerprint,
            command=cli.command_of(self._config, "jobs.grpo"),
            extra=self._config.model_dump(mode="json", exclude=set(ModelArgs.model_fields)),
        )
        if has_lora(policy.network):
            base_path = self._config.model_path
            if self._config.merge_adapter:
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
