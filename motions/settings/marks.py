"""What a declaration says of an option besides its type: what it changes, and how files from before it are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Affects = Literal["results", "length", "evaluation", "speed", "records"]
"""What an option changes. `results`: what is computed. `length`: only how long it goes on. `evaluation`: only how the
finished result is measured. `speed`: only where and how fast it is computed. `records`: only what is kept and shown."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Marks a field by what it changes, where that is not what its class says in `affects`.

    Example:
        num_steps: Annotated[int, Effect("length")] = 100
    """

    on: Affects


@dataclass(frozen=True, slots=True)
class KeptOnResume:
    """Marks a field of a better default than earlier versions had: a run of theirs that goes on keeps its own value.

    Example:
        swing_exemption: Annotated[str, KeptOnResume("cliff")] = "smooth"
    """

    before: object
    """The value that a file from before the field existed implies."""


@dataclass(frozen=True, slots=True)
class Retired:
    """An option of earlier versions that had one legal value: files and commands that say it are still read."""

    accepted: tuple[str, ...]
    """Its value, in all ways to write it."""
    reason: str
    """Why there is no other."""

    def accepts(self, given: object) -> bool:
        """Whether a value of a file is the legal one."""
        return str(given).lower() in self.accepted
