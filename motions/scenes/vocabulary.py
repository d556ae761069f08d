"""The words of scenes: verbs with their forms and synonyms, nouns by kind, colours, materials, sizes.

They live in `verbs.yaml` and `nouns.yaml`, beside this file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

EntityType = Literal["person", "animal", "vehicle", "object"]
Gender = Literal["male", "female"]
Form = Literal["base", "s", "ed", "ing"]
"""Of a verb: walk, walks, walked (past or participle), walking."""

_VOWELS = "aeiou"


@dataclass(frozen=True)
class Verbs:
    """What words mean as verbs."""

    names: tuple[str, ...]
    """The verbs of scenes, to which all synonyms lead."""
    phrases: Mapping[tuple[str, ...], str]
    """Words in their base form, one or with particles -> verb."""
    silent: frozenset[tuple[str, ...]]
    """Words that make no action."""
    light: frozenset[str]
    """Verbs that leave the meaning to a noun or to the next verb."""
    forms: Mapping[str, tuple[tuple[str, Form], ...]]
    """Inflected word -> its base forms."""
    with_particle: Mapping[str, tuple[tuple[str, Form], ...]]
    """The same of words that are verbs only with a particle ("back" in "back away")."""


@dataclass(frozen=True)
class Nouns:
    """What words mean as nouns and adjectives."""

    types: Mapping[str, EntityType]
    genders: Mapping[str, Gender]
    places: frozenset[str]
    """Nouns that are no entities: places without a size, directions, times."""
    body: frozenset[str]
    plurals: Mapping[str, str]
    colours: frozenset[str]
    materials: Mapping[str, str]
    sizes: Mapping[str, float]
    """Factor of the usual size."""
    modifiers: frozenset[str]


@cache
def verbs() -> Verbs:
    """The verbs, read once."""
    content = _read("verbs.yaml")
    lists = {name: _words(text) for name, text in content["verbs"].items()}
    phrases = {tuple(phrase.split()): name for name, words in lists.items() for phrase in words}
    silent = frozenset(tuple(phrase.split()) for phrase in _words(content["silent"]))
    light = [words.split()[0] for words in _words(content["light"])]
    bases = {phrase[0] for phrase in (*phrases, *silent)} | set(light)
    forms: dict[str, list[tuple[str, Form]]] = {}
    with_particle: dict[str, list[tuple[str, Form]]] = {}
    for base in sorted(bases):
        alone = (base,) in phrases or (base,) in silent or base in light
        for word, form in _inflections(base, content["past"].get(base)):
            (forms if alone else with_particle).setdefault(word, []).append((base, form))
    return Verbs(
        names=tuple(lists),
        phrases=phrases,
        silent=silent,
        light=frozenset(light),
        forms=_base_first(forms),
        with_particle=_base_first(with_particle),
    )


@cache
def nouns() -> Nouns:
    """The nouns, read once."""
    content = _read("nouns.yaml")
    female, male = _words(content["female"]), _words(content["male"])
    # The first kind of a noun with two meanings holds.
    types: dict[str, EntityType] = {}
    for kind in get_args(EntityType):
        for noun in (*female, *male, *_words(content[kind])) if kind == "person" else _words(content[kind]):
            types.setdefault(noun, kind)
    return Nouns(
        types=types,
        genders={**dict.fromkeys(female, "female"), **dict.fromkeys(male, "male")},
        places=frozenset(_words(content["places"])),
        body=frozenset(_words(content["body"])),
        plurals=content["plural"],
        colours=frozenset(_words(content["colours"])),
        materials=content["materials"],
        sizes=content["sizes"],
        modifiers=frozenset(_words(content["modifiers"])),
    )


def singular(word: str) -> str | None:
    """The singular of a plural noun; None where a word does not look like one.

    Example:
        singular("boxes")   # "box"
    """
    known = nouns()
    if word in known.plurals:
        return known.plurals[word]
    everything = known.types.keys() | known.places | known.body
    if word in everything or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return None
    candidates = [word[:-1]]
    if word.endswith("ies"):
        candidates.insert(0, f"{word[:-3]}y")
    if word.endswith("ves"):
        candidates += [f"{word[:-3]}f", f"{word[:-3]}fe"]
    if word.endswith("es"):
        candidates.append(word[:-2])
    return next((one for one in candidates if one in everything), candidates[0])


def entity_type(noun: str) -> EntityType:
    """What kind of thing a noun names, by its last word; an unknown one is an object."""
    head = re.split(r"[ _]", noun)[-1].lower()
    return nouns().types.get(head, "person" if head.endswith(("man", "woman", "boy", "girl")) else "object")


def nearest_verb(word: str) -> str:
    """The known verb that is spelled most like a word.

    Example:
        nearest_verb("wlaks")   # "walk"
    """
    known = verbs()
    candidates = {*known.names, *(word for word in known.forms)}
    near = difflib.get_close_matches(word.lower(), sorted(candidates), n=1, cutoff=0.0)[0]
    base = known.forms.get(near, ((near, "base"),))[0][0]
    return known.phrases.get((base,), near if near in known.names else base)


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _base_first(forms: Mapping[str, list[tuple[str, Form]]]) -> dict[str, tuple[tuple[str, Form], ...]]:
    return {word: tuple(sorted(found, key=lambda one: one[1] != "base")) for word, found in forms.items()}


def _inflections(base: str, past: str | None) -> list[tuple[str, Form]]:
    forms: list[tuple[str, Form]] = [(base, "base")]
    consonant_y = base.endswith("y") and base[-2] not in _VOWELS
    if base.endswith(("s", "x", "z", "ch", "sh")) or base in ("go", "do"):
        forms.append((f"{base}es", "s"))
    elif consonant_y:
        forms.append((f"{base[:-1]}ies", "s"))
    else:
        forms.append(("has" if base == "have" else f"{base}s", "s"))
    if base.endswith("ie"):
        stem = f"{base[:-2]}y"
    elif base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        stem = base[:-1]
    else:
        stem = base
    stems = [stem]
    if re.search(r"[^aeiou][aeiou][bdgklmnprtvz]$", base):
        # Both spellings of what may be doubled: stopping, and traveling.
        stems.append(base + base[-1])
    for one in stems:
        forms.append((f"{one}ing", "ing"))
    if past is not None:
        pasts = list(dict.fromkeys(past.split()))
    elif base.endswith("e"):
        pasts = [f"{base}d"]
    else:
        pasts = [f"{base[:-1]}ied"] if consonant_y else [f"{one}ed" for one in stems]
    for one in pasts:
        forms.append((one, "ed"))
    return forms
