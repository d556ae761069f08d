"""MotionCritic's score of motions in SMPL's rotations, as a reward of a policy that makes them.

The score is that of the critic itself, without inverse kinematics: motions are turned upright, their rotations become
vectors, and each clip is scored by itself. All is differentiable and changes none of its inputs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motions.data.prompts import Prompt
from rewards.actions.humanact12 import NUM_FEATURES, mdm_of_features
from rewards.critic.network import MotionCritic
from rewards.critic.poses import poses_of_rotations, upright
from rewards.messages import RewardTerms
from rewards.validation import check_motions, check_terms
from rollouts.messages import GroupMotions


def scores_of_mdm(critic: MotionCritic, motion: Tensor) -> Tensor:
    """Scores [N] of `[N, 25, 6, T]` as the data has it."""
    return critic(poses_of_rotations(upright(motion)))


class RotationCritic:
    """A scorer of the critic's raw score. Term: critic."""

    name = "critic"

    def __init__(self, critic: MotionCritic) -> None:
        self.critic = critic.eval().requires_grad_(False)

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Scores [N] of one group.

        Raises:
            RewardError: a motion or a score is not finite.
        """
        start = time.perf_counter()
        check_motions(self.name, motions, NUM_FEATURES, 1)
        features, lengths = (torch.from_numpy(np.array(part)) for part in (motions.features, motions.lengths))
        with torch.no_grad():
            scores = self.score_with_gradient(features, lengths, motions.prompt)
        terms = {self.name: scores.float().numpy()}
        check_terms(self.name, terms, motions.prompt.text, len(motions.features))
        return RewardTerms(self.name, terms, time.perf_counter() - start)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Scores of several groups, in their order."""
        return [self.score(group) for group in groups]

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """Scores [N] of features [N, T, 150]; gradients flow to them."""
        poses = poses_of_rotations(upright(mdm_of_features(features)))
        return self.critic(poses, lengths)
