"""Texts with their scenes from the graphs of Visual Genome (Krishna et al. 2017), for training a parser.

`scene_graphs.json` is a list of `{image_id, objects: [{object_id, names, synsets, x, y, w, h}], relationships:
[{relationship_id, predicate, synsets, subject_id, object_id}]}`. An object may have `attributes`; else they are those
of `attributes.json`, a list of `{image_id, attributes: [{object_id, names, attributes}]}`. Files of hundreds of
megabytes are read record by record. A target holds what its text says, and nothing else of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motions.base.errors import UserError
from motions.scenes.vocabulary import entity_type, nouns

MOST_RELATIONS = 6
"""Sentences of relations in a text."""
FEWEST_SENTENCES = 5
"""A text with fewer names further objects, if the graph has any."""
PREFIX = "extract scene: "
_CHUNK = 1 << 20
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class SceneExample:
    """A text and the scene that it tells, with names and types only."""

    text: str
    entities: tuple[tuple[str, str], ...]
    """Name (with its colour) and type."""
    relations: tuple[tuple[str, str, str], ...]
    """Subject, predicate and object."""

    def record(self) -> dict[str, str]:
        """The line of a file: `input` with the task's prefix, `target` as JSON."""
        entities = [{"name": name, "type": kind} for name, kind in self.entities]
        relations = [{"subject": a, "predicate": b, "object": c} for a, b, c in self.relations]
        return {"input": PREFIX + self.text, "target": json.dumps({"entities": entities, "relations": relations})}


def stream_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after the other; memory holds one of them and a megabyte.

    Raises UserError naming the file and the record that is no JSON object, or where the file breaks off, or that it is
    no text in UTF-8.
    """
    try:
        yield from _records(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error}") from error


def _records(path: Path) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    with file:
        text = file.read(_CHUNK).lstrip(_SPACE)
        if not text.startswith("["):
            raise UserError(f"{path} is no JSON list, as Visual Genome's files are")
        text, number = text[1:].lstrip(_SPACE), 0
        while True:
            try:
                value, end = decoder.raw_decode(text)
            except json.JSONDecodeError as error:
                more = file.read(_CHUNK)
                if more:
                    text = (text + more).lstrip(_SPACE)
                    continue
                if not number and text.startswith("]"):
                    return
                raise UserError(f"{path}, record {number}: {error.msg}; the file may be incomplete") from error
            if not isinstance(value, dict):
                raise UserError(f"{path}, record {number}: {value!r:.40} is no object")
            yield value
            number += 1
            text = text[end:].lstrip(_SPACE)
            while not text and (more := file.read(_CHUNK)):
                text = more.lstrip(_SPACE)
            if text.startswith("]"):
                return
            if not text.startswith(","):
                raise UserError(
                    f"{path}: a comma or ] is missing after record {number - 1}; the file may be incomplete"
                )
            text = text[1:].lstrip(_SPACE)


def load_attributes(path: Path) -> dict[int, dict[int, list[str]]]:
    """Colours of objects by image and object, from `attributes.json`; nothing else of it is kept."""
    found: dict[int, dict[int, list[str]]] = {}
    for number, record in enumerate(stream_records(path)):
        try:
            own = {int(one["object_id"]): _colours(one.get("attributes") or ()) for one in record["attributes"]}
            found[int(record["image_id"])] = {key: colours for key, colours in own.items() if colours}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}, record {number}: {error!r}: not as in attributes.json of Visual Genome"
            ) from error
    return found


def example_of(graph: Mapping[str, Any], attributes: Mapping[int, list[str]] | None = None) -> SceneExample | None:
    """A text with its scene from a graph; None for a graph without named objects.

    Args:
        attributes: colours by object, where the graph has none of its own.

    Raises KeyError, TypeError or ValueError for a graph of another form.
    """
    names: dict[int, str] = {}
    for one in graph["objects"]:
        noun = next((str(name).strip().lower() for name in one["names"] if str(name).strip()), "")
        own = (
            _colours(one["attributes"]) if one.get("attributes") else (attributes or {}).get(int(one["object_id"]), [])
        )
        if noun:
            names[int(one["object_id"])] = " ".join([*own[:1], noun])
    relations: dict[tuple[str, str, str], None] = {}
    for one in graph["relationships"]:
        subject, other = names.get(int(one["subject_id"])), names.get(int(one["object_id"]))
        predicate = " ".join(str(one["predicate"]).lower().split())
        if subject is not None and other is not None and predicate and subject != other:
            relations.setdefault((subject, predicate, other))
    said = list(relations)[:MOST_RELATIONS]
    told = list(dict.fromkeys(name for a, _, c in said for name in (a, c)))
    sentences = [_sentence(*one) for one in said]
    for name in dict.fromkeys(names.values()):
        if len(sentences) >= FEWEST_SENTENCES:
            break
        if name not in told:
            told.append(name)
            sentences.append(f"There is {_article(name)} {name}.")
    if not told:
        return None
    return SceneExample(" ".join(sentences), tuple((name, entity_type(name)) for name in told), tuple(said))


def _colours(attributes: Any) -> list[str]:
    return [str(one).strip().lower() for one in attributes if str(one).strip().lower() in nouns().colours]


def _sentence(subject: str, predicate: str, other: str) -> str:
    """Visual Genome's predicates are prepositions ("on", "next to") or verbs ("wearing", "has", "is behind")."""
    first = predicate.split()[0]
    verb = first in ("is", "are", "has", "have", "wears", "holds") or (first.endswith("s") and first not in ("across",))
    link = predicate if verb else f"is {predicate}"
    text = f"{_article(subject)} {subject} {link} {_article(other)} {other}."
    return text[0].upper() + text[1:]


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
