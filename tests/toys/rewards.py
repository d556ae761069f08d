"""Rewards that a user adds by a name such as `tests.toys.rewards:MeanFeature`, good and bad ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motions.settings import Settings
from motions.skeleton.skeletons import Skeleton
from rewards.declared.declaration import RewardDeclaration
from rewards.messages import RewardError, RewardTerms
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions


class MeanFeature:
    """An extra reward whose class name is not its name."""

    name = "brightness"

    def __init__(self, offset: float) -> None:
        self.offset = offset

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> MeanFeature:
        return cls(settings.semantic.beta_s + skeleton.fps)

    def score(self, motions: GroupMotions) -> RewardTerms:
        means = [motion[:length].mean() for motion, length in zip(motions.features, motions.lengths, strict=True)]
        return RewardTerms(self.name, {self.name: np.array(means, np.float32) + self.offset}, 0.0)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        return [self.score(group) for group in groups]


class Semantic(MeanFeature):
    """Takes a built-in name."""

    name = "semantic"


class NoScorer:
    """Lacks everything but a name."""

    name = "nothing"


class Undeclared(MeanFeature):
    """Declares what is no declaration."""

    declaration = "heavy"


class Limited(MeanFeature):
    """Does not say which prompts it cannot score, although it declares so."""

    declaration = RewardDeclaration(limits_prompts=True)


class WeighedSettings(Settings):
    """Options of a reward."""

    heaviness: float = 1.0
    """Its weight; 0 leaves it out."""


class Weighed(MeanFeature):
    """Its weight is an option of its own."""

    name = "weighed"
    declaration = RewardDeclaration(options=WeighedSettings, weight=lambda own: own.heaviness or None)


class Height:
    """An extra reward for the tests: the mean root height."""

    name = "height"

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> Height:
        return cls()

    def score(self, motions: GroupMotions) -> RewardTerms:
        return RewardTerms(self.name, {self.name: motions.features[:, :, 3].mean(axis=1)}, 0.0)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        return [self.score(group) for group in groups]


class FickleScorer:
    """A reward that fails for one prompt as soon as the policy has learnt something."""

    name = "fickle"

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> FickleScorer:
        return cls()

    def score(self, motions: GroupMotions) -> RewardTerms:
        if motions.prompt.text == "jumps" and motions.policy_version > 0:
            raise RewardError("it cannot see this")
        return RewardTerms(self.name, {self.name: np.ones(len(motions.features), np.float32)}, 0.0)

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        return [self.score(group) for group in groups]
