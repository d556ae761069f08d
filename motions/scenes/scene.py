"""A scene: entities, actions in order, relations and style; and its JSON files.

Space is seen from a camera that looks along +y: x grows to the right, y away from the camera, z up. "Left of", "in
front of" and so on are the camera's.

Example:
    scene = read_scene("outputs/kick/scene.json")
    scene.actions[0].verb   # "walk"
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from motions.base.atomic import atomic_write
from motions.base.errors import MistakesError, UserError
from motions.base.foreign_files import read_text
from motions.scenes.contradictions import contradiction
from motions.scenes.vocabulary import EntityType, nearest_verb, verbs

VERSION = 1
"""Of the JSON files; another one is refused."""
MOST_SECONDS = 60.0
"""Longest action."""
MOST_REPETITIONS = 100
"""Of one action."""

RelationName = Literal[
    "on", "above", "below", "in_front_of", "behind", "left_of", "right_of", "beside", "near", "inside"
]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Entity(_Part):
    """A person, an animal, a vehicle or an object."""

    name: str = Field(min_length=1)
    """Its noun; of a second one of the same noun `ball_2`, and so on. Others refer to it by this name."""
    type: EntityType = "object"
    colour: str | None = None
    material: str | None = None
    size_m: tuple[float, float, float] | None = None
    """Width (x), depth (y) and height (z) in metres; by default those of the most similar known object."""
    scale: float = Field(default=1.0, gt=0.0, le=10.0)
    """Factor of the usual size ("a small box"); it says nothing where `size_m` is given."""
    mass_kg: float | None = Field(default=None, gt=0.0)

    @property
    def noun(self) -> str:
        """What it is, in words: the name without its number, after colour and material."""
        stem, _, number = self.name.rpartition("_")
        words = (stem if stem and number.isdigit() else self.name).replace("_", " ")
        return " ".join(part for part in (self.colour, self.material, words) if part)

    @property
    def is_actor(self) -> bool:
        """Whether motions can be generated for it."""
        return self.type == "person"


class Action(_Part):
    """What an actor does."""

    actor: str
    """Name of an entity."""
    verb: str
    """One of `verbs().names`."""
    text: str = Field(min_length=1)
    """Caption of this action alone, such as "a man walks to the table"; what a policy is told."""
    target: str | None = None
    """Entity that it is done to or goes to."""
    start: Literal["after", "with"] = "after"
    """After the end of all earlier actions, or together with the action before it in the list."""
    repeat: int = Field(default=1, ge=1, le=MOST_REPETITIONS)
    """How many times it is done."""
    seconds: float | None = None
    """How long it takes with all repetitions, above 0 and at most 60, where the text says so."""


class Relation(_Part):
    """Where an entity is, seen from the camera."""

    subject: str
    relation: RelationName
    object: str
    after: int | None = None
    """Index of the action that brings it about; by default it holds from the beginning on."""


class Scene(_Part):
    """Entities, actions in order and relations.

    Raises pydantic.ValidationError where a value has the wrong type; `check_scene` says what does not fit together.
    """

    version: Literal[1] = VERSION
    text: str = ""
    """What it was read from."""
    entities: tuple[Entity, ...] = ()
    actions: tuple[Action, ...] = ()
    relations: tuple[Relation, ...] = ()
    style: str | None = None
    """How it is to look, such as "cartoon"."""
    parser: str = "hand"
    """Who read the text: `rules`, or `hand` for who wrote the file."""
    notes: tuple[str, ...] = ()
    """What the parser left out or assumed."""

    def entity(self, name: str) -> Entity:
        """The entity of a name. Raises KeyError for a name that there is not."""
        return next(one for one in self.entities if one.name == name) if self.has(name) else _missing(name)

    def has(self, name: str) -> bool:
        """Whether there is an entity of that name."""
        return any(one.name == name for one in self.entities)

    def at_start(self) -> tuple[Relation, ...]:
        """Relations that hold from the beginning on."""
        return tuple(one for one in self.relations if one.after is None)


def _missing(name: str) -> Entity:
    raise KeyError(name)


def check_scene(scene: Scene) -> None:
    """Checks what does not show in single values.

    Raises:
        MistakesError: each mistake by its path: nothing in the scene, a name that is used twice or that no entity has,
            an unknown verb (with the nearest one), seconds that are not above 0 and at most 60, a size that is not
            positive, an action that is named by a relation and does not exist, relations that contradict each other.
    """
    mistakes: list[str] = []
    if not scene.entities:
        mistakes.append("entities: the scene is empty; it needs at least one entity")
    names: set[str] = set()
    for place, entity in enumerate(scene.entities):
        if entity.name in names:
            mistakes.append(f"entities[{place}].name: {entity.name!r} is the name of an earlier entity")
        names.add(entity.name)
        if not any(letter.isalpha() for letter in entity.name):
            mistakes.append(f"entities[{place}].name: {entity.name!r}; expected a noun, or one with a number")
        if entity.size_m is not None and min(entity.size_m) <= 0:
            mistakes.append(
                f"entities[{place}].size_m: {list(entity.size_m)}; expected three lengths above 0, in metres"
            )
    known = ", ".join(sorted(names)) or "there are none"
    for place, action in enumerate(scene.actions):
        for field, name in (("actor", action.actor), ("target", action.target)):
            if name is not None and name not in names:
                mistakes.append(f"actions[{place}].{field}: no entity is called {name!r}; entities: {known}")
        if action.verb not in verbs().names:
            mistakes.append(f"actions[{place}].verb: {unknown_verb(action.verb)}")
        if action.seconds is not None and (wrong := wrong_seconds(action.seconds)):
            mistakes.append(f"actions[{place}].seconds: {wrong}")
    for place, relation in enumerate(scene.relations):
        for field, name in (("subject", relation.subject), ("object", relation.object)):
            if name not in names:
                mistakes.append(f"relations[{place}].{field}: no entity is called {name!r}; entities: {known}")
        if relation.subject == relation.object:
            mistakes.append(f"relations[{place}]: {relation.subject} {relation.relation} itself")
        if relation.after is not None and not 0 <= relation.after < len(scene.actions):
            mistakes.append(
                f"relations[{place}].after: {relation.after}; there are {len(scene.actions)} actions, from 0"
            )
    if not mistakes and (found := contradiction([(r.subject, r.relation, r.object) for r in scene.at_start()])):
        mistakes.append(f"relations contradict each other: {found}")
    if mistakes:
        raise MistakesError(mistakes)


def unknown_verb(word: str) -> str:
    """What to say of a verb that is not known."""
    return f"unknown verb {word!r}; the nearest known one is {nearest_verb(word)!r}"


def wrong_seconds(seconds: float) -> str | None:
    """What is wrong with a duration; None where it is right."""
    return (
        None if 0 < seconds <= MOST_SECONDS else f"{seconds:g} s; expected more than 0 and at most {MOST_SECONDS:g} s"
    )


def read_scene(path: str | Path) -> Scene:
    """Reads and checks a scene's file.

    Raises:
        MistakesError: every mistake, with the file and the path of the value in it.
        UserError: no JSON, or a file of another version.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return scene_from_record(content, str(path))


