"""What the planner minimises: a sum of squares over the centres of boxes, with its gradient; and what it checks.

Weights are those of the public project GenAI-Flickr: on 10, orders along an axis 5, beside 5, near 3, inside 3, overlap
2. Instead of its fixed offsets, distances are between the boxes' faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from motions.scenes.scene import Relation

WEIGHTS = {
    **{"on": 10.0, "inside": 3.0, "beside": 5.0, "near": 3.0, "overlap": 2.0, "place": 10.0, "path": 5.0},
    **dict.fromkeys(("left_of", "right_of", "in_front_of", "behind", "above", "below"), 5.0),
}
SLACK_M = 0.05
"""What is asked for beyond what is checked, so that the weak pull to the middle breaks nothing."""
BESIDE_M, NEAR_M = 0.5, 1.0
"""Largest gaps between boxes that are beside and near each other."""
ABOVE_M = 0.6
"""Largest height over what something is above."""
TOLERANCE_M = 0.01
PULL = 1e-3
"""Weight of the distance from the middle of the room."""
PERSON_RADIUS_M = 0.35
"""Free room around a path."""

_ORDERS = {"left_of": (0, -1.0), "right_of": (0, 1.0), "in_front_of": (1, -1.0), "behind": (1, 1.0)}
"""Axis, and the side of the object on which the subject is."""
_HOLLOW = ("table", "chair", "stool", "bed", "sofa")
"""Categories under which small things stand."""


@dataclass
class Terms:
    """The terms of a layout problem of N boxes.

    A row of `halves` is a half space: `sign * (p[i] - p[j])[axis] >= least`; `j` of -1 stands for the origin.
    """

    sizes: np.ndarray
    """Of the boxes [N, 3]."""
    halves: list[tuple[int, int, int, float, float, float]] = field(default_factory=list)
    """i, j, axis, sign, least, weight."""
    gaps: list[tuple[int, int, float, float]] = field(default_factory=list)
    """i, j, largest horizontal gap, weight."""
    together: set[tuple[int, int]] = field(default_factory=set)
    """Pairs i < j that may overlap: what is inside or under something."""
    path: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    """Places [K, 2] that must be free."""
    beside_path: frozenset[int] = frozenset()
    """Boxes that may stand in the path: those of the actors themselves."""

    def finish(self) -> None:
        """Makes arrays of the rows; to be called once, after the last one."""
        rows = np.array(self.halves or np.zeros((0, 6)))
        i, j, axis = (rows[:, k].astype(int) for k in range(3))
        self._fixed = j < 0
        self._from, self._to = 3 * i + axis, 3 * np.maximum(j, 0) + axis
        self._horizontal = np.tile([1.0, 1.0, 0.0], len(self.sizes))
        self._sign, self._least, self._weight = rows[:, 3], rows[:, 4], rows[:, 5]
        gaps = np.array(self.gaps or np.zeros((0, 4)))
        self._gi, self._gj = gaps[:, 0].astype(int), gaps[:, 1].astype(int)
        self._most, self._gap_weight = gaps[:, 2], gaps[:, 3]
        count = len(self.sizes)
        pairs = [(i, j) for i in range(count) for j in range(i + 1, count) if (i, j) not in self.together]
        self._oi, self._oj = np.array(pairs or np.zeros((0, 2)), int).T
        self._pair_sizes = (self.sizes[self._oi] + self.sizes[self._oj]) / 2
        self._gap_sizes = (self.sizes[self._gi] + self.sizes[self._gj])[:, :2] / 2
        self._walls = np.array([k for k in range(count) if k not in self.beside_path], int)

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and gradient at centres [3 N]."""
        points = flat.reshape(-1, 3)
        gradient = 2 * PULL * flat * self._horizontal
        value = PULL * float(self._horizontal @ flat**2)
        value += self._half_spaces(flat, gradient)
        if len(self._gi):
            value += self._near(points, gradient)
        if len(self._oi):
            value += self._overlaps(points, gradient)
        if len(self.path):
            value += self._free_path(points, gradient)
        return value, gradient

    def _half_spaces(self, flat: np.ndarray, gradient: np.ndarray) -> float:
        other = np.where(self._fixed, 0.0, flat[self._to])
        short = np.maximum(self._least - self._sign * (flat[self._from] - other), 0.0)
        slope = -2 * self._weight * short * self._sign
        gradient += np.bincount(self._from, slope, len(flat))
        gradient -= np.bincount(self._to, np.where(self._fixed, 0.0, slope), len(flat))
        return float(self._weight @ short**2)

    def _near(self, points: np.ndarray, gradient: np.ndarray) -> float:
        """Horizontal gaps between boxes that are to be small."""
        delta = points[self._gi, :2] - points[self._gj, :2]
        gap = np.maximum(np.abs(delta) - self._gap_sizes, 0.0)
        far = np.sqrt((gap**2).sum(1))
        over = np.maximum(far - self._most, 0.0)
        slope = (2 * self._gap_weight * over / np.maximum(far, 1e-12))[:, None] * gap * np.sign(delta)
        for axis in (0, 1):
            gradient += np.bincount(3 * self._gi + axis, slope[:, axis], len(gradient))
            gradient -= np.bincount(3 * self._gj + axis, slope[:, axis], len(gradient))
        return float(self._gap_weight @ over**2)

    def _overlaps(self, points: np.ndarray, gradient: np.ndarray) -> float:
        """Boxes that overlap are pushed apart along the shorter way."""
        delta = points[self._oi] - points[self._oj]
        depth = self._pair_sizes - np.abs(delta)
        axis = (depth[:, 1] < depth[:, 0]).astype(int)
        shortest = np.where(axis, depth[:, 1], depth[:, 0]) + SLACK_M
        shortest = np.where(depth[:, 2] > TOLERANCE_M / 2, np.maximum(shortest, 0.0), 0.0)
        if not shortest.any():
            return 0.0
        weight = WEIGHTS["overlap"]
        slope = -2 * weight * shortest * np.where(np.where(axis, delta[:, 1], delta[:, 0]) < 0, -1.0, 1.0)
        gradient += np.bincount(3 * self._oi + axis, slope, len(gradient))
        gradient -= np.bincount(3 * self._oj + axis, slope, len(gradient))
        return weight * float(shortest @ shortest)

    def _free_path(self, points: np.ndarray, gradient: np.ndarray) -> float:
        """Boxes within a person's radius of the path are pushed away."""
        delta = points[self._walls, None, :2] - self.path[None]
        depth = self.sizes[self._walls, None, :2] / 2 + PERSON_RADIUS_M + SLACK_M - np.abs(delta)
        axis = depth.argmin(2)
        shortest = np.maximum(np.take_along_axis(depth, axis[..., None], 2)[..., 0], 0.0)
        toward = np.take_along_axis(delta, axis[..., None], 2)[..., 0]
        weight = WEIGHTS["path"] / len(self.path)
        slope = -2 * weight * shortest * np.where(toward < 0, -1.0, 1.0)
        for k in (0, 1):
            gradient += np.bincount(3 * self._walls + k, np.where(axis == k, slope, 0.0).sum(1), len(gradient))
        return weight * float((shortest**2).sum())


