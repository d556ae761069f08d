"""Parts of a run that depend on the algorithm: batches, rewards, advantages, and exports.

The controller itself is independent of the algorithm. GRPO, or an algorithm of your own, is an `Algorithm` of plain
functions and a learner (`cluster/run/learner_service.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from rewards.messages import Mixed, RewardTerms
from rollouts.messages import GroupMotions, PolicyVersion, RolloutRequest


class BatchSource(Protocol):
    """Source of the rollout requests."""

    def requests(self, step: int, policy_version: int) -> list[RolloutRequest]:
        """The groups of a training step (counted from 0), as a function of the arguments alone."""
        ...

    def evaluation(self, policy_version: int) -> list[RolloutRequest]:
        """The groups of every evaluation: the same prompts and seeds each time."""
        ...


class StepAdvantages(Protocol):
    """Advantages of one step, with metrics."""

    @property
    def values(self) -> np.ndarray:
        """Advantages [P, N] of the groups' samples."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the advantages, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The functions that make up an algorithm.

    Example:
        Algorithm(batches, ("semantic", "physics"), partial(combine_terms, settings), partial(advantages_of, settings))
    """

    batches: BatchSource
    scorers: tuple[str, ...]
    """Names of the scorers; each scores every group."""
    combine: Callable[[Sequence[RewardTerms], str], Mixed]
    """Maps the scorers' results for a group and its prompt's text to rewards; `RewardError` if one is not finite."""
    advantages: Callable[[np.ndarray, dict[str, np.ndarray]], StepAdvantages]
    """Maps totals [P, N], and the terms [P, N] that all groups have by name, to advantages."""
    on_reward_error: Literal["fail", "drop_group"] = "fail"
    export: Callable[[PolicyVersion, Path], None] | None = None
    """Writes the policy's files into a checkpoint's folder."""
    beside_rewards: Callable[[GroupMotions], dict[str, np.ndarray]] | None = None
    """Further terms [N] of a group's motions in evaluations, which nothing is trained on."""
    after_evaluation: Callable[[int], bool | None] | None = None
    """Called with the step after an evaluation has been recorded; whether the training ends there."""
    staleness: int = 0
    """Updates by which the version that rolls out may be behind the learner's: 1 lets the rollouts of the next step be
    made while this step is updated."""