def scene_from_record(content: object, source: str) -> Scene:
    """A checked scene from the content of a file; `source` begins every message.

    Raises:
        MistakesError, UserError: as `read_scene`.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: expected an object, found {content!r:.80}")
    if "version" not in content:
        raise UserError(f"{source}: version is missing; this is {VERSION}")
    if content["version"] != VERSION:
        raise UserError(f"{source}: version is {content['version']!r}; version {VERSION} is read")
    try:
        scene = Scene.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [f"{source}: {_path(detail['loc'])}: {_reason(detail)}" for detail in error.errors(include_url=False)]
        raise MistakesError(lines) from error
    try:
        check_scene(scene)
    except MistakesError as error:
        raise MistakesError([f"{source}: {line}" for line in error.lines]) from error
    return scene


def write_scene(path: str | Path, scene: Scene) -> None:
    """Writes a scene that `read_scene` reads back to an equal one; complete or not at all."""
    with atomic_write(path) as file:
        file.write(f"{json.dumps(scene.model_dump(mode='json'), indent=1, ensure_ascii=False)}\n".encode())


def scene_schema() -> dict[str, Any]:
    """The JSON schema of scenes' files."""
    return Scene.model_json_schema()


def _path(places: Sequence[str | int]) -> str:
    path = ""
    for place in places:
        path += f"[{place}]" if isinstance(place, int) else f".{place}" if path else place
    return path


def _reason(detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        return "unknown name"
    if detail["type"] == "missing":
        return "missing"
    value = f", found {detail['input']!r:.60}" if not isinstance(detail["input"], Mapping) else ""
    return f"{detail['msg'][0].lower()}{detail['msg'][1:]}{value}"