def stands_under(subject: np.ndarray, other: np.ndarray, category: str) -> bool:
    """Whether a box of a size fits under a table, chair or the like; else what it is below hangs over it."""
    return category in _HOLLOW and bool(subject[2] <= 0.85 * other[2]) and bool((subject[:2] <= other[:2]).all())


def add_relation(terms: Terms, name: str, i: int, j: int, under: bool) -> None:
    """Adds what a relation of box i to box j asks for. `under`: `below` means that i stands under j."""
    weight = WEIGHTS[name]
    reach = (terms.sizes[i] + terms.sizes[j]) / 2
    pair = (min(i, j), max(i, j))
    if name in _ORDERS:
        axis, sign = _ORDERS[name]
        terms.halves.append((i, j, axis, sign, reach[axis] + SLACK_M, weight))
    elif name == "on":
        _within(terms, i, j, np.maximum(terms.sizes[j][:2] / 2 - SLACK_M, 0.0), weight)
        terms.halves += [(i, j, 2, sign, sign * reach[2], weight) for sign in (1.0, -1.0)]
    elif name == "above" or (name == "below" and not under):
        high, low = (i, j) if name == "above" else (j, i)
        _within(terms, i, j, np.maximum(terms.sizes[[i, j], :2].max(0) / 2 - SLACK_M, 0.0), weight)
        terms.halves += [
            (high, low, 2, 1.0, reach[2] + SLACK_M, weight),
            (high, low, 2, -1.0, -reach[2] - ABOVE_M / 2, weight),
        ]
    elif name in ("inside", "below"):
        room = np.maximum((terms.sizes[j] - terms.sizes[i]) / 2, 0.0)
        _within(terms, i, j, np.maximum(room[:2] - SLACK_M / 5, 0.0), weight)
        if name == "inside":
            terms.halves += [(i, j, 2, sign, -room[2], weight) for sign in (1.0, -1.0)]
        terms.together.add(pair)
    else:
        most = BESIDE_M / 2 if name == "beside" else NEAR_M / 2
        terms.gaps.append((i, j, most, weight))
        if name == "beside":
            terms.halves += [(i, j, 2, sign, -0.9 * reach[2], weight) for sign in (1.0, -1.0)]


