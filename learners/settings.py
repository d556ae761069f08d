"""Options that learners share; imports neither torch nor ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from motions.settings import Settings

LearningRateSchedule = Literal["constant", "cosine"]


class ScheduledSettings(Settings):
    """Settings whose field `lr_schedule`, a `LearningRateSchedule`, says how learning rates fall over a training."""

    if TYPE_CHECKING:
        lr_schedule: LearningRateSchedule

    @property
    def depends_on_length(self) -> bool:
        """See `Settings.depends_on_length`: the cosine's rate has been another one from the first step on."""
        return self.lr_schedule == "cosine"

    def decay_steps(self, total: int) -> int:
        """Optimizer steps of the cosine in a training of `total` ones; 0 for a constant rate."""
        return total if self.lr_schedule == "cosine" else 0
