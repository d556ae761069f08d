"""The rule parser, one thing at a time; whole sentences are in tests/benchmarks/test_scene_parsing.py."""

from __future__ import annotations

import pytest

from motions.base.errors import UserError
from motions.scenes.rules import parse_text
from motions.scenes.scene import Scene


def told(scene: Scene) -> list[str]:
    """Actions in short."""
    return [
        ("& " if one.start == "with" else "")
        + f"{one.actor} {one.verb} {one.target or '-'}"
        + (f" x{one.repeat}" if one.repeat > 1 else "")
        + (f" {one.seconds:g}s" if one.seconds else "")
        for one in scene.actions
    ]


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("He sits before he runs.", ["man sit -", "man run -"]),
        ("Before he runs, the boy sits.", ["boy sit -", "boy run -"]),
        ("The boy runs after sitting.", ["boy sit -", "boy run -"]),
        ("While a girl dances, a boy claps.", ["girl dance -", "& boy clap -"]),
        ("A boy claps. Meanwhile a girl dances.", ["boy clap -", "& girl dance -"]),
        ("A man, standing in a good position, watches a trunk.", ["man look trunk", "& man stand -"]),
        ("A man does not sit or lie; he kneels.", ["man kneel -"]),
        ("A woman walks without stopping.", ["woman walk -"]),
        ("Two men run for 2.5 seconds.", ["man run - 2.5s", "& man_2 run - 2.5s"]),
        ("A person does three squats, then a backflip.", ["person crouch - x3", "person backflip -"]),
        ("A person performs two cartwheels and a roll.", ["person cartwheel - x2", "person roll -"]),
        ("Jump!", ["person jump -"]),
        ("The ball is thrown by a girl.", ["girl throw ball"]),
        ("A girl sings, and her brother does too.", ["girl sing -", "brother sing -"]),
        ("The dog barks. It runs to the gate and jumps over it.", ["dog bark -", "dog run gate", "dog jump gate"]),
        ("Two women sit. One of them stands up and the other one waves.", None),
        ("Nobody moves for 5 seconds, then everyone laughs.", ["person laugh -"]),
        ("A man waits half a minute and leaves.", ["man wait - 30s", "man walk -"]),
        ("A mechanic kneels and looks under a car.", ["mechanic kneel -", "mechanic look -"]),
    ],
)
def test_actions(text: str, actions: list[str] | None) -> None:
    if actions is None:
        actions = ["woman sit -", "& woman_2 sit -", "woman stand_up -", "woman_2 wave -"]
    assert told(parse_text(text)) == actions


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("A man puts a cup on the table.", [("cup", "on", "table", 0)]),
        ("A cup is on the table. A man takes it.", [("cup", "on", "table", None)]),
        ("A man kicks the ball to the left of the box.", [("ball", "left_of", "box", None)]),
        ("A man sits on a chair behind a desk.", [("chair", "behind", "desk", None), ("man", "on", "chair", 0)]),
        ("Under the table there is a cat.", [("cat", "below", "table", None)]),
        (
            "A lamp stands between a bed and a chair.",
            [("lamp", "beside", "bed", None), ("lamp", "beside", "chair", None)],
        ),
        ("A man knocks on the door.", []),
        ("A man raises his hand above the table.", []),
    ],
)
def test_relations(text: str, relations: list[tuple[str, str, str, int | None]]) -> None:
    found = [(one.subject, one.relation, one.object, one.after) for one in parse_text(text).relations]
    assert found == relations


def test_entities_have_colours_materials_sizes_and_names_of_their_own() -> None:
    scene = parse_text(
        "A small red ball is near a huge wooden box; another ball is in it. The red ball rolls, cartoon style."
    )
    assert [one.name for one in scene.entities] == ["ball", "box", "ball_2"]
    assert [(one.colour, one.material, one.scale) for one in scene.entities] == [
        *[("red", None, 0.75), (None, "wood", 1.7), (None, None, 1.0)]
    ]
    assert scene.style == "cartoon" and scene.actions[0].actor == "ball"
    assert parse_text("Anna hugs a policewoman.").entities[0].type == "person"


def test_what_is_left_out_is_noted() -> None:
    scene = parse_text("A man does not run, he walks.")
    assert scene.notes == ("'run' is negated, and left out",) and told(scene) == ["man walk -"]


def test_captions_say_one_action_with_its_things() -> None:
    scene = parse_text("A boy slowly walks to the box, picks it up with both hands, and does two cartwheels for 3 s.")
    assert [one.text for one in scene.actions] == [
        "a boy walks slowly to the box",
        "a boy picks the box up with both hands",
        "a boy does a cartwheel",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "the text is empty"),
        ("Quickly, quickly!", "nobody and nothing is named in it"),
        ("A man flurbs the box.", "unknown verb 'flurbs'; the nearest known one is"),
        ("A man walks and zorps it.", "unknown verb 'zorps'"),
        ("The cup is on the box. The box is on the cup.", "contradict each other: cup on box, box on cup"),
        ("A man runs for 2 minutes.", "actions[0].seconds: 120 s; expected more than 0 and at most 60 s"),
        ("A man runs for two hours.", "actions[0].seconds: 7200 s; expected more than 0 and at most 60 s"),
        ("A man waits for 0 seconds.", "actions[0].seconds: 0 s"),
        ("A man jumps a thousand times.", "'jump' 1000 times; at least 1 and at most 100"),
        ("One million men run.", "1000000 of 'man'; a scene has at most 20 of a kind"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_text(text)
    assert message in str(caught.value)


def test_numbers_of_several_words() -> None:
    for words, number in (("a hundred", 100), ("seventy two", 72), ("a dozen", 12), ("nineteen", 19)):
        assert parse_text(f"A man jumps {words} times.").actions[0].repeat == number, words
    assert len(parse_text("A dozen men run.").entities) == 12
