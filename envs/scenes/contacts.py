"""Contacts of a simulated scene as events: who touched what, when, and how hard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOOR = "floor"
GAP_S = 0.05
"""Contacts of one pair that are interrupted for less than this are one event."""

Pair = tuple[str, str]


@dataclass(slots=True)
class Contact:
    """Two things that touch for a while."""

    start_s: float
    """Time of the physics step in which they began to touch."""
    end_s: float
    body: str
    """`ACTOR/BODY` for a body of a humanoid, else the name of a thing."""
    object: str
    """The other one: a thing, another humanoid's body, or `floor`."""
    impulse_ns: float
    """Sum of the normal forces over time, N s."""
    peak_n: float
    """Largest normal force of a physics step, N."""

    @property
    def is_of_actor(self) -> bool:
        """Whether a humanoid touches a thing or another humanoid."""
        return "/" in self.body and self.object != FLOOR


def pair_of(first: str, second: str) -> Pair:
    """The two as an event names them: a humanoid's body first, the floor last."""
    ranked = sorted((first, second), key=lambda name: (name == FLOOR, "/" not in name, name))
    return ranked[0], ranked[1]


class ContactLog:
    """Joins the contacts of physics steps to events.

    Example:
        log.add(0.25, 1 / 240, {("man/right_ankle", "ball"): 310.0})
        log.events[-1].impulse_ns   # 1.29
    """

    def __init__(self) -> None:
        self.events: list[Contact] = []
        self._open: dict[Pair, Contact] = {}

    def add(self, time: float, step_s: float, forces: Mapping[Pair, float]) -> None:
        """The normal forces (N) of the pairs that touched in the physics step that begins at `time`."""
        for pair, force in sorted(forces.items()):
            event = self._open.get(pair)
            if event is None or time - event.end_s > GAP_S:
                event = Contact(time, time, *pair, 0.0, 0.0)
                self._open[pair] = event
                self.events.append(event)
            event.end_s = time + step_s
            event.impulse_ns += force * step_s
            event.peak_n = max(event.peak_n, force)
