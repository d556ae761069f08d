"""Factories of tiny real parts for actors. Imports are inside: an actor loads what its own part needs, no more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from learners.grpo.settings import GRPOSettings
from rewards.settings import RewardSettings
from tests.toys.running.cluster_toys import strike

if TYPE_CHECKING:
    import numpy as np

    from learners.grpo.learner import GRPOLearner
    from rewards.gradients import MotionReward
    from rewards.tmr.scorer import SemanticScorer
    from rollouts.diffusion.worker import RolloutWorker
    from rollouts.messages import Trajectory
    from rollouts.policy import Policy

GRPO = GRPOSettings(group_size=4, learning_rate=1e-3, num_epochs=2, groups_per_optimizer_step=2, micro_batch_size=3)
STALE = GRPO.model_copy(update={"staleness": 1})
FOLLOWING = GRPO.model_copy(update={"policy_loss": "easytune", "kl_penalty": 0.1, "kl_threshold": 10.0})
"""Follows the reward's gradient, with an optimizer step for each kept denoising step."""
REWARDS = RewardSettings.of(use_dense_reward=True)


def build_policy(kind: str = "trans_enc", adapters: bool = False) -> Policy:
    """An MDM of that architecture, `motion_ssm` or `physics_ssm`. Adapters cost every process the import of peft, four
    seconds."""
    from tests.toys.tiny_policy import CONFIG, tiny_one_action_policy, tiny_policy, tiny_refining_policy

    one_action = {"motion_ssm": tiny_one_action_policy, "physics_ssm": tiny_refining_policy}
    policy: Policy
    policy = one_action[kind]() if kind in one_action else tiny_policy(replace(CONFIG, arch=kind), guidance_scale=1.5)
    if adapters:
        from rollouts.checkpoints.adapters import add_lora
        from rollouts.settings import PolicySettings

        spec = "prior" if kind in one_action else "all"
        add_lora(policy.network, PolicySettings(model_path="tiny", use_lora=True, lora_r=4, lora_target_spec=spec))
    return policy


def build_rollouts(kind: str = "trans_enc", adapters: bool = False) -> RolloutWorker:
    from rollouts.diffusion.worker import RolloutWorker

    return RolloutWorker(build_policy(kind, adapters))


def build_learner(kind: str = "trans_enc", adapters: bool = False) -> GRPOLearner:
    from learners.grpo.learner import GRPOLearner

    return GRPOLearner(build_policy(kind, adapters), GRPO)


def build_stale_learner(flag: Path | None = None) -> GRPOLearner:
    """A learner whose rollouts may be one update behind; with `flag` its process ends once."""
    from learners.grpo.learner import GRPOLearner

    return GRPOLearner(build_policy(), STALE) if flag is None else build_dying_learner(flag, STALE)


def build_following_learner(flag: Path | None = None) -> GRPOLearner:
    """A learner that follows the gradient of the semantic reward; with `flag` its process ends once."""
    from learners.grpo.learner import GRPOLearner
    from rewards.gradients import WeightedRewards

    reward = WeightedRewards([(1.0, build_semantic())])
    if flag is not None:
        return build_dying_learner(flag, FOLLOWING, reward)
    return GRPOLearner(build_policy(), FOLLOWING, reward=reward)


def build_dying_learner(
    flag: Path, settings: GRPOSettings = GRPO, reward: MotionReward | None = None, adapters: bool = False
) -> GRPOLearner:
    """Its process ends in the fourth update, once, when the weights have changed already."""
    from learners.grpo.learner import GRPOLearner

    class Dying(GRPOLearner):
        """A learner on a machine that fails."""

        def update(self, trajectories: Sequence[Trajectory], advantages: np.ndarray) -> dict[str, float]:
            metrics = super().update(trajectories, advantages)
            if self.number == 4 and strike(flag):
                os._exit(1)
            return metrics

    return Dying(build_policy(adapters=adapters), settings, reward=reward)


def build_semantic() -> SemanticScorer:
    from motions.skeleton.skeletons import HUMANML3D
    from rewards.tmr.scorer import Embedder, SemanticScorer
    from tests.toys.small_tmr import WordEncoder, small_tmr

    return SemanticScorer(Embedder(small_tmr(), WordEncoder()), REWARDS, HUMANML3D)
