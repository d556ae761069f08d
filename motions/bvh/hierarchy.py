"""Parses the HIERARCHY section of a BVH file: joints, their offsets and channels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NoReturn

from motions.base.errors import UserError

_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
_DEEPEST = 200
"""Joints below each other: far more than a body has, and fewer than Python's calls in calls."""
MOST = 1e9
"""Beyond any length, angle or place that a file holds, in any unit."""


class BvhError(UserError):
    """A BVH file is unreadable or malformed; the message names the file and the line."""


@dataclass(frozen=True)
class Node:
    """A joint, or the end site of a joint (named `<joint>/End`, without channels)."""

    name: str
    parent: int
    """Index of its parent among the nodes; -1 for a root."""
    offset: tuple[float, float, float]
    """x, y, z from the parent, in the file's length unit."""
    channels: tuple[str, ...]
    """Channel names such as `Xposition`, `Zrotation`, in the file's order."""
    is_end: bool


def parse_hierarchy(name: str, lines: list[str], motion: int) -> tuple[Node, ...]:
    """The nodes that the lines before line `motion` describe, parents first; `name` is the file's.

    Raises BvhError naming the line.
    """
    words = [(word, number) for number, line in enumerate(lines[:motion], 1) for word in _words(line)]
    return _Hierarchy(name, [*words, ("MOTION", motion + 1)]).read()


def _words(line: str) -> list[str]:
    return line.replace("{", " { ").replace("}", " } ").split()


@dataclass
class _Hierarchy:
    """Recursive-descent parser of the HIERARCHY section; each word keeps its line number for messages."""

    name: str
    words: list[tuple[str, int]]
    place: int = 0
    nodes: list[Node] = field(default_factory=list)
    num_roots: int = 0
    earlier: frozenset[str] = frozenset()
    """Names below the roots before this one."""

    def read(self) -> tuple[Node, ...]:
        """All nodes of the hierarchy, parents first."""
        self.expect("HIERARCHY")
        while not self.num_roots or self.peek().upper() == "ROOT":
            self.expect("ROOT")
            self.num_roots += 1
            self.earlier = frozenset(node.name for node in self.nodes)
            self.node(-1)
        if self.peek() != "MOTION":
            self.fail(f"expected MOTION, found {self.peek()!r}")
        return tuple(self.nodes)

    def node(self, parent: int, depth: int = 1) -> None:
        """Reads a joint and its children, from its name to its closing brace."""
        if depth > _DEEPEST:
            self.fail(f"more than {_DEEPEST} joints below each other")
        name = self.joint_name()
        index = len(self.nodes)
        self.nodes.append(Node(name, parent, self.offset(), self.channels(), False))
        while (word := self.take()) != "}":
            if word.upper() == "JOINT":
                self.node(index, depth + 1)
            elif word.upper() == "END":
                self.end_site(index)
            else:
                self.place -= 1
                self.fail(f"expected JOINT, End Site or }} in joint {name!r}, found {word!r}")

    def end_site(self, parent: int) -> None:
        """Reads an `End Site` block."""
        while self.take() != "{":  # "Site", or a name some exporters add
            pass
        suffix = sum(node.is_end and node.parent == parent for node in self.nodes)
        name = f"{self.nodes[parent].name}/End{suffix or ''}"
        self.nodes.append(Node(name, parent, self.offset(), (), True))
        self.expect("}")

    def joint_name(self) -> str:
        """Reads a joint's name, which may hold spaces; one that a root before this one has gets the root's number."""
        first = self.place
        while self.take() != "{":
            pass
        name = " ".join(word for word, _ in self.words[first : self.place - 1])
        name = f"{self.num_roots}:{name}" if name in self.earlier else name
        if not name or any(node.name == name for node in self.nodes):
            self.place = first
            self.fail(f"a second joint {name!r}" if name else "a joint without a name")
        return name

    def offset(self) -> tuple[float, float, float]:
        """Reads a joint's OFFSET: x, y, z in the file's unit."""
        self.expect("OFFSET")
        return (self.length(), self.length(), self.length())

    def length(self) -> float:
        """Reads a number that can be a length in some unit."""
        value = self.number()
        if abs(value) > MOST:
            self.place -= 1
            self.fail(f"OFFSET {value:g} is beyond {MOST:g}, which no body has in any unit")
        return value

    def channels(self) -> tuple[str, ...]:
        """Reads a joint's CHANNELS."""
        if self.peek().upper() != "CHANNELS":
            return ()
        self.expect("CHANNELS")
        count = self.number()
        channels = []
        for _ in range(int(count)):
            word = self.take()
            match = _CHANNEL.fullmatch(word)
            if match is None:
                self.place -= 1
                self.fail(f"expected {count:.0f} channels such as Zrotation or Xposition, found {word!r}")
            channel = match[1].upper() + match[2].lower()
            # Z, X, Z is an order of rotations; the same axis twice in a row, or a position twice, is none.
            if channel in channels and (channel.endswith("position") or channel == channels[-1]):
                self.place -= 1
                self.fail(f"{word} stands twice in these CHANNELS")
            channels.append(channel)
        return tuple(channels)

    def number(self) -> float:
        """Reads a finite number."""
        word = self.take()
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.place -= 1
            self.fail(f"expected a number, found {word!r}")
        return value

    def expect(self, keyword: str) -> None:
        """Reads `keyword`, in any case."""
        if self.peek().upper() != keyword:
            self.fail(f"expected {keyword}, found {self.peek()!r}")
        self.place += 1

    def take(self) -> str:
        """The next word, which is consumed."""
        word = self.peek()
        if word == "MOTION":
            self.fail("a } is missing before MOTION")
        self.place += 1
        return word

    def peek(self) -> str:
        """The next word, which is not consumed; empty at the end."""
        return self.words[self.place][0]

    def fail(self, reason: str) -> NoReturn:
        """Raises BvhError with the line of the current word."""
        raise BvhError(f"{self.name}:{self.words[self.place][1]}: {reason}")
