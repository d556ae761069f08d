"""The critic's reward: how natural a motion looks, whatever its prompt says.

    critic = mean over the windows w of log sigmoid(s_w - reference)

which is the logarithm of the probability, by the critic's own model of choices, that a person prefers the window to a
typical real motion, whose score is the reference. It has the full gradient where a motion is bad and levels off at 0
where it is better than real ones: a policy that drives scores beyond those of real motion finds that it earns nothing
more, and a single window's flaw is not made up for by the others. Scores are comparable within a prompt, which is where
GRPO compares them.

Joints come from the motion features, and rotations from the joints by inverse kinematics (`rewards.critic.poses`), so
scores are those of approximate rotations, for every skeleton in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.settings import BUILTIN
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import Skeleton
from rewards.critic.checkpoints import LoadedCritic, load_critic
from rewards.critic.scoring import joint_scores
from rewards.declared.critic import CriticModelSettings
from rewards.messages import RewardTerms
from rewards.settings import BUILTIN_CRITIC_FOLDER, RewardSettings
from rewards.validation import check_motions, check_terms
from rollouts.devices import resolve_device
from rollouts.messages import GroupMotions

MIN_FRAMES = 4
"""Shortest motion in frames."""


class CriticScorer:
    """Naturalness by a critic. Terms: critic, critic_score, critic_worst.

    Example:
        scorer = CriticScorer.from_settings(RewardSettings.of(critic_weight=1.0), HUMANML3D)
        scorer.score(motions).terms["critic"]   # [N]
    """

    name = "critic"

    def __init__(self, loaded: LoadedCritic, settings: RewardSettings, skeleton: Skeleton) -> None:
        """Creates a scorer for motions of `skeleton`.

        Raises:
            UserError: `critic_window` is longer than the critic's longest clip, or the device does not exist.
        """
        own = settings.critic
        self.window = window_of(loaded, own)
        self.critic = loaded.critic.requires_grad_(False).to(resolve_device(settings.reward_device))
        self.reference = reference_of(loaded, own)
        self.skeleton = skeleton
        self.max_frames = settings.max_motion_length

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> CriticScorer:
        """Loads the weights that the settings name."""
        return cls(load_critic_of(settings.critic), settings, skeleton)

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples.

        Raises:
            RewardError: a motion is not finite or shorter than 4 frames, or a term is not finite.
        """
        start = time.perf_counter()
        check_motions(self.name, motions, self.skeleton.num_features, MIN_FRAMES)
        features, lengths = (torch.from_numpy(np.array(values)) for values in (motions.features, motions.lengths))
        with torch.inference_mode():
            windows = self._window_scores(features, lengths)
            values = {
                "critic": [reward_of_scores(scores, self.reference) for scores in windows],
                "critic_score": [scores.mean() for scores in windows],
                "critic_worst": [scores.min() for scores in windows],
            }
            terms = {name: torch.stack(value).float().cpu().numpy() for name, value in values.items()}
        check_terms(self.name, terms, motions.prompt.text, len(motions.features))
        return RewardTerms(self.name, terms, time.perf_counter() - start)

    def score_with_gradient(self, features: Tensor, lengths: Tensor, prompt: Prompt) -> Tensor:
        """The main term [N] of motions [N, T, D], whatever their prompt; see `rewards.gradients`."""
        windows = self._window_scores(features, lengths)
        return torch.stack([reward_of_scores(scores, self.reference) for scores in windows])

    def _window_scores(self, features: Tensor, lengths: Tensor) -> list[Tensor]:
        """Scores [W] of the windows of each motion."""
        places = recover_joints(features, self.skeleton) * self.skeleton.metres_per_unit
        joints = [
            motion[:length] for motion, length in zip(places, lengths.clamp(max=self.max_frames).tolist(), strict=True)
        ]
        return joint_scores(self.critic, joints, self.skeleton, self.skeleton.fps, self.window)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups, in their order."""
        return [self.score(group) for group in groups]


def reward_of_scores(scores: Tensor, reference: float) -> Tensor:
    """The reward of a motion whose windows have `scores` [W]: mean of log sigmoid(score - reference), float64."""
    return logsigmoid(scores.double() - reference).mean()


def window_of(loaded: LoadedCritic, own: CriticModelSettings) -> int:
    """Frames of the windows by which motions are scored.

    Raises:
        UserError: `critic_window` is longer than the critic's longest clip.
    """
    window, most = own.critic_window or loaded.clip_frames, loaded.critic.config.maxlen
    if window > most:
        raise UserError(f"critic_window is {window} frames; the critic {loaded.source} takes at most {most}")
    return window


def reference_of(loaded: LoadedCritic, own: CriticModelSettings) -> float:
    """The score of a typical real motion, as the options or the weights' folder say; otherwise 0."""
    given = (own.critic_reference, loaded.typical_score, 0.0)
    return next(value for value in given if value is not None)


def load_critic_of(own: CriticModelSettings) -> LoadedCritic:
    """The critic that the settings name.

    Raises:
        UserError: there is none, or it is no critic.
    """
    if own.critic_checkpoint_path != BUILTIN:
        return load_critic(own.critic_checkpoint_path, own.critic_num_heads)
    if not BUILTIN_CRITIC_FOLDER.is_dir():
        raise UserError(
            f"critic_checkpoint_path builtin: no critic in {BUILTIN_CRITIC_FOLDER}; make one with python -m "
            "jobs.train_critic --preset critic_small, and give its folder"
        )
    return load_critic(BUILTIN_CRITIC_FOLDER, own.critic_num_heads)
