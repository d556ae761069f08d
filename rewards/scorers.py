"""The registry of rewards: the scorers of a run, by name.

`build_scorers` gives one factory per scorer; a factory is small and picklable, and loads weights only when it is
called, in the process that will score. `semantic` and `physics` are built in (physics is computed even if
`use_physics_reward` is off, with weight 0, because its terms are informative), as is `tracking`, which simulates and is
left out unless `use_tracking_reward` is on. Your own rewards are named in `extra_rewards`:

    class Height:
        name = "height"                                   # also the name of its main term

        @classmethod
        def from_settings(cls, settings, skeleton): ...   # RewardSettings, Skeleton -> Height
        def score(self, motions): ...                     # GroupMotions -> RewardTerms
        def score_many(self, groups): ...                 # several groups at once, in their order

In a run a group's reward is always one `score` call, so that its bits do not depend on how groups are distributed.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, Self, cast

from motions.base.errors import UserError
from motions.skeleton.skeletons import Skeleton
from rewards.messages import RewardTerms
from rewards.settings import RewardSettings, parse_extra_reward
from rollouts.messages import GroupMotions
from rollouts.settings import CheckpointSettings

BUILTIN_REWARDS: dict[str, tuple[str, Callable[[RewardSettings], float | None]]] = {
    "semantic": ("rewards.tmr.scorer:SemanticScorer", lambda settings: settings.beta_s or None),
    "physics": (
        "rewards.physics.kinematic:PhysicsScorer",
        lambda settings: settings.beta_p if settings.use_physics_reward else 0.0,
    ),
    "tracking": (
        "rewards.physics.tracking:TrackingScorer",
        lambda settings: settings.beta_t if settings.use_tracking_reward else None,
    ),
}
"""Scorer by name, and its weight in the total. None: it is no part of the run, and nothing of it is loaded."""

_PARTS = ("name", "from_settings", "score", "score_many")


class Scorer(Protocol):
    """Interface of a reward: scores groups of motions."""

    name: str

    @classmethod
    def from_settings(cls, settings: RewardSettings, skeleton: Skeleton) -> Self:
        """Builds the scorer and loads its weights."""
        ...

    def score(self, motions: GroupMotions) -> RewardTerms:
        """Terms [N] of one group, in the order of its samples."""
        ...

    def score_many(self, groups: Sequence[GroupMotions]) -> list[RewardTerms]:
        """Terms of several groups, in their order."""
        ...


ScorerFactory = Callable[[], Scorer]


def load_scorer_class(target: str) -> type[Scorer]:
    """The class that `package.module:Class` names.

    Raises:
        UserError: it cannot be imported or lacks a member of a scorer.
    """
    module_name, _, class_name = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"extra reward {target!r}: {error}; expected an importable package.module:Class") from error
    if lacking := [part for part in _PARTS if not hasattr(cls, part)]:
        raise UserError(f"extra reward {target!r} lacks {', '.join(lacking)} (see rewards/scorers.py)")
    return cast("type[Scorer]", cls)


def extra_scorers(settings: RewardSettings) -> dict[str, tuple[type[Scorer], float]]:
    """Classes and weights of `extra_rewards` by scorer name.

    Raises:
        UserError: a class is no scorer, or its name is taken.
    """
    found: dict[str, tuple[type[Scorer], float]] = {}
    for entry in settings.extra_rewards:
        target, weight = parse_extra_reward(entry)
        cls = load_scorer_class(target)
        if cls.name in (*BUILTIN_REWARDS, *found):
            raise UserError(f"extra reward {target!r}: the name {cls.name!r} is taken by another reward")
        found[cls.name] = (cls, weight)
    return found


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
    targets = {name: target for name, (target, weight) in BUILTIN_REWARDS.items() if weight(settings) is not None}
    factories: dict[str, ScorerFactory] = {
        name: partial(_build, target, settings, skeleton, texts) for name, target in targets.items()
    }
    extra = {name: partial(cls.from_settings, settings, skeleton) for name, (cls, _) in extra_scorers(settings).items()}
    if not any(reward_weights(settings).values()):
        raise UserError("no reward has a weight: beta_s is 0 and no other one is on, so there is nothing to learn")
    return factories | extra


def reward_weights(settings: RewardSettings) -> dict[str, float]:
    """Weight in the total of each reward's main term, by its name; a physics reward that is off has 0."""
    weights = {name: weight(settings) for name, (_, weight) in BUILTIN_REWARDS.items()}
    given = {name: weight for name, weight in weights.items() if weight is not None}
    return given | {name: weight for name, (_, weight) in extra_scorers(settings).items()}


def _build(target: str, settings: RewardSettings, skeleton: Skeleton, texts: CheckpointSettings | None) -> Scorer:
    """A built-in scorer, imported where it is built: an actor loads no more than its own reward."""
    cls: Any = load_scorer_class(target)
    reads_texts = "texts" in inspect.signature(cls.from_settings).parameters
    return cls.from_settings(settings, skeleton, texts) if reads_texts else cls.from_settings(settings, skeleton)