def _within(terms: Terms, i: int, j: int, room: np.ndarray, weight: float) -> None:
    """The centre of i is at most `room` [2] away from that of j, along x and y."""
    for axis in (0, 1):
        terms.halves += [(i, j, axis, sign, -float(room[axis]), weight) for sign in (1.0, -1.0)]


def miss(
    relation: Relation, places: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], categories: Mapping[str, str]
) -> float:
    """By how many metres a relation is missed; 0 where it holds within a centimetre."""
    a, b = places[relation.subject], places[relation.object]
    size_a, size_b = sizes[relation.subject], sizes[relation.object]
    delta, reach = a - b, (size_a + size_b) / 2
    name = relation.relation
    apart = np.maximum(np.abs(delta) - reach, 0.0)
    if name in _ORDERS:
        axis, sign = _ORDERS[name]
        wrong = [reach[axis] - sign * delta[axis]]
    elif name == "on":
        wrong = [abs(delta[2] - reach[2]), *(np.abs(delta[:2]) - size_b[:2] / 2)]
    elif name == "below" and stands_under(size_a, size_b, categories[relation.object]):
        wrong = [*(np.abs(delta[:2]) - (size_b - size_a)[:2] / 2)]
    elif name in ("above", "below"):
        high = delta[2] if name == "above" else -delta[2]
        wrong = [reach[2] - high, high - reach[2] - ABOVE_M, *(np.abs(delta[:2]) - np.maximum(size_a, size_b)[:2] / 2)]
    elif name == "inside":
        wrong = [*(np.abs(delta) - (size_b - size_a) / 2)]
    else:
        wrong = [float(np.hypot(*apart[:2])) - (BESIDE_M if name == "beside" else NEAR_M)]
        if name == "beside":
            wrong.append(apart[2])
    worst = float(max(wrong))
    return worst if worst > TOLERANCE_M else 0.0


def overlap(a: np.ndarray, size_a: np.ndarray, b: np.ndarray, size_b: np.ndarray) -> float:
    """How deep two boxes are in each other, in metres, along the shortest way out."""
    return float(max(((size_a + size_b) / 2 - np.abs(a - b)).min(), 0.0))


def sizes_of(bodies: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Sizes as an array [N, 3]."""
    return np.array(bodies, np.float64).reshape(-1, 3)
