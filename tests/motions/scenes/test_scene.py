"""Files of scenes: what is read back, and how mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from motions.base.errors import UserError
from motions.scenes.contradictions import contradiction
from motions.scenes.rules import parse_text
from motions.scenes.scene import Entity, read_scene, scene_from_record, scene_schema, write_scene
from motions.scenes.vocabulary import nearest_verb, nouns, singular, verbs

TEXT = "A man walks to the table, then kicks the red ball next to it twice."


def record(**changes: Any) -> dict[str, Any]:
    return json.loads(parse_text(TEXT).model_dump_json()) | changes


def test_a_scene_is_read_back_as_it_was(tmp_path: Path) -> None:
    scene = parse_text(TEXT)
    write_scene(tmp_path / "scene.json", scene)
    assert read_scene(tmp_path / "scene.json") == scene
    assert scene.entity("ball").colour == "red" and scene.has("man") and not scene.has("woman")
    with pytest.raises(KeyError):
        scene.entity("woman")
    assert scene_schema()["properties"].keys() == record().keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "scene.json: version is 2; version 1 is read"),
        ({"version": None}, "scene.json: version is None; version 1 is read"),
        ({"entities": [], "actions": [], "relations": []}, "scene.json: entities: the scene is empty"),
        ({"colour": "red"}, "scene.json: colour: unknown name"),
        ({"entities": [{"name": "man"}, {"name": "man"}]}, "entities[1].name: 'man' is the name of an earlier entity"),
        ({"entities": [{"name": "man", "size_m": [1, 0, 1]}]}, "entities[0].size_m: [1.0, 0.0, 1.0]; expected three"),
        ({"entities": [{"name": "man", "mass_kg": 0}]}, "entities[0].mass_kg: input should be greater than 0, found 0"),
        ({"entities": [{"name": "man", "type": "alien"}]}, "entities[0].type: input should be 'person', 'animal', "),
        ({"entities": [{"type": "object"}]}, "entities[0].name: missing"),
        ({"entities": [{"name": " _2"}]}, "entities[0].name: ' _2'; expected a noun"),
        ({"actions": [{"actor": "he", "verb": "walk", "text": "x"}]}, "actions[0].actor: no entity is called 'he'"),
        (
            {"actions": [{"actor": "man", "verb": "kik", "text": "x"}]},
            "actions[0].verb: unknown verb 'kik'; the nearest known one is 'kick'",
        ),
        (
            {"actions": [{"actor": "man", "verb": "walk", "text": "x", "seconds": 0}]},
            "actions[0].seconds: 0 s; expected more than 0 and at most 60 s",
        ),
        ({"actions": [{"actor": "man", "verb": "walk", "text": "x", "seconds": 60.5}]}, "actions[0].seconds: 60.5 s"),
        ({"actions": [{"actor": "man", "verb": "walk", "text": "x", "repeat": 0}]}, "actions[0].repeat: input should"),
        ({"relations": [{"subject": "ball", "relation": "atop", "object": "table"}]}, "relations[0].relation: input"),
        ({"relations": [{"subject": "ball", "relation": "on", "object": "ball"}]}, "relations[0]: ball on itself"),
        (
            {"relations": [{"subject": "ball", "relation": "on", "object": "table", "after": 2}]},
            "relations[0].after: 2; there are 2 actions, from 0",
        ),
        (
            {
                "relations": [
                    {"subject": "ball", "relation": "left_of", "object": "table"},
                    {"subject": "table", "relation": "left_of", "object": "ball"},
                ]
            },
            "relations contradict each other: ball left_of table, table left_of ball",
        ),
    ],
)
def test_mistakes_are_named_by_their_path(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        scene_from_record(record(**changes), "scene.json")
    assert message in str(caught.value) and str(caught.value).startswith("scene.json: ")


def test_files_that_are_no_scenes(tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"scene\.json is not JSON"):
        read_scene(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="expected an object, found"):
        read_scene(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="version is missing"):
        read_scene(path)
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        read_scene(tmp_path / "none.json")


def test_contradictions_are_the_shortest_way_back() -> None:
    assert contradiction([("a", "left_of", "b"), ("b", "left_of", "c"), ("a", "behind", "c")]) is None
    assert contradiction([("a", "on", "b"), ("c", "above", "a"), ("b", "above", "c")]) == "a on b, c above a, b above c"
    assert contradiction(
        [("a", "right_of", "b"), ("a", "left_of", "b"), ("b", "left_of", "c"), ("c", "left_of", "a")]
    ) in (
        "a right_of b, a left_of b",
        "a left_of b, a right_of b",
    )
    assert contradiction([("a", "inside", "b"), ("b", "inside", "a")]) == "a inside b, b inside a"
    assert contradiction([("a", "inside", "b"), ("a", "on", "b")]) == "a inside b, a on b"
    assert contradiction([("a", "beside", "b"), ("b", "beside", "a"), ("b", "near", "a")]) is None


def test_every_word_has_one_meaning_and_the_forms_of_english() -> None:
    known = verbs()
    assert set(known.phrases.values()) == set(known.names)
    for word, base, form in [
        *[("kicks", "kick", "s"), ("stopping", "stop", "ing"), ("carried", "carry", "ed"), ("lying", "lie", "ing")],
        *[("goes", "go", "s"), ("ran", "run", "ed"), ("dances", "dance", "s"), ("catches", "catch", "s")],
    ]:
        assert (base, form) in known.forms[word]
    assert "back" not in known.forms and "back" in known.with_particle
    assert [singular(word) for word in ("boxes", "knives", "puppies", "glass", "children", "bus")] == [
        *("box", "knife", "puppy", None, "child", None)
    ]
    assert nearest_verb("wlak") == "walk" and nearest_verb("jogg") == "run"
    assert not set(nouns().colours) & set(nouns().sizes)
    assert Entity(name="ball_2", colour="red", material="rubber").noun == "red rubber ball"
