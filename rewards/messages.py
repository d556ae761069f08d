"""Results of scorers: named terms for each motion, and the mixed rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from motions.base.errors import UserError


class RewardError(UserError):
    """A reward raised an error or is not finite; the message names the reward, the term, the prompt and the sample."""


@dataclass(frozen=True, slots=True)
class RewardTerms:
    """Named terms of one scorer for the N motions of one call, in the order of the motions.

    Example:
        RewardTerms(scorer="physics", terms={"physics": np.ones(16, np.float32)}, seconds=0.1)
    """

    scorer: str
    terms: dict[str, np.ndarray]
    """Term name -> [N] float32; every value is finite."""
    seconds: float


class Mixed(Protocol):
    """Rewards of one group of N samples."""

    @property
    def total(self) -> np.ndarray:
        """Total rewards [N] of the group."""
        ...

    @property
    def terms(self) -> dict[str, np.ndarray]:
        """Values [N] of every term by name."""
        ...
