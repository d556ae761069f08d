"""Options of the evaluation of characters; imports neither torch nor ray."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from motions.settings import Affects, Settings


class ControlEvaluationSettings(Settings):
    """Evaluation from fixed starts on the clip."""

    affects: ClassVar[Affects] = "evaluation"

    eval_episodes: int = Field(default=20, ge=1)
    """Episodes, from as many phases evenly spread over the clip; the first starts at phase 0."""

    eval_steps: int = Field(default=600, ge=1)
    """Longest episode in control steps; an episode that lasts so long is a success. A clip that does not repeat ends
    earlier."""

    eval_push_forces: tuple[Annotated[float, Field(gt=0)], ...] = (100.0, 200.0)
    """Newtons of the pushes of 0.2 s that are tried, in addition to episodes without; none: no pushes."""

    eval_push_directions: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)
    """Directions of those pushes, degrees counter-clockwise from the facing (0: from behind, forward)."""

    eval_push_at_s: float = Field(default=2.0, ge=0)
    """When they come. An episode has recovered if it goes on for 5 s without a fall."""
