"""Spaces: what a file may say, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from cluster.sweeps.space import Domain, Space, read_domain
from motions.base.errors import MistakesError, UserError


def test_a_mapping_is_a_domain_and_anything_else_a_value_of_all_trials() -> None:
    space = Space.read({"a.x": {"uniform": [0, 1]}, "a.y": 3, "a.z": [1, 2]}, "space.yaml")
    assert space.domains == {"a.x": Domain("uniform", (0.0, 1.0))}
    assert space.fixed == {"a.y": 3, "a.z": [1, 2]}
    assert space.domains["a.x"].as_yaml() == {"uniform": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"uniform": [1, 1]}, "empty range"),
        ({"log_uniform": [0.1, 0.01]}, "empty range"),
        ({"log_uniform": [0, 1]}, "above 0"),
        ({"integers": [1, 2.5]}, "two integers"),
        ({"uniform": [0, float("inf")]}, "two numbers"),
        ({"uniform": [0, 1, 2]}, "two numbers"),
        ({"choice": []}, "expected a list of values"),
        ({"choice": [1, 1]}, "names a value twice"),
        ({"normal": [0, 1]}, "expected one of uniform, log_uniform, integers, choice"),
        ({"uniform": [0, 1], "choice": [1]}, "is no domain"),
    ],
)
def test_domains_that_are_none(given: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_domain(given)


def test_every_mistake_of_a_file_is_named_at_once() -> None:
    with pytest.raises(MistakesError) as raised:
        Space.read({"x": {"uniform": [1, 0]}, "y": {"choice": []}}, "space.yaml")
    assert [line.split(":")[1].strip() for line in raised.value.lines] == ["x", "y"]
    with pytest.raises(MistakesError, match="nothing to search"):
        Space.read({"x": 1}, "space.yaml")


def test_a_grid_has_every_combination() -> None:
    space = Space.read({"x": {"choice": ["a", "b"]}, "y": {"integers": [1, 3]}}, "")
    assert len(space.grid()) == 6
    assert {"x": "b", "y": 3} in space.grid()
    with pytest.raises(UserError, match=r"^x: uniform .* has no end of values"):
        Space.read({"x": {"uniform": [0, 1]}}, "").grid()
    with pytest.raises(UserError, match="20000 trials"):
        Space.read({"x": {"integers": [1, 20_000]}}, "").grid()


def test_places_follow_the_scale_of_the_search() -> None:
    assert Domain("log_uniform", (0.01, 1.0)).place(0.1) == pytest.approx(0.5)
    assert Domain("uniform", (0.0, 4.0)).place(1.0) == pytest.approx(0.25)
    assert Domain("choice", ("a", "b", "c")).place("c") == 1.0


def test_the_ends_of_every_domain_are_tested() -> None:
    space = Space.read({"x": {"uniform": [0, 1]}, "y": {"choice": [3, 4, 5]}}, "")
    assert list(space.tested()) == [{"x": 0.0}, {"x": 1.0}, {"y": 3}, {"y": 4}, {"y": 5}]
