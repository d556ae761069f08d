"""Factories of tiny real parts for actors. Imports are inside: an actor loads what its own part needs, no more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from learners.grpo.settings import GRPOSettings
from rewards.settings import RewardSettings
from tests.toys.running.cluster_toys import strike

if TYPE_CHECKING:
    import numpy as np

    from learners.grpo.learner import GRPOLearner
    from rewards.tmr.scorer import SemanticScorer
    from rollouts.diffusion.policy import DiffusionPolicy
    from rollouts.diffusion.worker import RolloutWorker
    from rollouts.messages import Trajectory

GRPO = GRPOSettings(group_size=4, learning_rate=1e-3, num_epochs=2, groups_per_optimizer_step=2, micro_batch_size=3)
REWARDS = RewardSettings.of(use_dense_reward=True)


def build_policy() -> DiffusionPolicy:
    from rollouts.checkpoints.adapters import add_lora
    from rollouts.settings import PolicySettings
    from tests.toys.tiny_policy import tiny_policy

    policy = tiny_policy(guidance_scale=1.5)
    add_lora(policy.network, PolicySettings(model_path="tiny", use_lora=True, lora_r=4))
    return policy


def build_rollouts() -> RolloutWorker:
    from rollouts.diffusion.worker import RolloutWorker

    return RolloutWorker(build_policy())


def build_learner() -> GRPOLearner:
    from learners.grpo.learner import GRPOLearner

    return GRPOLearner(build_policy(), GRPO)


def build_dying_learner(flag: Path) -> GRPOLearner:
    """Its process ends in the fourth update, once, when the weights have changed already."""
    from learners.grpo.learner import GRPOLearner

    class Dying(GRPOLearner):
        """A learner on a machine that fails."""

        def update(self, trajectories: Sequence[Trajectory], advantages: np.ndarray) -> dict[str, float]:
            metrics = super().update(trajectories, advantages)
            if self.number == 4 and strike(flag):
                os._exit(1)
            return metrics

    return Dying(build_policy(), GRPO)


def build_semantic() -> SemanticScorer:
    from motions.skeleton.skeletons import HUMANML3D
    from rewards.tmr.scorer import Embedder, SemanticScorer
    from tests.toys.small_tmr import WordEncoder, small_tmr

    return SemanticScorer(Embedder(small_tmr(), WordEncoder()), REWARDS, HUMANML3D)
