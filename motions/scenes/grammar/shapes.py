"""The shapes of clauses: where they end, who acts in them, what a verb means with its noun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from motions.scenes.grammar.state import Clause, Draft
from motions.scenes.grammar.words import Piece
from motions.scenes.vocabulary import nouns, verbs


def trimmed(found: list[Piece]) -> list[Piece]:
    """Without what joins nothing at the beginning and the end."""
    while found and found[0].kind in ("join", "then"):
        found = found[1:]
    while found and found[-1].kind in ("join", "then"):
        found = found[:-1]
    return found


def end_of_first(found: Sequence[Piece]) -> int:
    """Where the clause ends that begins a sentence by `before`, `after`, ...: the comma before the next subject."""
    for place, piece in enumerate(found):
        if piece.kind == "join" and piece.value == "," and place + 1 < len(found):
            following = next((k for k in range(place + 1, len(found)) if found[k].kind not in ("word", "then")), None)
            if following is not None and (found[following].kind == "verb" or leads_verb(found, following)):
                return place
    for place in range(2, len(found)):
        if (
            found[place].kind in ("noun", "pronoun")
            and leads_verb(found, place)
            and found[place - 1].kind != "preposition"
        ) and any(piece.kind == "verb" for piece in found[1:place]):
            return place
    return len(found)


def split_rest(found: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The clause behind a `before`, ..., and what comes after it with `then`."""
    for place, piece in enumerate(found):
        if piece.kind == "join" and "then" in [one.kind for one in found[place + 1 : place + 3]]:
            return found[:place], found[place + 1 :]
    return found, []


def ordered(word: str, first: list[Draft], second: list[Draft]) -> list[Draft]:
    """The actions of a clause with `before`, ... (first) and of the main one (second), in the order of time."""
    if word in ("before",):
        return [*second, *first]
    if word in ("after", "once", "having"):
        return [*first, *second]
    if word == "until":
        return [*second, *first]
    return [*second, *([replace(first[0], start="with"), *first[1:]] if first else [])] if second else first


def last_group(drafts: Sequence[Draft]) -> list[Draft]:
    """The last action with those of the group that does it together."""
    group: list[Draft] = []
    for draft in reversed(drafts):
        group.insert(0, draft)
        if draft.start == "after":
            break
    return [draft for draft in group if draft.verb == group[0].verb] if group else []


def leads_verb(found: Sequence[Piece], place: int) -> bool:
    """Whether the noun phrase there is the subject of a verb behind it."""
    k = place + 1
    while k < len(found):
        piece = found[k]
        if piece.kind == "preposition":
            k += 2
            if piece.value == "between" and k + 1 < len(found) and found[k].kind == "join":
                k += 2
        elif piece.kind in ("word", "seconds", "times", "together"):
            k += 1
        elif piece.kind == "join" and piece.value in ("and",) and k + 1 < len(found) and found[k + 1].kind == "noun":
            k += 2
        else:
            return piece.kind in ("verb", "be", "not", "who")
    return False


def is_joined(found: Sequence[Piece], place: int) -> bool:
    """Whether `and` or a comma stands directly before."""
    return place > 0 and found[place - 1].kind == "join"


def is_aside(found: Sequence[Piece], place: int, state: Clause) -> bool:
    """Whether a participle stands before the finite verb of its subject ("a woman holding a bag walks")."""
    if found[place].form != "ing" or state.being or state.finite or state.starting:
        return False
    for piece in found[place + 1 :]:
        if piece.kind == "then":
            return False
        if piece.kind in ("verb", "be"):
            return piece.kind == "be" or piece.form in ("s", "ed")
    return False


def light_meaning(found: Sequence[Piece], place: int) -> tuple[str | None, int, int | None] | None:
    """Verb, number of pieces and count of a light verb with its noun; a verb of None for one before another verb."""
    k = place + 1
    while k < len(found) and found[k].kind == "word":
        k += 1
    if k >= len(found):
        return None
    piece = found[k]
    if piece.kind == "to" or (
        piece.kind == "verb" and piece.form == "ing" and found[place].verb[0] not in ("go", "come")
    ):
        return None, k - place + (piece.kind == "to"), None
    if piece.kind == "verb" and piece.form == "ing":
        return None, k - place, None
    if piece.kind == "preposition" and piece.value in ("into", "to") and k + 1 < len(found):
        piece, k = found[k + 1], k + 1
        if piece.phrase is None or not (piece.phrase.number == 1 and not piece.phrase.definite):
            return None
    if piece.phrase is None:
        return None
    meant = action_of(piece)
    return None if meant is None else (meant[0], k - place + 1, meant[1])


def action_of(piece: Piece) -> tuple[str, int | None] | None:
    """The verb that a noun means ("two cartwheels"), and how many times."""
    if piece.phrase is None:
        return None
    verb = verbs().phrases.get((piece.phrase.head,)) or verbs().phrases.get((piece.text.split()[-1].lower(),))
    if verb is None or piece.phrase.head in nouns().types:
        return None
    many = piece.phrase.number if piece.phrase.number and piece.phrase.number > 1 and verb != "walk" else None
    return verb, many


def singly(piece: Piece) -> str:
    """A noun phrase of several as one of them, for the caption of one repetition."""
    return piece.text if piece.phrase is None else f"a {piece.phrase.noun.replace('_', ' ')}"


def goes_on(found: Sequence[Piece], place: int) -> bool:
    """Whether what follows "then" has no verb of its own ("walks in a circle, then in a line")."""
    rest = found[place + 1 :]
    end = next((k for k, piece in enumerate(rest) if piece.kind == "join"), len(rest))
    return bool(rest) and rest[0].kind == "preposition" and not any(piece.kind == "verb" for piece in rest[:end])


def is_attribute(found: Sequence[Piece], place: int) -> bool:
    """Whether a participle says how something is that is named after "with" ("with eyes closed")."""
    return place > 1 and found[place - 1].kind == "noun" and found[place - 2].value == "with"


def means_the_same(found: Sequence[Piece], place: int) -> bool:
    """Whether "does too", "does the same" or the like stands there."""
    does = found[place].text.lower() in ("does", "do", "did")
    return does and place + 1 < len(found) and found[place + 1].text.lower() in ("too", "so", "the same")


def has_have(found: Sequence[Piece], place: int) -> bool:
    """Whether "has", "have" or "had" stands before the verb there."""
    return any(piece.kind == "be" and piece.value == "having" for piece in found[max(0, place - 2) : place])


def has_agent(found: Sequence[Piece], place: int) -> bool:
    """Whether "by somebody" follows."""
    return any(piece.kind == "preposition" and piece.text.lower() == "by" for piece in found[place + 1 :])
