"""The file of a layout: where everything in a scene stands, as `jobs.plan_scene` writes it and others edit it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from motions.base.atomic import atomic_write
from motions.base.errors import MistakesError, UserError
from motions.base.foreign_files import read_text
from motions.scenes.layout import Layout

VERSION = 1
"""Of the files; another one is refused."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Place(_Part):
    """Where and what an entity is."""

    center_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    mass_kg: float = Field(gt=0.0)
    category: str
    material: str
    source: str


class CheckedRelation(_Part):
    """A relation of a layout, and by how much it is missed."""

    subject: str
    relation: str
    object: str
    missed_by_m: float = 0.0


class Overlap(_Part):
    """Two boxes in each other."""

    names: tuple[str, str]
    depth_m: float


class LayoutFile(_Part):
    """The content of `layout.json`."""

    version: Literal[1] = VERSION
    seed: int = 0
    places: Mapping[str, Place]
    relations: tuple[CheckedRelation, ...] = ()
    overlaps: tuple[Overlap, ...] = ()


def layout_file(layout: Layout, seed: int) -> LayoutFile:
    """What is written of a layout."""
    missed = {one.relation: one.by_m for one in layout.unmet}
    places = {}
    for name, place in layout.places.items():
        body = layout.bodies[name]
        x, y, z = (round(float(value), 6) for value in place)
        places[name] = Place(
            center_m=(x, y, z),
            size_m=body.size_m,
            mass_kg=body.mass_kg,
            category=body.category,
            material=body.material,
            source=body.source,
        )
    relations = tuple(
        CheckedRelation(
            subject=one.subject,
            relation=one.relation,
            object=one.object,
            missed_by_m=round(missed.get(one, 0.0), 4),
        )
        for one in layout.relations
    )
    overlaps = tuple(Overlap(names=(a, b), depth_m=round(depth, 4)) for a, b, depth in layout.overlaps)
    return LayoutFile(seed=seed, places=places, relations=relations, overlaps=overlaps)


def write_layout(path: str | Path, content: LayoutFile) -> None:
    """Writes a layout that `read_layout` reads back to an equal one; complete or not at all."""
    with atomic_write(path) as file:
        file.write(f"{json.dumps(content.model_dump(mode='json'), indent=1)}\n".encode())


def read_layout(path: str | Path) -> LayoutFile:
    """Reads and checks a layout's file.

    Raises:
        MistakesError: every mistake, with the file and the path of the value in it.
        UserError: no JSON, or a file of another version.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; jobs.plan_scene writes one") from error
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, Mapping) else content
        raise UserError(f"{path}: version is {found!r:.60}; version {VERSION} is read")
    try:
        made = LayoutFile.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
            for detail in error.errors(include_url=False)
        ]
        raise MistakesError(lines) from error
    flat = [name for name, place in made.places.items() if min(place.size_m) <= 0]
    if flat:
        raise MistakesError([f"{path}: places.{name}.size_m: expected three lengths above 0" for name in flat])
    return made
