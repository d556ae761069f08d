"""The rewards of a run, by name: what they declare, their weights, and their scorers.

`build_scorers` gives one factory per scorer; a factory is small and picklable, and loads weights only when it is
called, in the process that will score. `semantic` and `physics` are built in (physics is computed even if
`use_physics_reward` is off, with weight 0, because its terms are informative), as is `tracking`, which simulates and is
left out unless `use_tracking_reward` is on. Your own rewards are named in `extra_rewards`:

    class Height:
        name = "height"                                   # also the name of its main term
        declaration = RewardDeclaration(...)              # options, weight, terms; may be left out

        @classmethod
        def from_settings(cls, settings, skeleton): ...   # RewardSettings, Skeleton -> Height
        def score(self, motions): ...                     # GroupMotions -> RewardTerms
        def score_many(self, groups): ...                 # several groups at once, in their order

In a run a group's reward is always one `score` call, so that its bits do not depend on how groups are distributed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, Self, runtime_checkable

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.settings import Settings
from motions.skeleton.skeletons import Skeleton
from rewards.declared.declaration import RewardDeclaration, Term
from rewards.declared.extra import load_extra_rewards, load_scorer_class
from rewards.messages import RewardTerms
from rewards.settings import BUILTIN_REWARDS, RESERVED, RewardSettings
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings


class Scorer(Protocol):
    """Interface of a reward: scores groups of motions."""

    name: str

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> Self:
        """Builds the scorer and loads its weights. With a third parameter `texts` it also gets `CheckpointSettings`:
        how the run reads texts."""
        ...

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples."""
        ...

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups, in their order."""
        ...


@runtime_checkable
class LimitsPrompts(Protocol):
    """What a scorer also has whose declaration says `limits_prompts`."""

    def misfit(self, prompt: Prompt) -> str | None:
        """Why motions of a prompt cannot be scored, for a message; None if they can."""
        ...


ScorerFactory = Callable[[], Scorer]


@dataclass(frozen=True, slots=True)
class RunReward:
    """One reward of a run."""

    scorer: str
    """`package.module:Class`."""
    declaration: RewardDeclaration
    own: Settings | None
    """Its options."""
    weight: float
    """Of its main term in the total."""


def rewards_of(settings: RewardSettings) -> dict[str, RunReward]:
    """The rewards of a run by name: built-in ones that are not left out, then those of `extra_rewards`.

    Raises:
        UserError: an extra reward cannot be imported or is none, its name is taken, or no reward has a weight.
    """
    found: dict[str, RunReward] = {}
    for name, declaration in BUILTIN_REWARDS.items():
        own = getattr(settings, name)
        if (weight := declaration.weight(own)) is not None:
            scorer = declaration.scorer if isinstance(declaration.scorer, str) else declaration.scorer(own)
            found[name] = RunReward(scorer, declaration, own, weight)
    for name, extra in load_extra_rewards(settings.extra_rewards, RESERVED).items():
        declaration = extra.declaration
        own = None if declaration.options is None else settings.own(declaration.options)
        if (weight := declaration.weight(own)) is not None:
            found[name] = RunReward(extra.target, declaration, own, extra.factor * weight)
    if not any(reward.weight for reward in found.values()):
        raise UserError("no reward has a weight: beta_s is 0 and no other one is on, so there is nothing to learn")
    return found


def reward_weights(settings: RewardSettings) -> dict[str, float]:
    """Weight in the total of each reward's main term, by its name; a physics reward that is off has 0."""
    return {name: reward.weight for name, reward in rewards_of(settings).items()}


def reward_terms(settings: RewardSettings) -> dict[str, Term]:
    """What the terms of a run's rewards mean, as far as they declare it, in the order of the report."""
    return {name: term for reward in rewards_of(settings).values() for name, term in reward.declaration.terms.items()}


def described_rewards(settings: RewardSettings) -> list[dict[str, Any]]:
    """The rewards of a run as `rewards.json` holds them for the report."""
    return [
        {
            "name": name,
            "label": name if reward.declaration.label is None else reward.declaration.label(reward.own),
            "weight": reward.weight,
            "differentiable": reward.declaration.differentiable,
            "terms": {term: asdict(meaning) for term, meaning in reward.declaration.terms.items()},
        }
        for name, reward in rewards_of(settings).items()
    ]


def build_scorers(
    settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None = None
) -> dict[str, ScorerFactory]:
    """A factory for each scorer of a run, by name; every scorer must score every group.

    Args:
        texts: how the semantic reward reads texts, as for `rewards.tmr.scorer.load_embedder`.

    Example:
        scorers = {name: factory() for name, factory in build_scorers(settings, HUMANML3D).items()}
        results = [scorer.score(motions) for scorer in scorers.values()]
        rewards = combine(results, settings, motions.prompt.text)
    """
    return {
        name: partial(_build, reward.scorer, settings, skeleton, texts) for name, reward in rewards_of(settings).items()
    }


def build_limiting_scorers(
    settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None = None
) -> dict[str, LimitsPrompts]:
    """The scorers that say which prompts they cannot score, built here on the CPU; arguments as of `build_scorers`.

    Those of kinetune that limit nothing are built too, so that what is wrong with their files is raised here.
    """
    here = settings.model_copy(update={"reward_device": "cpu"})
    found: dict[str, LimitsPrompts] = {}
    for name, reward in rewards_of(settings).items():
        if reward.declaration.limits_prompts:
            found[name] = _build(reward.scorer, here, skeleton, texts)
        elif name in BUILTIN_REWARDS:
            _build(reward.scorer, here, skeleton, texts)
    return found


def _build(target: str, settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None) -> Any:
    """A scorer, imported where it is built: an actor loads no more than its own reward."""
    cls = load_scorer_class(target)
    reads_texts = "texts" in inspect.signature(cls.from_settings).parameters
    return cls.from_settings(settings, skeleton, texts) if reads_texts else cls.from_settings(settings, skeleton)
