"""Where everything in a scene stands: boxes of known sizes, placed so that the scene's relations hold.

Minimised is a sum of squares (`motions.scenes.terms`) by SciPy's L-BFGS-B with its analytic gradient, from several
starts by seed. The room and the floor are bounds. Afterwards every relation is checked; what is not met is listed with
its distance.

Example:
    layout = plan_layout(scene, ObjectIndex(load_objects()).bodies(scene))
    layout.places["ball"]   # centre of its box in metres: x to the right, y away from the camera, z up
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from motions.base.errors import UserError
from motions.scenes.contradictions import contradiction
from motions.scenes.objects import Body
from motions.scenes.scene import Relation, Scene
from motions.scenes.terms import SLACK_M, TOLERANCE_M, Terms, add_relation, miss, overlap, sizes_of, stands_under

ROOM_M = 10.0
"""Width and depth of the room, whose middle is the origin."""
CEILING_M = 8.0
STARTS = 12
"""Largest number of starts; the first whose layout meets everything is taken."""
_LIFT_M = 0.3
"""Height over what something is above, at the start."""
_ON_THE_FLOOR = ("person", "animal", "vehicle")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place that motion gives an entity: what is kicked stands where the foot is."""

    name: str
    """Of the entity."""
    point: tuple[float, float]
    """Of its centre, x and y in metres."""
    weight: float = 10.0
    """Against the weights of relations."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """A relation that a layout does not meet."""

    relation: Relation
    by_m: float
    """How far it is from being met."""


@dataclass(frozen=True)
class Layout:
    """Where the entities of a scene are."""

    places: Mapping[str, np.ndarray]
    """Centre of each entity's box [3], in metres."""
    bodies: Mapping[str, Body]
    relations: tuple[Relation, ...]
    """Those that hold from the beginning on, with what follows (a plate beside a cup is on the same table)."""
    unmet: tuple[Unmet, ...] = ()
    overlaps: tuple[tuple[str, str, float], ...] = ()
    """Pairs of boxes that are in each other, with the depth in metres."""
    objective: float = 0.0
    starts: int = 1
    """Number of starts that were needed."""

    @property
    def is_met(self) -> bool:
        """Whether all relations hold and no boxes overlap."""
        return not self.unmet and not self.overlaps


@dataclass
class _Problem:
    """A scene as arrays."""

    names: list[str]
    bodies: list[Body]
    relations: list[Relation]
    sizes: np.ndarray
    under: set[tuple[str, str]] = field(default_factory=set)
    """Subject and object of each `below` in which the subject stands under the object."""

    def place(self, name: str) -> int:
        return self.names.index(name)


def plan_layout(
    scene: Scene,
    bodies: Mapping[str, Body],
    *,
    seed: int = 0,
    starts: int = STARTS,
    room_m: float = ROOM_M,
    anchors: Sequence[Anchor] = (),
    path: np.ndarray | None = None,
) -> Layout:
    """Places the entities of a scene. Equal arguments give equal layouts.

    Args:
        bodies: of all entities, as `ObjectIndex.bodies` gives them.
        starts: at most so many starts are tried.
        room_m: width and depth of the room.
        anchors: places that are given.
        path: places [K, 2] where actors walk; nothing but what is anchored, and actors, stands within their way.

    Raises:
        UserError: relations contradict each other (they are named), an entity is larger than the room, or a path is not
            [K, 2].
    """
    relations = [one for one in scene.at_start() if one.subject != one.object]
    if found := contradiction([(one.subject, one.relation, one.object) for one in relations]):
        raise UserError(f"no layout is possible: {found} contradict each other")
    for name, body in bodies.items():
        if max(body.size_m[:2]) > room_m or body.size_m[2] > CEILING_M:
            raise UserError(f"{name!r} of {body.size_m[0]:g} x {body.size_m[1]:g} m does not fit into {room_m:g} m")
    problem = _problem(scene, bodies, relations)
    terms = _terms(problem, scene, anchors, path)
    bounds = _bounds(problem, room_m)
    best: Layout | None = None
    for number in range(max(starts, 1)):
        rng = np.random.default_rng([seed, number])
        start = np.clip(_start(problem, rng, anchors).ravel(), *np.array(bounds).T)
        # ftol is relative to 1, below which values here mean that everything is met.
        done = minimize(
            terms, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300, "ftol": 1e-6}
        )
        points = done.x.reshape(-1, 3)
        points[:, 2] = _heights(problem)
        layout = _checked(problem, points, float(done.fun), number + 1)
        if best is None or _badness(layout) < _badness(best):
            best = layout
        if layout.is_met:
            break
    assert best is not None
    return best


