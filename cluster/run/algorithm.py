"""What a run does, as the controller sees it: batches, rewards, advantages, and what is exported.

The controller knows no algorithm. GRPO, or one's own, is an `Algorithm` of plain functions and a learner
(`cluster/run/learner_service.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from rewards.messages import Mixed, RewardTerms
from rollouts.messages import PolicyVersion, RolloutRequest


class BatchSource(Protocol):
    """Where requests come from."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        """The groups of a training step (counted from 0): a function of the arguments alone."""
        ...

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        """The groups of every evaluation: the same prompts and seeds each time."""
        ...


class StepAdvantages(Protocol):
    """Advantages of one step."""

    @property
    def values(self) -> np.ndarray:
        """[P, N]."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """What is worth knowing about them."""
        ...


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What a run does; see the fields.

    Example:
        Algorithm(batches, ("semantic", "physics"), partial(combine_terms, settings), partial(advantages_of, settings))
    """

    batches: BatchSource
    scorers: tuple[str, ...]
    """Names of the scorers; each scores every group."""
    combine: Callable[[Sequence[RewardTerms], str], Mixed]
    """(what the scorers returned for one group, its prompt's text) -> rewards; `RewardError` for what is not finite."""
    advantages: Callable[[np.ndarray, dict[str, np.ndarray]], StepAdvantages]
    """(totals [P, N], terms that all groups have [P, N] by name) -> advantages."""
    on_reward_error: Literal["fail", "drop_group"] = "fail"
    export: Callable[[PolicyVersion, Path], None] | None = None
    """Writes the policy's files into a checkpoint's folder."""
    after_evaluation: Callable[[int], None] | None = None
    """Called with the step when an evaluation is on record."""
