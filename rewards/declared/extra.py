"""Rewards of a user's own, which `extra_rewards` names."""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from motions.base.errors import UserError
from rewards.declared.declaration import RewardDeclaration

_PARTS = ("name", "from_settings", "score", "score_many")


def parse_extra_reward(entry: str) -> tuple[str, float]:
    """Splits `package.module:Class=0.5` into class and weight, (`package.module:Class`, 0.5); the default weight is 1.

    Raises:
        UserError: no module, no class, or a weight that is no finite number.
    """
    target, separator, text = entry.partition("=")
    module, colon, cls = target.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), cls))):
        raise UserError(f"extra_rewards {entry}: expected package.module:Class or package.module:Class=weight")
    try:
        weight = float(text) if separator else 1.0
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UserError(f"extra_rewards {entry}: the weight {text!r} is not a finite number")
    return target, weight


@dataclass(frozen=True, slots=True)
class ExtraReward:
    """A reward that `extra_rewards` names."""

    target: str
    """`package.module:Class`."""
    declaration: RewardDeclaration
    """What it declares; a reward that declares nothing has neither options nor meanings."""
    factor: float
    """Of its weight."""


def load_extra_rewards(entries: Sequence[str], taken: Collection[str]) -> dict[str, ExtraReward]:
    """The rewards that `extra_rewards` names, by their own names.

    Args:
        taken: names that no reward may have.

    Raises:
        UserError: an entry cannot be read, a class is no scorer, its name is taken, or it declares the options
            of another one.
    """
    found: dict[str, ExtraReward] = {}
    for entry in entries:
        target, factor = parse_extra_reward(entry)
        cls = load_scorer_class(target)
        if cls.name in taken or cls.name in found:
            raise UserError(f"extra reward {target!r}: the name {cls.name!r} is taken by another reward")
        declaration = _declaration_of(cls)
        for name, other in found.items():
            if declaration.options is not None and declaration.options is other.declaration.options:
                raise UserError(
                    f"extra reward {target!r} declares the options of {name!r}: each reward has a class of its own for "
                    "them, such as an empty subclass"
                )
        found[cls.name] = ExtraReward(target, declaration, factor)
    return found


def load_scorer_class(target: str) -> Any:
    """The class that `package.module:Class` names.

    Raises:
        UserError: it cannot be imported, lacks a member of a scorer, or declares what is no declaration.
    """
    module_name, _, class_name = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"extra reward {target!r}: {error}; expected an importable package.module:Class") from error
    declaration = _declaration_of(cls)
    if not isinstance(declaration, RewardDeclaration):
        raise UserError(f"extra reward {target!r}: its declaration is {declaration!r}; expected a RewardDeclaration")
    parts = [*_PARTS]
    parts += ["misfit"] if declaration.limits_prompts else []
    parts += ["score_with_gradient"] if declaration.differentiable else []
    if lacking := [part for part in parts if not hasattr(cls, part)]:
        raise UserError(
            f"extra reward {target!r} lacks {', '.join(lacking)} (see rewards/scorers.py and rewards/gradients.py)"
        )
    if declaration.options is not None and not cls.name.isidentifier():
        raise UserError(f"extra reward {target!r}: its options begin with its name, so {cls.name!r} must be one word")
    return cls


def _declaration_of(cls: Any) -> RewardDeclaration:
    return getattr(cls, "declaration", RewardDeclaration())
