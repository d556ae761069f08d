"""Known objects and their index: what `jobs.build_vg_kb_index` makes, and what commands read with `--objects`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.scenes.parsing import check_free
from jobs.scenes.settings import ObjectIndexConfig
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.scenes.objects import LEAST_SIMILARITY, KnownObject, ObjectIndex, load_objects, unit
from motions.scenes.visual_genome import stream_records
from motions.scenes.vocabulary import singular
from rollouts.retrieval.index import ENTRIES, VECTORS, Entry, TextIndex
from rollouts.text.encoders import load_text_encoder

OBJECTS, ALIASES = "objects.json", "object_alias.txt"
_FILES = (OBJECTS, VECTORS, ENTRIES)


def run(config: ObjectIndexConfig) -> None:
    """Writes the longer list and its index, and prints what was left out."""
    counts = _counted(config)
    encoder = load_text_encoder("minilm")
    known = objects_before(config.objects)
    found, unlike = extended(
        known, counts, aliases_of(config.vg_dir / ALIASES), ObjectIndex(known, encoder.encode_pooled)
    )
    index = TextIndex.build(_entries(found), encoder)
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {config.output}: {error.strerror}") from error
    with atomic_write(config.output / OBJECTS) as file:
        file.write(json.dumps([one.model_dump() for one in found], indent=1, ensure_ascii=False).encode())
    index.save(config.output)
    named, new = sum(name in _names(known) for name in counts), len(found) - len(known)
    others = len(counts) - named - new - len(unlike)
    print(
        f"{len(counts)} nouns: {named} were known, {new} are new, {others} are other names of these, {len(unlike)} are "
        "like nothing known"
    )
    if unlike:
        print(f"left out: {', '.join(unlike[:10])}{', ...' if len(unlike) > 10 else ''}")
    print(f"{config.output}: {len(found)} objects, fingerprint {index.fingerprint[:12]}")


def plan(config: ObjectIndexConfig) -> None:
    """Reads the nouns, and prints what would be written."""
    counts = _counted(config)
    print(f"most frequent nouns: {', '.join(f'{name} {count}' for name, count in counts.most_common(5))}")
    for name in _FILES:
        print(f"would write {config.output / name}")


def object_index(objects: Path | None) -> ObjectIndex:
    """What `--objects` names: a list that goes before the one that ships, or a folder of `jobs.build_vg_kb_index`.

    Raises:
        UserError: a file is missing or malformed, or the index is of another list.
    """
    if objects is None or not objects.is_dir():
        # The encoder is loaded only for a noun that no object is called by.
        return ObjectIndex(objects_before(objects), lambda texts: load_text_encoder("minilm").encode_pooled(texts))
    found, encoder = load_objects(objects / OBJECTS), load_text_encoder("minilm")
    return ObjectIndex(found, encoder.encode_pooled, TextIndex.load(objects, _entries(found), encoder).vectors)


def objects_before(path: Path | None) -> tuple[KnownObject, ...]:
    """The objects of a file, if one is given, and after them those that ship."""
    return (*(load_objects(path) if path is not None else ()), *load_objects())


def extended(
    known: Sequence[KnownObject],
    counts: Counter[str],
    aliases: dict[str, tuple[str, ...]],
    index: ObjectIndex,
) -> tuple[list[KnownObject], list[str]]:
    """The known objects and, with size and mass of one of them, the nouns that are new; and those that are like none.

    Args:
        counts: nouns in the singular; a more frequent one goes before a rarer one of the same aliases.
        aliases: other names, by noun.
        index: of the known objects.
    """
    # Of two known objects of one name the first is meant; a list has it once.
    found = list({one.canonical_name: one for one in reversed(known)}.values())[::-1]
    taken = _names(found)
    new = [name for name, _ in counts.most_common() if name not in taken]
    rows = unit(index.encoded(new)) @ index.embeddings.T if new else np.zeros((0, 1))
    unlike = []
    for name, cosines in zip(new, rows, strict=True):
        if name in taken:
            continue
        others = aliases.get(name, ())
        own = next((one for one in known for other in others if other in (one.canonical_name, *one.aliases)), None)
        if own is None and cosines.max() >= LEAST_SIMILARITY:
            own = known[int(cosines.argmax())]
        if own is None:
            unlike.append(name)
            continue
        free = tuple(other for other in others if other not in taken and other != name)
        taken |= {name, *free}
        found.append(own.model_copy(update={"canonical_name": name, "aliases": free, "mesh_prompt": f"a {name}"}))
    return found, unlike


def aliases_of(path: Path) -> dict[str, tuple[str, ...]]:
    """The other names of each name in a file whose lines are names of one thing; nothing without the file."""
    if not path.is_file():
        return {}
    groups: dict[str, dict[str, None]] = {}
    for line in read_text(path).splitlines():
        names = dict.fromkeys(_noun(name) for name in line.split(",") if name.strip())
        for name in names:
            groups.setdefault(name, {}).update(names)
    return {name: tuple(other for other in own if other != name) for name, own in groups.items()}


def _counted(config: ObjectIndexConfig) -> Counter[str]:
    """The most frequent nouns of Visual Genome in the singular.

    Raises:
        UserError: results exist, or the file is missing, malformed or without a name.
    """
    check_free(config.output, _FILES, None, overwrite=config.overwrite)
    path = config.vg_dir / OBJECTS
    if not path.is_file():
        raise UserError(f"vg_dir {config.vg_dir} has no {OBJECTS}; download it from Visual Genome")
    counts: Counter[str] = Counter()
    for number, record in enumerate(stream_records(path)):
        try:
            names = [str(name) for one in record["objects"] for name in one["names"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}, record {number}: {error!r}: not as in objects.json of Visual Genome") from error
        counts.update(_noun(name) for name in names if name.strip())
    if not counts:
        raise UserError(f"{path} names no object")
    return Counter(dict(counts.most_common(config.max_objects)))


def _noun(name: str) -> str:
    """Lower case, with single blanks, the last word in the singular."""
    *words, last = name.lower().split()
    return " ".join([*words, singular(last) or last])


def _names(objects: Sequence[KnownObject]) -> set[str]:
    return {name for one in objects for name in (one.canonical_name, *one.aliases)}


def _entries(objects: Sequence[KnownObject]) -> list[Entry]:
    return [Entry(one.canonical_name, one.canonical_name) for one in objects]
