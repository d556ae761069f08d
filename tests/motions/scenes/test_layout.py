"""The planner: gradient, relations, floor, room, seeds, anchors, paths, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scene_planning import gradient_error
from motions.base.errors import UserError
from motions.scenes.layout import Anchor, Layout, plan_layout
from motions.scenes.objects import ObjectIndex, load_objects
from motions.scenes.rules import parse_text
from motions.scenes.scene import Entity, Relation, Scene
from motions.scenes.terms import PERSON_RADIUS_M


def planned(text: str, **more: object) -> Layout:
    scene = parse_text(text)
    return plan_layout(scene, ObjectIndex(load_objects()).bodies(scene), **more)  # type: ignore[arg-type]


def edges(layout: Layout, name: str, axis: int) -> tuple[float, float]:
    """Both faces of a box along an axis."""
    half = layout.bodies[name].size_m[axis] / 2
    return layout.places[name][axis] - half, layout.places[name][axis] + half


def test_the_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(11)
    assert max(gradient_error(rng) for _ in range(10)) < 1e-5


def test_left_and_front_are_the_camera_s() -> None:
    layout = planned("A chair is left of a table. A box is in front of the table. A lamp is behind the table.")
    assert layout.is_met
    assert edges(layout, "chair", 0)[1] <= edges(layout, "table", 0)[0] + 0.01
    assert edges(layout, "box", 1)[1] <= edges(layout, "table", 1)[0] + 0.01
    assert edges(layout, "lamp", 1)[0] >= edges(layout, "table", 1)[1] - 0.01


def test_heights_follow_from_sizes() -> None:
    layout = planned(
        "A table is on a rug. A cup is on the table, and a plate is next to the cup. A ball is under the table. "
        "A picture is above the table. An apple is in a basket."
    )
    assert layout.is_met
    assert edges(layout, "table", 2) == pytest.approx((0.02, 0.76))
    assert edges(layout, "cup", 2)[0] == pytest.approx(0.76)
    assert edges(layout, "plate", 2)[0] == pytest.approx(0.76), "both on the table"
    assert Relation(subject="plate", relation="on", object="table") in layout.relations
    assert edges(layout, "ball", 2)[1] < 0.76 and edges(layout, "picture", 2)[0] > 0.76
    assert edges(layout, "apple", 2)[0] >= edges(layout, "basket", 2)[0]
    assert edges(layout, "basket", 2)[0] == pytest.approx(0.0)


def test_what_does_not_fit_under_something_has_it_hanging_over() -> None:
    layout = planned("A chair is under a lamp.")
    assert layout.is_met and edges(layout, "lamp", 2)[0] > edges(layout, "chair", 2)[1]


def test_the_same_seed_gives_the_same_layout_and_the_room_is_kept() -> None:
    text = "A sofa, a table, a bed, a piano and a shelf stand in the room. A lamp is near the bed."
    first, again, other = (planned(text, seed=seed, room_m=5.0) for seed in (1, 1, 2))
    assert all((first.places[name] == again.places[name]).all() for name in first.places)
    assert any((first.places[name] != other.places[name]).any() for name in first.places)
    for layout in (first, other):
        assert layout.is_met
        for name in layout.places:
            for axis in (0, 1):
                assert edges(layout, name, axis)[0] >= -2.5 - 1e-9 and edges(layout, name, axis)[1] <= 2.5 + 1e-9
            assert edges(layout, name, 2)[0] >= -1e-9


def test_anchors_are_kept_and_paths_are_free() -> None:
    path = np.stack([np.linspace(-2, 2, 30), np.zeros(30)], 1)
    text = "A man walks past a box, a chair and a table, and kicks a ball."
    layout = planned(text, anchors=[Anchor("ball", (2.0, 0.0)), Anchor("man", (-2.0, 0.0))], path=path)
    np.testing.assert_allclose(layout.places["ball"][:2], (2.0, 0.0), atol=0.01)
    for name in ("box", "chair", "table"):
        half = np.array(layout.bodies[name].size_m[:2]) / 2
        away = np.maximum(np.abs(path - layout.places[name][:2]) - half, 0.0).max(1)
        assert away.min() >= PERSON_RADIUS_M - 0.02, name
    assert layout.is_met
    crossed = planned(text, anchors=[Anchor("ball", (2.0, 0.0))], seed=0)
    assert (crossed.places["table"] != layout.places["table"]).any()


def test_unmet_relations_are_listed_with_their_distance() -> None:
    scene = Scene(
        entities=(Entity(name="box", size_m=(1.0, 1.0, 1.0)), Entity(name="cup", size_m=(0.2, 0.2, 0.2))),
        relations=(Relation(subject="box", relation="inside", object="cup"),),
    )
    layout = plan_layout(scene, ObjectIndex(load_objects()).bodies(scene), starts=2)
    (unmet,) = layout.unmet
    assert unmet.relation == scene.relations[0] and unmet.by_m == pytest.approx(0.8) and not layout.is_met


def test_what_an_action_brings_about_does_not_hold_before() -> None:
    layout = planned("A man puts a cup on the table.")
    assert layout.relations == () and edges(layout, "cup", 2)[0] == pytest.approx(0.0)


def test_what_is_refused() -> None:
    scene = Scene(
        entities=(Entity(name="box"), Entity(name="cup")),
        relations=(
            Relation(subject="box", relation="left_of", object="cup"),
            Relation(subject="box", relation="right_of", object="cup"),
        ),
    )
    bodies = ObjectIndex(load_objects()).bodies(scene)
    with pytest.raises(UserError, match="no layout is possible: box left_of cup, box right_of cup contradict"):
        plan_layout(scene, bodies)
    with pytest.raises(UserError, match=r"'box' of 0.4 x 0.4 m does not fit into 0.3 m"):
        plan_layout(scene.model_copy(update={"relations": ()}), bodies, room_m=0.3)
    with pytest.raises(UserError, match="an anchor is of 'dog', and no entity is called so"):
        planned("A box.", anchors=[Anchor("dog", (0.0, 0.0))])
    with pytest.raises(UserError, match=r"a path has shape \(3,\)"):
        planned("A box.", path=np.zeros(3))
