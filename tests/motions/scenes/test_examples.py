"""Composed texts and their scenes, and the lines that parsers write."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from motions.base.errors import UserError
from motions.scenes.examples.composed import MOST_ACTIONS, Clause, Composer, clauses_of
from motions.scenes.examples.targets import PREFIX, record_of, scene_of_target, target_figures, target_of
from motions.scenes.rules import parse_text
from motions.scenes.scene import Scene, check_scene

CAPTIONS = (
    "a person walks slowly forward",
    "a man crouches down, rolls forward and gets up",
    "a figure jumps with quick steps",
    "someone dances",
    "a person does not move",
    "a boy spins to the left",
)


def scenes(number: int, seed: int = 0) -> list[Scene]:
    """Scenes of a composer of the captions."""
    composer = Composer(clauses_of(CAPTIONS))
    return [composer.scene(np.random.default_rng([seed, place])) for place in range(number)]


def test_clauses_are_the_single_actions_of_captions_word_for_word() -> None:
    found = clauses_of(CAPTIONS)
    assert [(one.words, one.verb) for one in found] == [
        ("walks slowly forward", "walk"),
        ("crouches down", "crouch"),
        ("rolls forward", "roll"),
        ("gets up", "stand_up"),
        ("jumps with quick steps", "jump"),
        ("spins to the left", "spin"),
    ] or "jumps with quick steps" not in [one.words for one in found]
    assert all(any(one.words in caption for caption in CAPTIONS) for one in found)


def test_nothing_can_be_composed_of_captions_without_single_actions() -> None:
    with pytest.raises(UserError, match="no caption tells a single action"):
        Composer(clauses_of(["nobody is here"]))


def test_composed_scenes_are_legal_various_and_functions_of_the_generator() -> None:
    made = scenes(200)
    for scene in made:
        check_scene(scene)
        assert 1 <= len(scene.actions) <= MOST_ACTIONS and scene.text[0].isupper() and scene.text.endswith(".")
    assert made == scenes(200) and made != scenes(200, seed=1)
    assert {len(scene.actions) for scene in made} == {1, 2, 3, 4}
    kinds = Counter(name for scene in made for one in scene.actions for name in one.model_fields_set)
    assert kinds["target"] and any(one.start == "with" for scene in made for one in scene.actions)
    assert any(one.repeat > 1 for scene in made for one in scene.actions)
    assert any(one.seconds for scene in made for one in scene.actions) and any(scene.relations for scene in made)


def test_the_rules_read_composed_texts_as_they_were_composed() -> None:
    made = scenes(100)
    read = [[(one.actor, one.verb) for one in parse_text(scene.text).actions] for scene in made]
    right = [[(one.actor, one.verb) for one in scene.actions] for scene in made]
    assert sum(a == b for a, b in zip(read, right, strict=True)) >= 95


def test_a_line_gives_its_scene_back() -> None:
    for scene in scenes(100):
        again = scene_of_target(target_of(scene), scene.text, "t5")
        assert again.actions == scene.actions and again.relations == scene.relations
        assert again.entities == scene.entities and again.parser == "t5"
    record = record_of(scenes(1)[0])
    assert record["input"].startswith(PREFIX) and json.loads(record["target"])["actions"]


def test_names_that_a_line_does_not_list_become_entities_and_foreign_predicates_notes() -> None:
    line = {
        "actions": [{"actor": "man", "verb": "kick", "target": "ball", "text": "a man kicks a ball"}],
        "entities": [{"name": "red wooden box", "type": "object"}],
        "relations": [
            {"subject": "box", "predicate": "near", "object": "wall"},
            {"subject": "man", "predicate": "wearing", "object": "hat"},
        ],
    }
    scene = scene_of_target(json.dumps(line), "text", "t5")
    assert [(one.name, one.type) for one in scene.entities] == [
        ("box", "object"),
        ("man", "person"),
        ("ball", "object"),
        ("wall", "object"),
    ]
    assert (scene.entities[0].colour, scene.entities[0].material) == ("red", "wood")
    assert scene.notes == ("man wearing hat: no relation of place, left out",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "no object"),
        ('{"actions":[{"actor":"man"}]}', "no scene"),
        ('{"entities":[{"type":"person"}]}', "no scene"),
        ('{"entities":7}', "no scene"),
        ('{"actions":[{"actor":"man","verb":"blorp","text":"a man blorps"}]}', "unknown verb 'blorp'"),
        ("{}", "the scene is empty"),
    ],
)
def test_what_is_no_scene_says_why(line: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        scene_of_target(line, "text", "t5")


def test_figures_count_what_agrees() -> None:
    right = target_of(Scene.model_validate(scenes(1)[0].model_dump()))
    assert target_figures([right], [right]) == {
        "json": 1.0,
        "scene": 1.0,
        "actions": 1.0,
        "entities": 1.0,
        "relations": 1.0,
    }
    other = json.loads(right)
    other["actions"] = [{"actor": "nobody", "verb": "walk"}, *other["actions"]]
    other["entities"] = [*other["entities"], {"name": "cup", "type": "object"}]
    figures = target_figures([right, right], [json.dumps(other), "{"])
    number = len(json.loads(right)["entities"])
    assert (figures["json"], figures["scene"], figures["actions"]) == (0.5, 0.0, 0.0)
    assert figures["entities"] == pytest.approx(2 * number / (3 * number + 1))


def test_a_clause_with_a_count_says_it_in_the_text_alone() -> None:
    clause = Clause("jumps", "jump", repeat=2, how_long=" twice")
    assert clause.said == "jumps twice" and clause.words == "jumps"