def _problem(scene: Scene, bodies: Mapping[str, Body], relations: Sequence[Relation]) -> _Problem:
    names = [one.name for one in scene.entities]
    own = [bodies[name] for name in names]
    problem = _Problem(names, own, list(relations), sizes_of([one.size_m for one in own]))
    for one in relations:
        a, b = bodies[one.subject], bodies[one.object]
        if one.relation == "below" and stands_under(np.array(a.size_m), np.array(b.size_m), b.category):
            problem.under.add((one.subject, one.object))
    problem.relations += _implied(scene, problem)
    return problem


def _implied(scene: Scene, problem: _Problem) -> list[Relation]:
    """What is beside a thing on a table is on the table too, unless it stands on the floor by its nature."""
    vertical = {name for one in problem.relations for name in _moved(one, problem)}
    supports = {one.subject: one.object for one in problem.relations if one.relation == "on"}
    implied: dict[str, Relation] = {}
    for one in problem.relations:
        for name, other in ((one.subject, one.object), (one.object, one.subject)):
            support = supports.get(other)
            if one.relation != "beside" or support is None or name in vertical or name == support or name in implied:
                continue
            small = (problem.sizes[problem.place(name), :2] < problem.sizes[problem.place(support), :2]).all()
            if small and scene.entity(name).type not in _ON_THE_FLOOR:
                implied[name] = Relation(subject=name, relation="on", object=support)
    return list(implied.values())


def _moved(relation: Relation, problem: _Problem) -> tuple[str, ...]:
    """Whose height a relation decides."""
    if relation.relation in ("on", "above", "inside"):
        return (relation.subject,)
    if relation.relation == "below":
        under = (relation.subject, relation.object) in problem.under
        return (relation.subject,) if under else (relation.object,)
    return ()


def _terms(problem: _Problem, scene: Scene, anchors: Sequence[Anchor], path: np.ndarray | None) -> Terms:
    terms = Terms(problem.sizes)
    for one in problem.relations:
        i, j = problem.place(one.subject), problem.place(one.object)
        add_relation(terms, one.relation, i, j, (one.subject, one.object) in problem.under)
    free = {problem.place(one.name) for one in scene.entities if one.type in ("person", "animal")}
    for anchor in anchors:
        if anchor.name not in problem.names:
            raise UserError(f"an anchor is of {anchor.name!r}, and no entity is called so")
        i = problem.place(anchor.name)
        free.add(i)
        for axis in (0, 1):
            where = float(anchor.point[axis])
            terms.halves += [(i, -1, axis, sign, sign * where, anchor.weight) for sign in (1.0, -1.0)]
    if path is not None:
        if path.ndim != 2 or path.shape[1] != 2:
            raise UserError(f"a path has shape {path.shape}; expected [K, 2]: x and y in metres")
        terms.path = path
    # What lies flat can be walked on, what hangs high walked under.
    heights = _heights(problem)
    flat = problem.sizes[:, 2] < SLACK_M
    high = heights - problem.sizes[:, 2] / 2 > 2.0
    terms.beside_path = frozenset(free | set(np.flatnonzero(flat | high).tolist()))
    terms.finish()
    return terms


def _bounds(problem: _Problem, room_m: float) -> list[tuple[float, float]]:
    """Of x, y and z of each box: in the room, and on or above the floor."""
    moved = {name for one in problem.relations for name in _moved(one, problem)}
    bounds = []
    for name, size in zip(problem.names, problem.sizes, strict=True):
        bounds += [(-(room_m - size[axis]) / 2, (room_m - size[axis]) / 2) for axis in (0, 1)]
        bounds.append((size[2] / 2, CEILING_M if name in moved else size[2] / 2))
    return bounds


