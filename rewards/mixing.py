"""R_total = beta_s * R_sem + beta_p * R_phy + beta_t * R_track + critic_weight * R_critic (+ weight * extra).

The terms are kept beside the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.messages import RewardError, RewardTerms
from rewards.scorers import reward_weights
from rewards.settings import RewardSettings
from rewards.validation import check_terms


@dataclass(frozen=True, slots=True)
class MixedRewards:
    """The rewards of the N motions of one group."""

    total: np.ndarray
    """Total rewards [N] float32."""
    terms: dict[str, np.ndarray]
    """Every term of every scorer by name, [N] float32."""


def mix(terms: Mapping[str, np.ndarray], settings: RewardSettings) -> np.ndarray:
    """Total reward [N] float32 of terms [N].

    Raises:
        RewardError: a term with a weight other than 0 is missing.
    """
    total = np.zeros(len(next(iter(terms.values()))), dtype=np.float64)
    for name, weight in reward_weights(settings).items():
        if weight == 0.0:
            continue
        if name not in terms:
            raise RewardError(f"reward term {name!r} (weight {weight}) is missing; there are {', '.join(terms)}")
        total += weight * terms[name].astype(np.float64)
    return total.astype(np.float32)


def combine(results: Sequence[RewardTerms], settings: RewardSettings, prompt_text: str) -> MixedRewards:
    """Merges the terms that the scorers returned for one group, and mixes them.

    Raises:
        RewardError: a term is not finite or not [N], two scorers use the same name, or a weighted term is missing. The
            caller decides by `on_reward_error` whether that stops the run or drops the group.
    """
    if not results:
        raise RewardError(f"no scorer returned anything for prompt {prompt_text!r}")
    num_samples = len(next(iter(results[0].terms.values()))) if results[0].terms else 0
    terms: dict[str, np.ndarray] = {}
    for result in results:
        check_terms(result.scorer, result.terms, prompt_text, num_samples)
        if repeated := terms.keys() & result.terms.keys():
            raise RewardError(f"reward {result.scorer!r}: term names {sorted(repeated)} are taken by another scorer")
        terms |= result.terms
    return MixedRewards(mix(terms, settings), terms)
