"""How well the rule parser reads hand-written sentences, half of which the rules were not written on.

    python -m benchmarks.scene_parsing [--check] [--show] [--parser runs/parser]

Sentences and what they mean: `tests/data/scenes/sentences.yaml`. Figures of each half:

    actions    share of sentences whose actions are exact: who does what, in the right order
    whole      the same with every action's target, beginning (after or with the one before) and repetitions
    entities   F1 over nouns with colours and materials
    relations  F1 over subject, relation and object
    durations  share of the sentences with a duration in which all durations are exact

Compound nouns count by their last word. Targets, of the half that the rules were not written on: actions .85,
entities .9, relations .85, durations 1. With --check, a target that the rules miss gives exit code 1. `--parser`
measures a parser of `jobs.train_m1_t5` beside them, alone and with the rules where it writes no scene or no action.
`--show` lists what is wrong in the half on which the rules were written; the other half is not to be looked at.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from jobs.scenes.parsing import read_by
from motions.base.errors import UserError
from motions.scenes.examples.targets import scene_of_target
from motions.scenes.rules import parse_text
from motions.scenes.scene import Scene
from motions.scenes.vocabulary import nouns

SENTENCES = Path(__file__).resolve().parents[1] / "tests" / "data" / "scenes" / "sentences.yaml"
BEAMS = 4
"""Of a trained parser's search, as in `jobs.parse_scene`."""
TARGETS = {"actions": 0.85, "entities": 0.9, "relations": 0.85, "durations": 1.0}


@dataclass(frozen=True)
class ReadAction:
    """An action as it is compared."""

    actor: str
    verb: str
    target: str | None
    start: str
    repeat: int
    seconds: float | None


@dataclass(frozen=True)
class Meaning:
    """What a sentence means, in the form in which it is compared."""

    entities: Counter[tuple[str, frozenset[str]]]
    actions: tuple[ReadAction, ...]
    relations: Counter[tuple[str, str, str]]


def head(name: str, *, numbered: bool = True) -> str:
    """The last word of a name, with its number: `toy_car_2` is `car_2`."""
    found = re.fullmatch(r"(.*?)(_\d+)?", name)
    assert found is not None
    return found[1].rsplit("_", 1)[-1].lower() + ((found[2] or "") if numbered else "")


def expected(record: dict) -> Meaning:
    """The meaning that is written beside a sentence."""
    materials = nouns().materials
    entities = Counter()
    for words in record["entities"]:
        *adjectives, noun = words.split()
        entities[head(noun), frozenset(materials.get(one, one) for one in adjectives)] += 1
    actions = []
    for words in record["actions"]:
        parts = words.split()
        together = parts[0] == "&"
        actor, verb, target, *more = parts[together:]
        counts = [int(one[1:]) for one in more if one[0] == "x"]
        seconds = [float(one[1:]) for one in more if one[0] == "@"]
        actions.append(
            ReadAction(
                head(actor),
                verb,
                None if target == "-" else head(target),
                "with" if together else "after",
                counts[0] if counts else 1,
                seconds[0] if seconds else None,
            )
        )
    relations = Counter((head(a), name, head(b)) for a, name, b in (words.split() for words in record["relations"]))
    return Meaning(entities, tuple(actions), relations)


def read(text: str, parse: Callable[[str], Scene] = parse_text) -> Meaning:
    """The meaning that a parser finds; none where it refuses a text."""
    try:
        scene = parse(text)
    except UserError:
        return Meaning(Counter(), (), Counter())
    entities = Counter(
        (head(one.name, numbered=False), frozenset(word for word in (one.colour, one.material) if word))
        for one in scene.entities
    )
    actions = tuple(
        ReadAction(head(a.actor), a.verb, a.target and head(a.target), a.start, a.repeat, a.seconds)
        for a in scene.actions
    )
    return Meaning(entities, actions, Counter((head(r.subject), r.relation, head(r.object)) for r in scene.relations))


def halves() -> dict[str, list[dict]]:
    """The sentences on which the rules were written, and the others."""
    records = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    return {"written on": records[0::2], "held out": records[1::2]}


def order(meaning: Meaning) -> list[tuple[str, str]]:
    """Who does what, in order."""
    return [(one.actor, one.verb) for one in meaning.actions]


def without_seconds(meaning: Meaning) -> list[tuple[str, str, str | None, str, int]]:
    """The actions without their durations."""
    return [(one.actor, one.verb, one.target, one.start, one.repeat) for one in meaning.actions]


def durations(meaning: Meaning) -> Counter[tuple[str, float]]:
    """The durations that are given, with their verbs."""
    return Counter((one.verb, one.seconds) for one in meaning.actions if one.seconds is not None)


def f1(pairs: Sequence[tuple[Counter, Counter]]) -> float:
    """F1 over all sentences together."""
    right = sum((wanted & found).total() for wanted, found in pairs)
    return 2 * right / sum(wanted.total() + found.total() for wanted, found in pairs)


def measure(records: Sequence[dict], parse: Callable[[str], Scene] = parse_text) -> dict[str, float]:
    """The figures of some sentences."""
    pairs = [(expected(record), read(record["text"], parse)) for record in records]
    timed = [(wanted, found) for wanted, found in pairs if durations(wanted) or durations(found)]
    return {
        "sentences": len(pairs),
        "actions": sum(order(wanted) == order(found) for wanted, found in pairs) / len(pairs),
        "whole": sum(without_seconds(wanted) == without_seconds(found) for wanted, found in pairs) / len(pairs),
        "entities": f1([(wanted.entities, found.entities) for wanted, found in pairs]),
        "relations": f1([(wanted.relations, found.relations) for wanted, found in pairs]),
        "durations": sum(durations(wanted) == durations(found) for wanted, found in timed) / len(timed),
    }


def trained(place: str) -> dict[str, Callable[[str], Scene]]:
    """Ways of reading by the parser in a folder: alone, and as `jobs.parse_scene` reads with it."""
    # A T5 takes seconds to import.
    from rollouts.text.scene_parser import load_parser

    parser = load_parser(place)
    alone = functools.cache(lambda text: scene_of_target(parser.write([text], num_beams=BEAMS)[0], text, "t5"))
    return {"T5": alone, "T5, else rules": lambda text: read_by(place, text, BEAMS)}


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scene_parsing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--show", action="store_true", help="list what is wrong in the half that was written on")
    parser.add_argument("--parser", help="folder of a trained parser that is measured too")
    options = parser.parse_args(arguments)
    figures = {name: measure(records) for name, records in halves().items()}
    for name, line in figures.items():
        print(f"{name:>10}: " + ", ".join(f"{key} {value:.3g}" for key, value in line.items()))
    for way, parse in trained(options.parser).items() if options.parser else ():
        for name, records in halves().items():
            line = measure(records, parse)
            print(f"{name:>10}, {way}: " + ", ".join(f"{key} {value:.3g}" for key, value in line.items()))
    for record in halves()["written on"] if options.show else ():
        wanted, found = expected(record), read(record["text"])
        if wanted != found:
            print(f"{record['text']}\n  expected {wanted}\n  found    {found}")
    missed = [
        f"{name} {figures['held out'][name]:.3f} of {target}"
        for name, target in TARGETS.items()
        if figures["held out"][name] < target
    ]
    if options.check:
        print("missed: " + "; ".join(missed) if missed else "all targets met")
        return 1 if missed else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
