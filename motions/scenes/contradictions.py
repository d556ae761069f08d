"""Relations that cannot hold together, found before anything is placed.

Left, front, on and above each order entities along one axis; an order that leads back to where it began is impossible.
"""

from __future__ import annotations

from collections.abc import Sequence

Triple = tuple[str, str, str]
"""Subject, relation, object."""

_ORDERS = {
    "left_of": ("x", False),
    "right_of": ("x", True),
    "in_front_of": ("y", False),
    "behind": ("y", True),
    "below": ("z", False),
    "above": ("z", True),
    "on": ("z", True),
}
"""Axis, and whether the subject has the larger coordinate."""


def contradiction(relations: Sequence[Triple]) -> str | None:
    """The relations of the shortest impossible order, such as "a left_of b, b left_of a"; None if there is none.

    Besides orders, containers are looked at: nothing is inside what is inside it, and nothing inside a thing is on it,
    above it or below it as well.
    """
    loops: list[list[Triple]] = []
    for axis in "xyz":
        loops += _loop(
            [
                ((one[2], one[0]) if _ORDERS[one[1]][1] else (one[0], one[2]), one)
                for one in relations
                if one[1] in _ORDERS and _ORDERS[one[1]][0] == axis
            ]
        )
    loops += _loop([((one[0], one[2]), one) for one in relations if one[1] == "inside"])
    inside = {frozenset((one[0], one[2])): one for one in relations if one[1] == "inside"}
    for one in relations:
        if one[1] in _ORDERS and (other := inside.get(frozenset((one[0], one[2])))):
            loops.append([other, one])
    return ", ".join(" ".join(one) for one in min(loops, key=len)) if loops else None


def _loop(edges: Sequence[tuple[tuple[str, str], Triple]]) -> list[list[Triple]]:
    """For each edge the shortest way back from its end to its beginning, if any."""
    loops = []
    for (start, end), first in edges:
        ways: dict[str, list[Triple]] = {end: [first]}
        waiting = [end]
        while waiting and start not in ways:
            here = waiting.pop(0)
            for (source, goal), relation in edges:
                if source == here and goal not in ways:
                    ways[goal] = [*ways[here], relation]
                    waiting.append(goal)
        if start in ways:
            loops.append(ways[start])
    return loops
