"""A scene as a parser that learns writes it: one line of JSON.

    {"actions": [{"actor": "man", "verb": "kick", "target": "ball", "text": "a man kicks the red ball"}],
     "entities": [{"name": "man", "type": "person"}, {"name": "red ball", "type": "object"}],
     "relations": [{"subject": "ball", "predicate": "beside", "object": "table"}]}

Actions stand in the order in which they happen. What is as it mostly is, is left out: `target` where there is none,
`start` unless it is `with`, `repeat` 1, `seconds` that the text does not give. Of relations it holds those that the
text itself tells. An entity's name has its colour or material before it, once, where it is introduced.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from motions.base.errors import MistakesError, UserError
from motions.scenes.scene import Action, Entity, Relation, RelationName, Scene, check_scene
from motions.scenes.vocabulary import entity_type, nouns

PREFIX = "extract scene: "
"""Before every text that a T5 reads."""
RELATIONS: tuple[str, ...] = get_args(RelationName)
_ACTION_DEFAULTS: Mapping[str, Any] = {"target": None, "start": "after", "repeat": 1, "seconds": None}


def target_of(scene: Scene) -> str:
    """The line of a scene."""
    actions = [{"actor": one.actor, "verb": one.verb} | _changed(one) | {"text": one.text} for one in scene.actions]
    entities = [{"name": _described(one), "type": one.type} for one in scene.entities]
    relations = [{"subject": r.subject, "predicate": r.relation, "object": r.object} for r in scene.relations]
    return json.dumps(
        {"actions": actions, "entities": entities, "relations": relations}, separators=(",", ":"), ensure_ascii=False
    )


def record_of(scene: Scene) -> dict[str, str]:
    """The line of a training file: `input`, the scene's text after the task's prefix, and `target`."""
    return {"input": PREFIX + scene.text, "target": target_of(scene)}


def scene_of_target(line: str, text: str, parser: str) -> Scene:
    """The checked scene of a line that a network has written.

    Actors and targets that are listed nowhere become entities, and so does what relations name. A relation whose
    predicate is none of a scene's is left out, with a note.

    Args:
        text: what it was read from.
        parser: name of the parser, for the scene.

    Raises:
        UserError: the line is no JSON, or no scene: the message says what is wrong with it.
    """
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            raise UserError(f"the parser wrote no object: {line!r:.80}")
        found: dict[str, Entity] = {}
        for one in content.get("entities", ()):
            entity = _entity(str(one["name"]).strip(), one.get("type"))
            found.setdefault(entity.name, entity)
        actions = tuple(
            Action.model_validate({**_ACTION_DEFAULTS, **{name: _stripped(value) for name, value in one.items()}})
            for one in content.get("actions", ())
        )
        relations, notes = [], []
        for one in content.get("relations", ()):
            subject, predicate, other = (str(one[name]).strip() for name in ("subject", "predicate", "object"))
            if predicate in RELATIONS:
                relations.append(Relation.model_validate({"subject": subject, "relation": predicate, "object": other}))
            else:
                notes.append(f"{subject} {predicate} {other}: no relation of place, left out")
        named = [name for one in actions for name in (one.actor, one.target) if name]
        for name in (*named, *(name for one in relations for name in (one.subject, one.object))):
            found.setdefault(name, Entity(name=name, type=entity_type(name)))
        scene = Scene(
            text=text,
            entities=tuple(found.values()),
            actions=actions,
            relations=tuple(relations),
            parser=parser,
            notes=tuple(notes),
        )
        check_scene(scene)
    except json.JSONDecodeError as error:
        raise UserError(f"the parser wrote no JSON: {error}") from error
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"the parser wrote no scene: {type(error).__name__} in {line!r:.120}") from error
    except MistakesError as error:
        raise UserError(f"the parser wrote a scene that cannot be: {'; '.join(error.lines)}") from error
    return scene


def _changed(action: Action) -> dict[str, Any]:
    values = {name: getattr(action, name) for name in _ACTION_DEFAULTS}
    if action.seconds is not None and action.seconds.is_integer():
        values["seconds"] = int(action.seconds)
    return {name: value for name, value in values.items() if value != _ACTION_DEFAULTS[name]}


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else float(value) if isinstance(value, float) else value


def _described(entity: Entity) -> str:
    return " ".join(word for word in (entity.colour, entity.material, entity.name) if word)


def _entity(described: str, kind: str | None) -> Entity:
    """The entity of a name with its colour and material before it."""
    *words, name = described.split()
    colour = next((word for word in words if word in nouns().colours), None)
    materials = nouns().materials
    material = next((materials.get(word, word) for word in words if word in (*materials, *materials.values())), None)
    if colour == material:
        material = None
    rest = [word for word in words if word != colour and materials.get(word, word) != material]
    own = "_".join([*rest, name])
    return Entity.model_validate(
        {"name": own, "type": kind or entity_type(name), "colour": colour, "material": material}
    )


def target_figures(wanted: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """How well written lines agree with those that are right.

    Returns:
        `json`, the share that is JSON; `scene`, that is exact; `actions`, whose actions are exact: who does what, in
        the right order; and F1 over all lines of `entities` (with colours and types) and of `relations`.
    """
    number = len(wanted)
    found = [_content(line) for line in written]
    right = [json.loads(line) for line in wanted]
    figures = {
        "json": sum(one is not None for one in found) / number,
        "scene": sum(a == b for a, b in zip(found, right, strict=True)) / number,
        "actions": sum(_order(a) == _order(b) for a, b in zip(found, right, strict=True)) / number,
    }
    for name in ("entities", "relations"):
        pairs = [(_counted(a, name), _counted(b, name)) for a, b in zip(found, right, strict=True)]
        total = sum(a.total() + b.total() for a, b in pairs)
        figures[name] = 2 * sum((a & b).total() for a, b in pairs) / total if total else 1.0
    return figures


def _content(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else {}


def _parts(content: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
    parts = (content or {}).get(name)
    return [one for one in parts if isinstance(one, dict)] if isinstance(parts, list) else []


def _order(content: Mapping[str, Any] | None) -> list[tuple[Any, Any]]:
    return [(one.get("actor"), one.get("verb")) for one in _parts(content, "actions")]


def _counted(content: Mapping[str, Any] | None, name: str) -> Counter[str]:
    return Counter(json.dumps(one, sort_keys=True) for one in _parts(content, name))
