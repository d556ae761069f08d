"""Known objects: sizes, masses, materials and parts of everyday things, found by name or by what a text encoder reads.

The file `objects.json` beside this one, and any other of its form, is a list of records: `canonical_name`, `aliases`,
`category`, `typical_dimensions_m` (`width`, `depth`, `height`), `typical_mass_kg`, `material`, `parts`, `mesh_prompt`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from motions.base.errors import MistakesError, UserError
from motions.base.foreign_files import read_text
from motions.scenes.scene import Entity, Scene
from motions.scenes.vocabulary import singular

OBJECTS_PATH = Path(__file__).with_name("objects.json")
LEAST_SIMILARITY = 0.5
"""Cosine under which the nearest object is too unlike to take its size."""

Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts to embeddings [N, D]."""


class Dimensions(BaseModel):
    """Of the box around an object, in metres."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    width: float = Field(gt=0.0)
    depth: float = Field(gt=0.0)
    height: float = Field(gt=0.0)


class KnownObject(BaseModel):
    """A record of the list of known objects."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    canonical_name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    category: str = Field(min_length=1)
    typical_dimensions_m: Dimensions
    typical_mass_kg: float = Field(gt=0.0)
    material: str = "wood"
    parts: tuple[str, ...] = ()
    mesh_prompt: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """What an entity of a scene is made as."""

    name: str
    size_m: tuple[float, float, float]
    """Width (x), depth (y) and height (z) of the box around it."""
    mass_kg: float
    category: str
    material: str
    source: str
    """Where its size comes from: `given`, or the object that it was taken from."""


@cache
def load_objects(path: Path = OBJECTS_PATH) -> tuple[KnownObject, ...]:
    """The records of a file.

    Raises:
        MistakesError: each mistake with its place, such as `[3].typical_mass_kg`.
        UserError: no JSON, no record, or a name that two records have.
    """
    try:
        records = TypeAdapter(tuple[KnownObject, ...]).validate_json(json.dumps(json.loads(read_text(path))))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False):
            first, *rest = detail["loc"] or ("",)
            where = f"[{first}]" + "".join(f".{part}" for part in rest)
            lines.append(f"{path}: {where}: {detail['msg'][0].lower()}{detail['msg'][1:]}")
        raise MistakesError(lines) from error
    if not records:
        raise UserError(f"{path} holds no objects")
    names: dict[str, str] = {}
    for record in records:
        for name in (record.canonical_name, *record.aliases):
            if name in names:
                raise UserError(f"{path}: {name!r} is a name of {names[name]!r} and of {record.canonical_name!r}")
            names[name] = record.canonical_name
    return records


class ObjectIndex:
    """Finds the known object of a noun: by its name, else by the similarity of what a text encoder reads.

    Example:
        index = ObjectIndex(load_objects(), encoder.encode_pooled)
        index.find("settee").canonical_name   # "sofa"
    """

    def __init__(
        self, objects: Sequence[KnownObject], encode: Encode | None = None, embeddings: np.ndarray | None = None
    ) -> None:
        """Without `encode` only the names themselves are found.

        Args:
            embeddings: of `names` [N, D], each of length 1; by default they are encoded when they are needed.
        """
        self.objects = tuple(objects)
        self._encode = encode
        # Of two objects of one name the first is meant: a user's own list goes before ours.
        self._by_name = {name: one for one in reversed(self.objects) for name in (one.canonical_name, *one.aliases)}
        self._embeddings = embeddings

    @property
    def names(self) -> tuple[str, ...]:
        """Of the objects, without aliases: what is encoded."""
        return tuple(one.canonical_name for one in self.objects)

    @property
    def embeddings(self) -> np.ndarray:
        """Of `names` [N, D], each of length 1. Raises ValueError without an encoder."""
        if self._embeddings is None:
            if self._encode is None:
                raise ValueError("this index has neither embeddings nor an encoder")
            self._embeddings = unit(self._encode(self.names))
        return self._embeddings

    def encoded(self, nouns: Sequence[str]) -> np.ndarray:
        """Embeddings of nouns [N, D]. Raises ValueError without an encoder."""
        if self._encode is None:
            raise ValueError("this index has no encoder")
        return self._encode(nouns)

    def find(self, noun: str) -> KnownObject | None:
        """The object of a noun (words with blanks); None where nothing is alike."""
        words = noun.lower().replace("_", " ").split()
        words[-1] = singular(words[-1]) or words[-1]
        # The last words of a compound say what it is: a park bench is a bench.
        for start in range(len(words)):
            if (found := self._by_name.get(" ".join(words[start:]))) is not None:
                return found
        if self._encode is None:
            return None
        return next((one for one, cosine in self.ranked(noun, 1) if cosine >= LEAST_SIMILARITY), None)

    def ranked(self, noun: str, most: int) -> list[tuple[KnownObject, float]]:
        """The objects whose names are most similar, with their cosines, best first.

        Raises ValueError without an encoder.
        """
        queries = self.encoded([noun.replace("_", " ")])
        cosines = self.embeddings @ unit(queries)[0]
        return [(self.objects[place], float(cosines[place])) for place in np.argsort(-cosines, kind="stable")[:most]]

    def bodies(self, scene: Scene) -> dict[str, Body]:
        """Sizes and masses of a scene's entities.

        Raises:
            MistakesError: an entity that is like no known object and has no size of its own, by its path.
        """
        found: dict[str, Body] = {}
        mistakes = []
        for place, entity in enumerate(scene.entities):
            known = self.find("person" if entity.type == "person" else plain_noun(entity))
            if entity.size_m is None and known is None:
                mistakes.append(
                    f"entities[{place}].size_m: {entity.name!r} has no size, and no known object is like it; give "
                    "width, depth and height in metres"
                )
                continue
            found[entity.name] = _body(entity, known)
        if mistakes:
            raise MistakesError(mistakes)
        return found


def plain_noun(entity: Entity) -> str:
    """The noun of an entity without colour, material and number."""
    return entity.model_copy(update={"colour": None, "material": None}).noun


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _body(entity: Entity, known: KnownObject | None) -> Body:
    if entity.size_m is not None:
        size, source = entity.size_m, "given"
    else:
        assert known is not None
        usual = known.typical_dimensions_m
        size = (usual.width * entity.scale, usual.depth * entity.scale, usual.height * entity.scale)
        source = known.canonical_name
    if entity.mass_kg is not None:
        mass = entity.mass_kg
    elif known is not None:
        usual = known.typical_dimensions_m
        # A thing of the same kind is as dense.
        mass = known.typical_mass_kg * float(np.prod(size)) / (usual.width * usual.depth * usual.height)
    else:
        mass = _DENSITY * float(np.prod(size))
    category = known.category if known is not None else "box"
    return Body(entity.name, size, mass, category, entity.material or (known.material if known else "wood"), source)


_DENSITY = 300.0
"""Of an unknown thing, in kg/m^3: an empty box of wood."""