def _heights(problem: _Problem) -> np.ndarray:
    """Heights of the centres [N] that follow from what is on, above, below or inside what."""
    half = problem.sizes[:, 2] / 2
    bottom = np.zeros(len(half))
    for _ in problem.names:
        for one in problem.relations:
            i, j = problem.place(one.subject), problem.place(one.object)
            top_i, top_j = bottom[i] + 2 * half[i], bottom[j] + 2 * half[j]
            if one.relation == "on":
                bottom[i] = top_j
            elif one.relation == "inside":
                bottom[i] = bottom[j]
            elif one.relation == "above":
                bottom[i] = max(bottom[i], top_j + _LIFT_M)
            elif one.relation == "below" and (one.subject, one.object) in problem.under:
                bottom[i] = bottom[j]
            elif one.relation == "below":
                bottom[j] = max(bottom[j], top_i + _LIFT_M)
    return bottom + half


def _start(problem: _Problem, rng: np.random.Generator, anchors: Sequence[Anchor]) -> np.ndarray:
    """Places [N, 3] in the order that left, right, front and behind ask for, and near what something is beside."""
    count = len(problem.names)
    points = np.zeros((count, 3))
    points[:, 2] = _heights(problem)
    points[:, :2] = rng.uniform(-1.5, 1.5, (count, 2))
    for axis, later, earlier in ((0, "right_of", "left_of"), (1, "behind", "in_front_of")):
        for _ in range(count):
            for one in problem.relations:
                i, j = problem.place(one.subject), problem.place(one.object)
                if one.relation in (later, earlier):
                    low, high = (j, i) if one.relation == later else (i, j)
                    reach = problem.sizes[[low, high], axis].sum() / 2 + 3 * SLACK_M
                    points[high, axis] = max(points[high, axis], points[low, axis] + reach)
    ordered = {
        one.subject for one in problem.relations if one.relation in ("left_of", "right_of", "in_front_of", "behind")
    }
    for _ in range(2):
        for one in problem.relations:
            i, j = problem.place(one.subject), problem.place(one.object)
            if one.relation in ("on", "inside", "above", "below"):
                spread = np.maximum(problem.sizes[j, :2] - problem.sizes[i, :2], 0.0) / 2
                points[i, :2] = points[j, :2] + rng.uniform(-1.0, 1.0, 2) * spread
            elif one.relation in ("beside", "near") and one.subject not in ordered:
                side = rng.choice([-1.0, 1.0])
                points[i, 0] = points[j, 0] + side * (problem.sizes[[i, j], 0].sum() / 2 + 3 * SLACK_M)
                points[i, 1] = points[j, 1]
    points[:, :2] -= points[:, :2].mean(0)
    for anchor in anchors:
        points[problem.place(anchor.name), :2] = anchor.point
    return points


def _checked(problem: _Problem, points: np.ndarray, objective: float, starts: int) -> Layout:
    places = dict(zip(problem.names, points, strict=True))
    sizes = dict(zip(problem.names, problem.sizes, strict=True))
    categories = {name: body.category for name, body in zip(problem.names, problem.bodies, strict=True)}
    misses = [(one, miss(one, places, sizes, categories)) for one in problem.relations]
    together = {frozenset((one.subject, one.object)) for one in problem.relations if one.relation == "inside"}
    together |= {frozenset(pair) for pair in problem.under}
    overlaps = []
    for i, first in enumerate(problem.names):
        for second in problem.names[i + 1 :]:
            depth = overlap(places[first], sizes[first], places[second], sizes[second])
            if frozenset((first, second)) not in together and depth > TOLERANCE_M:
                overlaps.append((first, second, depth))
    return Layout(
        places=places,
        bodies=dict(zip(problem.names, problem.bodies, strict=True)),
        relations=tuple(problem.relations),
        unmet=tuple(Unmet(one, by) for one, by in misses if by > 0),
        overlaps=tuple(overlaps),
        objective=objective,
        starts=starts,
    )


def _badness(layout: Layout) -> tuple[int, float]:
    return len(layout.unmet) + len(layout.overlaps), sum(one.by_m for one in layout.unmet) + layout.objective
