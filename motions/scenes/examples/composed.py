"""Texts of several actions, composed of captions of recorded motions, with the scenes that they tell.

A caption of one action ("a person walks slowly forward") gives a clause; verbs that are done to a thing give more
clauses ("kicks the ball"). A text puts one to `MOST_ACTIONS` of them in an order of its own: "A boy crouches, then he
kicks the red ball. The ball is next to the table." Its scene is known because it was composed, not read.

Everything is a function of the generator that is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from motions.base.errors import UserError
from motions.scenes.rules import parse_text
from motions.scenes.scene import Action, Entity, Relation, RelationName, Scene
from motions.scenes.vocabulary import nouns

ChoiceT = TypeVar("ChoiceT")
MOST_ACTIONS = 4
ACTORS = (
    *("person", "man", "woman", "boy", "girl", "child", "figure", "dancer", "fighter", "gymnast", "soldier", "worker"),
    *("player", "runner", "robot", "king", "nurse", "clown", "farmer", "teacher"),
)
THINGS = (
    *("ball", "box", "table", "chair", "bench", "door", "wall", "tree", "rock", "bag", "lamp", "cup", "bottle", "book"),
    *("bucket", "barrel", "ladder", "desk", "sofa", "crate", "drum", "flag", "car", "dog", "cat", "bike"),
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "orange")
DONE_TO: tuple[tuple[str, str], ...] = (
    *(("walks to", "walk"), ("runs to", "run"), ("kicks", "kick"), ("picks up", "pick_up"), ("pushes", "push")),
    *(("pulls", "pull"), ("punches", "punch"), ("jumps over", "jump"), ("throws", "throw"), ("points at", "point")),
    *(("sits down on", "sit"), ("lifts", "lift"), ("carries", "carry"), ("drops", "drop"), ("climbs", "climb")),
)
"""Words and verb of an action that is done to a thing."""
PLACES: tuple[tuple[str, RelationName], ...] = (
    *(("on", "on"), ("behind", "behind"), ("in front of", "in_front_of"), ("next to", "beside"), ("near", "near")),
    *(("to the left of", "left_of"), ("to the right of", "right_of"), ("under", "below"), ("inside", "inside")),
)
COUNTS = {"twice": 2, "three times": 3, "four times": 4}
PRONOUNS = {"male": "he", "female": "she"}


@dataclass(frozen=True)
class Clause:
    """What an actor does, without the actor."""

    words: str
    """In the third person: "walks slowly forward"."""
    verb: str
    target: str | None = None
    colour: str | None = None
    repeat: int = 1
    seconds: float | None = None
    how_long: str = ""
    """The words that say so, or how often, with a space before them."""

    @property
    def said(self) -> str:
        """All words of it."""
        return self.words + self.how_long


def clauses_of(captions: Iterable[str]) -> list[Clause]:
    """The clauses of captions that tell one action of one person and nothing else, each once, in order.

    Captions of several actions give a clause for each that the rule parser reads as it stands.
    """
    found: dict[str, Clause] = {}
    for caption in dict.fromkeys(captions):
        for text in _single(caption):
            [action] = parse_text(text).actions
            words = text.partition(" ")[2].partition(" ")[2]
            found.setdefault(words, Clause(words, action.verb))
    return list(found.values())


def _single(caption: str) -> list[str]:
    """The parts of a caption that are read as one action of one person, word for word."""
    try:
        texts = [one.text for one in parse_text(caption).actions]
    except UserError:
        return []
    kept = []
    for text in texts:
        words = text.partition(" ")[2].partition(" ")[2]
        _, there, behind = caption.partition(words)
        if not there or (behind and behind[0] not in ",." and not behind.startswith(" and ")):
            continue  # put together of words that do not stand so, or cut off
        if text.split()[0] not in ("a", "an", "the"):
            continue
        try:
            scene = parse_text(text)
        except UserError:
            continue
        if len(scene.actions) == len(scene.entities) == 1 and scene.actions[0].text == text:
            kept.append(text)
    return kept


class Composer:
    """Makes texts and their scenes of clauses.

    Args:
        clauses: of captions.
    """

    def __init__(self, clauses: Sequence[Clause]) -> None:
        if not clauses:
            raise UserError("no caption tells a single action: there is nothing to compose texts of")
        self._clauses = clauses

    def scene(self, rng: np.random.Generator) -> Scene:
        """A text (`Scene.text`) and what it tells."""
        story = _Story(rng)
        actor = story.entity(_one(rng, ACTORS), "person")
        clauses = [self._clause(rng, story) for _ in range(rng.integers(1, MOST_ACTIONS + 1))]
        sentences = [story.place()] if rng.random() < 0.3 else []
        if len(clauses) == 2 and rng.random() < 0.2:
            sentences.append(story.both(actor, clauses))
        else:
            sentences += story.one_after_another(actor, clauses)
        sentences += [story.place()] if rng.random() < 0.3 else []
        return story.scene(" ".join(one[0].upper() + one[1:] for one in sentences if one))

    def _clause(self, rng: np.random.Generator, story: _Story) -> Clause:
        if rng.random() < 0.35:
            words, verb = _one(rng, DONE_TO)
            thing = story.thing()
            return Clause(f"{words} {story.named(thing)}", verb, target=thing)
        clause = _one(rng, self._clauses)
        chance = rng.random()
        if chance < 0.1:
            words, repeat = _one(rng, tuple(COUNTS.items()))
            return replace(clause, how_long=f" {words}", repeat=repeat)
        if chance < 0.2:
            seconds = int(rng.integers(2, 10))
            return replace(clause, how_long=f" for {seconds} seconds", seconds=float(seconds))
        return clause


class _Story:
    """What a text has told so far."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._entities: dict[str, Entity] = {}
        self._named: set[str] = set()
        self._actions: list[Action] = []
        self._relations: list[Relation] = []

    def entity(self, name: str, kind: str, colour: str | None = None) -> str:
        self._entities.setdefault(name, Entity.model_validate({"name": name, "type": kind, "colour": colour}))
        return name

    def thing(self, but: Sequence[str] = ()) -> str:
        """A thing, with a colour or without; one that was told before keeps its own."""
        name = _one(self._rng, [one for one in THINGS if one not in but])
        colour = _one(self._rng, COLOURS) if self._rng.random() < 0.4 else None
        kinds = {"car": "vehicle", "bike": "vehicle", "dog": "animal", "cat": "animal"}
        return self.entity(name, kinds.get(name, "object"), colour)

    def named(self, name: str) -> str:
        """It in words: with its colour where it is told for the first time."""
        entity, known = self._entities[name], name in self._named
        self._named.add(name)
        article = "the" if known or self._rng.random() < 0.5 else "a"
        words = name if known or entity.colour is None else f"{entity.colour} {name}"
        return f"{'an' if article == 'a' and words[0] in 'aeiou' else article} {words}"

    def place(self) -> str:
        """A sentence that says where a thing is."""
        first = self.thing()
        second = self.thing(but=[first])
        words, relation = _one(self._rng, PLACES)
        pair = {first, second}
        if any({one.subject, one.object} == pair for one in self._relations):
            return ""
        self._relations.append(Relation(subject=first, relation=relation, object=second))
        if self._rng.random() < 0.5 and first not in self._named:
            return f"there is {self.named(first)} {words} {self.named(second)}."
        return f"{self.named(first)} is {words} {self.named(second)}."

    def act(self, actor: str, clause: Clause, start: str = "after") -> None:
        """Adds the action of a clause."""
        article = "an" if actor[0] in "aeiou" else "a"
        self._actions.append(
            Action.model_validate(
                {"actor": actor, "verb": clause.verb, "text": f"{article} {actor} {clause.words}", "start": start}
                | {"target": clause.target, "repeat": clause.repeat, "seconds": clause.seconds}
            )
        )

    def both(self, actor: str, clauses: Sequence[Clause]) -> str:
        """Two actors at the same time."""
        other = self.entity(_one(self._rng, [one for one in ACTORS if one != actor]), "person")
        self.act(actor, clauses[0])
        self.act(other, clauses[1], "with")
        return f"{self.named(actor)} {clauses[0].said} while {self.named(other)} {clauses[1].said}."

    def one_after_another(self, actor: str, clauses: Sequence[Clause]) -> list[str]:
        """An actor's actions, in sentences."""
        rng = self._rng
        pronoun = PRONOUNS.get(nouns().genders.get(actor, ""))
        again = lambda: pronoun if pronoun and rng.random() < 0.5 else f"the {actor}"  # noqa: E731
        if len(clauses) == 2 and rng.random() < 0.2:
            order = clauses if rng.random() < 0.5 else clauses[::-1]
            first, second = order
            self.act(actor, first)
            self.act(actor, second)
            who = self.named(actor)
            if rng.random() < 0.5:
                return [f"before {who} {second.said}, {again()} {first.said}."]
            return [f"after {who} {first.said}, {again()} {second.said}."]
        for clause in clauses:
            self.act(actor, clause)
        sentences, text = [], f"{self.named(actor)} {clauses[0].said}"
        for clause in clauses[1:]:
            link = rng.integers(6)
            if link == 0:
                sentences.append(f"{text}.")
                text = f"then {again()} {clause.said}"
            elif link == 1:
                sentences.append(f"{text}.")
                text = f"after that, {again()} {clause.said}"
            else:
                text += f"{(', then ', ' and then ', ' and ', ', ')[link - 2]}{clause.said}"
        return [*sentences, f"{text}."]

    def scene(self, text: str) -> Scene:
        """All of it."""
        return Scene(
            text=text,
            entities=tuple(self._entities.values()),
            actions=tuple(self._actions),
            relations=tuple(self._relations),
            parser="composed",
        )


def _one(rng: np.random.Generator, among: Sequence[ChoiceT]) -> ChoiceT:
    return among[int(rng.integers(len(among)))]
