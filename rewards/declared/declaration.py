"""What a reward says about itself beside its scorer; everything else reads it from here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from motions.settings import Settings

Better = Literal["higher", "lower", "neutral"]


@dataclass(frozen=True, slots=True)
class Term:
    """What a term of a reward means, for the report.

    Example:
        Term("Mean height of the head, metres", "neutral", own_scale=True)
    """

    meaning: str
    better: Better = "higher"
    """The direction that is better."""
    own_scale: bool = False
    """Whether it has a unit or a scale of its own: the report's charts then show it apart from rewards."""
    like_real: bool = False
    """Whether nearer to the value of real motions is better, wherever that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardDeclaration:
    """A reward's options, weight, terms and properties: the attribute `declaration` of a scorer's class.

    Example:
        RewardDeclaration(
            options=HeadHeightSettings,
            weight=lambda own: own.head_weight,
            terms={"head_height": Term("Mean height of the head, metres")},
        )
    """

    options: type[Settings] | None = None
    """Its group of options; they are flags of `jobs.grpo` and keys of its files, as `rewards.NAME.OPTION`."""
    weight: Callable[[Any], float | None] = lambda own: 1.0
    """Weight of its main term in the total by its options; None: it is no part of the run, and nothing of it is loaded.
    The weight in `extra_rewards` is a factor of it."""
    terms: Mapping[str, Term] = field(default_factory=dict)
    """Its terms by name, in the order of the report. One that is missing is reported by its name alone."""
    label: Callable[[Any], str] | None = None
    """How the report calls it, by its options; otherwise by its name."""
    differentiable: bool = False
    """Whether its main term has a gradient with respect to the motion, almost everywhere. Its scorer then has a method
    `score_with_gradient` (`rewards/gradients.py`)."""
    limits_prompts: bool = False
    """Whether its scorer has a method `misfit`, which says why it cannot score motions of a prompt. Such a scorer is
    also built once before a run starts, on the CPU, and asked about every prompt."""
    scorer: str | Callable[[Any], str] = ""
    """`package.module:Class` of a built-in reward, perhaps by its options. It declares itself apart from its scorer:
    `--help` would load torch otherwise."""
