"""The values that a search may give to options; pure functions that need no Ray.

A space maps options (by dotted path) to domains. In a file a domain is a mapping of its kind to its values; anything
else is the value that all trials have:

    kl_penalty: {log_uniform: [1.0e-4, 1.0e-1]}
    alpha: {uniform: [0.0, 1.0]}
    group_size: {integers: [8, 32]}
    clip_epsilon: {choice: [1.0e-4, 1.0e-3]}
    num_steps: 40
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from motions.base.errors import MistakesError, UserError

Kind = Literal["uniform", "log_uniform", "integers", "choice"]
MOST_GRID_TRIALS = 10_000


@dataclass(frozen=True, slots=True)
class Domain:
    """The values of one option: an interval with both ends, or a list."""

    kind: Kind
    values: tuple[Any, ...]
    """Both ends of an interval; all values of `choice`."""

    @property
    def is_continuous(self) -> bool:
        """Whether it is an interval of real numbers."""
        return self.kind in ("uniform", "log_uniform")

    @property
    def listed(self) -> tuple[Any, ...]:
        """All its values.

        Raises:
            UserError: there are infinitely many.
        """
        if self.is_continuous:
            raise UserError(f"{self.kind} {list(self.values)} has no end of values; a grid needs choice or integers")
        return tuple(range(self.values[0], self.values[1] + 1)) if self.kind == "integers" else self.values

    @property
    def tested(self) -> tuple[Any, ...]:
        """Values that stand for all: if an option accepts these, it accepts those between."""
        return self.values

    def place(self, value: Any) -> float:
        """Where a value lies in the domain, from 0 to 1, in the scale by which it is searched."""
        if self.kind == "choice":
            return self.values.index(value) / max(1, len(self.values) - 1)
        low, high, value = map(float, (*self.values, value))
        if self.kind == "log_uniform":
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low) if high > low else 0.0

    def as_yaml(self) -> dict[str, list[Any]]:
        """The domain as a file says it."""
        return {self.kind: list(self.values)}


@dataclass(frozen=True, slots=True)
class Space:
    """What the trials of a search differ in, and what they have in common, by dotted path."""

    domains: Mapping[str, Domain]
    fixed: Mapping[str, Any]

    @classmethod
    def read(cls, values: Mapping[str, Any], source: str) -> Space:
        """The space of a file's options.

        Args:
            values: domain or value by dotted path.
            source: for messages.

        Raises:
            MistakesError: a domain is empty or not as its kind needs it, or there is none.
        """
        domains: dict[str, Domain] = {}
        fixed: dict[str, Any] = {}
        mistakes = []
        for path, value in values.items():
            if not isinstance(value, Mapping):
                fixed[path] = value
                continue
            try:
                domains[path] = read_domain(value)
            except UserError as error:
                mistakes.append(f"{source}: {path}: {error}")
        if not domains and not mistakes:
            mistakes.append(f"{source}: no option has a domain, such as {{choice: [1, 2]}}: there is nothing to search")
        if mistakes:
            raise MistakesError(mistakes)
        return cls(domains, fixed)

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of values.

        Raises:
            UserError: a domain has no end of values, or there are too many combinations.
        """
        listed = {}
        for path, domain in self.domains.items():
            try:
                listed[path] = domain.listed
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
        total = math.prod(len(values) for values in listed.values())
        if total > MOST_GRID_TRIALS:
            raise UserError(f"a grid of this space has {total} trials, more than {MOST_GRID_TRIALS}: search at random")
        return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]

    def tested(self) -> Iterator[dict[str, Any]]:
        """Values by which a space can be checked before it is searched: each domain's, one domain at a time."""
        for path, domain in self.domains.items():
            for value in domain.tested:
                yield {path: value}


def read_domain(given: Mapping[str, Any]) -> Domain:
    """The domain that a mapping of its kind to its values says.

    Raises:
        UserError: an unknown kind, an empty range, or values of the wrong type.
    """
    kinds = get_args(Kind)
    if len(given) != 1 or next(iter(given)) not in kinds:
        raise UserError(f"{dict(given)} is no domain: expected one of {', '.join(kinds)} with a list of values")
    kind, values = next(iter(given.items()))
    if not isinstance(values, (list, tuple)) or not values:
        raise UserError(f"{kind} is {values!r}: expected a list of values")
    if kind == "choice":
        kept = tuple(tuple(value) if isinstance(value, list) else value for value in values)
        if len(set(kept)) < len(kept):
            raise UserError(f"choice {values} names a value twice")
        return Domain("choice", kept)
    whole = kind == "integers"
    if len(values) != 2 or not all(_is_number(value, whole=whole) for value in values):
        raise UserError(f"{kind} is {values}: expected [lowest, highest], two {'integers' if whole else 'numbers'}")
    low, high = values if whole else map(float, values)
    if low >= high:
        raise UserError(f"{kind} {values} is an empty range: the first number must be below the second")
    if kind == "log_uniform" and low <= 0:
        raise UserError(f"log_uniform {values}: both ends must be above 0")
    return Domain(cast("Kind", kind), (low, high))


def _is_number(value: Any, *, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return False
    return math.isfinite(value)
