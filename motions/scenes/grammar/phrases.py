"""Cuts a sentence into pieces: noun phrases, verbs, prepositions, durations, and so on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from motions.scenes.grammar.noun_phrases import NounReader
from motions.scenes.grammar.words import (
    ADVERBS,
    DETERMINERS,
    FIXED,
    MAGNITUDES,
    NUMBERS,
    ORDERS,
    PARTICLES,
    PREPOSITIONS,
    PRONOUNS,
    UNITS,
    Kind,
    Piece,
)
from motions.scenes.vocabulary import Form, nouns, singular, verbs


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence; numbers stay whole, contractions and units are taken apart.

    Example:
        sentences("He doesn't run. She waits 5s.")   # [["He", "does", "not", "run"], ["She", "waits", "5", "s"]]
    """
    text = re.sub(r"[‘’]", "'", text)
    text = re.sub(r"\b(ca|wo)n't\b", lambda m: {"ca": "can", "wo": "will"}[m[1]] + " not", text, flags=re.IGNORECASE)
    text = re.sub(r"n't\b", " not", text)
    text = re.sub(r"\b(jumping) (jacks?)\b|\b(push|sit|press) (ups)\b", r"\1\3-\2\4", text, flags=re.IGNORECASE)
    text = re.sub(r"(\d)(?=[a-z])|(?<=\d)-(?=[a-z])", r"\1 ", text)
    found = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+(?:-[^\W\d_]+)*|'s\b|[.!?;,:]", text)
    result: list[list[str]] = [[]]
    for place, word in enumerate(found):
        abbreviation = word == "." and place and found[place - 1] in ("sec", "min") and place + 1 < len(found)
        if word in ".!?;:" and not (abbreviation and found[place + 1][0].islower()):
            result.append([])
        elif word not in ".":
            result[-1].append(word)
    return [words for words in result if words]


def pieces(words: Sequence[str]) -> list[Piece]:
    """The pieces of a sentence in order."""
    return _Cutter(words).cut()


class _Cutter:
    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.low = [word.lower() for word in words]
        self.at = 0
        self.found: list[Piece] = []

    def cut(self) -> list[Piece]:
        while self.at < len(self.low):
            for reader in (self.duration, self.times, self.fixed, self.preposition, self.noun_phrase, self.other):
                start = self.at
                piece = reader()
                if piece is not None:
                    self.found.append(piece)
                if self.at > start:
                    break
            else:
                self.found.append(self.take("word", 1))
        return self.found

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.low[place] if place < len(self.low) else ""

    def take(self, kind: Kind, count: int, value: str = "", **more: object) -> Piece:
        text = " ".join(self.words[self.at : self.at + count])
        self.at += count
        return Piece(kind, text, value, **more)  # pyright: ignore[reportArgumentType]

    @property
    def before(self) -> Piece | None:
        return self.found[-1] if self.found else None

    def number(self, ahead: int) -> tuple[float, int] | None:
        """A number there, and how many words it has."""
        word, length = self.peek(ahead), 1
        if word == "half" and self.peek(ahead + 1) in ("a", "an"):
            return 0.5, 2
        if word == "a" and self.peek(ahead + 1) == "half":
            return 0.5, 2
        if word in ("a", "one") and self.peek(ahead + 1) == "quarter" and self.peek(ahead + 2) == "of":
            return 0.25, 4
        if word in ("a", "an"):
            if self.peek(ahead + 1) == "couple" and self.peek(ahead + 2) == "of":
                return 2.0, 3
            value = 1.0
        elif word in NUMBERS:
            value = float(NUMBERS[word])
            if 20 <= value < 100 and self.peek(ahead + 1) in NUMBERS and NUMBERS[self.peek(ahead + 1)] < 10:
                value, length = value + NUMBERS[self.peek(ahead + 1)], 2
        elif re.fullmatch(r"\d+(\.\d+)?", word):
            value = float(word)
        else:
            return None
        while self.peek(ahead + length) in MAGNITUDES:
            value, length = value * MAGNITUDES[self.peek(ahead + length)], length + 1
        if [self.peek(ahead + length + place) for place in range(3)] == ["and", "a", "half"]:
            return value + 0.5, length + 3
        return value, length

    def duration(self) -> Piece | None:
        """`for 3 seconds`, `half a minute`, `after 2 s`."""
        first = self.peek()
        skip = 1 if first in ("for", "in", "within", "during", "after", "lasting") else 0
        while self.peek(skip) in (
            "about",
            "around",
            "exactly",
            "roughly",
            "another",
            "the",
            "next",
            "approximately",
            "some",
        ):
            skip += 1
        read = self.number(skip)
        if read is None or (unit := UNITS.get(self.peek(skip + read[1]))) is None:
            return None
        length = skip + read[1] + 1
        return self.take("seconds", length, "after" if first == "after" else "", number=read[0] * unit)

    def times(self) -> Piece | None:
        """`twice`, `three times`, `ten more times`."""
        word = self.peek()
        if word in ("twice", "thrice"):
            return self.take("times", 1, number={"twice": 2.0, "thrice": 3.0}[word])
        if word == "once" and self.found and self.found[-1].kind != "join":
            return self.take("times", 1, number=1.0)
        read = self.number(0)
        if read is None:
            return None
        length = read[1] + (self.peek(read[1]) == "more")
        if self.peek(length) in ("time", "times"):
            return self.take("times", length + 1, number=read[0])
        return None

    def fixed(self) -> Piece | None:
        for length in (4, 3, 2, 1):
            words = " ".join(self.low[self.at : self.at + length])
            if len(words.split()) < length:
                continue
            if length > 1 and words in PREPOSITIONS:
                return None
            if words in ORDERS and self.orders(words):
                return self.take("order", length, ORDERS[words])
            if words in FIXED:
                kind = FIXED[words]
                if kind == "who" and words == "that" and self.found and self.found[-1].kind != "noun":
                    return None
                return self.take(kind, length, words)
        word = self.peek()
        if word == "there" and self.peek(1) in ("is", "are", "was", "were", "stands", "lies", "sits", "hangs"):
            return self.take("there", 2)
        if word == "to" and self.is_verb(1, "base") and self.peek(1) not in nouns().places:
            return self.take("to", 1)
        if word in ("has", "have", "had", "having") and self.is_verb(1, "ed"):
            return self.take("order" if word == "having" else "be", 1, "having")
        if word in ("do", "does", "did") and (self.peek(1) in ("not", "too") or self.is_verb(1, "base")):
            return self.take("be", 1, word)
        return None

    def orders(self, word: str) -> bool:
        """Whether `after`, `as`, `once`, ... begins a clause here."""
        if word == "once":
            return not self.found or self.found[-1].kind == "join"
        if word == "as":
            return not self.found or self.starts_noun(1)
        return True

    def is_verb(self, ahead: int, *forms: Form) -> bool:
        found = verbs().forms.get(self.peek(ahead), ())
        return any(not forms or form in forms for _, form in found)

    def preposition(self) -> Piece | None:
        for length in (5, 4, 3, 2, 1):
            words = " ".join(self.low[self.at : self.at + length])
            if len(words.split()) < length or words not in PREPOSITIONS:
                continue
            if length == 1 and words in PARTICLES and not self.starts_noun(1):
                return None
            if length == 1 and words in ("out",) and self.peek(1) in ("a", "the"):
                return self.take("word", 1)
            return self.take("preposition", length, PREPOSITIONS[words])
        return None

    def starts_noun(self, ahead: int) -> bool:
        """Whether a noun phrase or a pronoun begins there."""
        word = self.peek(ahead)
        if not word or word in FIXED or word in ORDERS or (word in ADVERBS and word != "left"):
            return False
        known = nouns()
        return (
            word in DETERMINERS
            or word in PRONOUNS
            or word in NUMBERS
            or word.isdigit()
            or word in known.types
            or word in known.places
            or word in known.body
            or word in known.colours
            or word in known.materials
            or word in known.modifiers
            or word in known.sizes
            or (singular(word) or "") in {*known.types, *known.places, *known.body}
            or (ahead + self.at > 0 and self.words[self.at + ahead][0].isupper())
        )

    def other(self) -> Piece | None:
        """Pronouns, verbs, adverbs."""
        word = self.peek()
        if word in PRONOUNS:
            return self.take("pronoun", 1, word)
        if self.is_verb(0) and not (word == "left" and not self.starts_noun(1)):
            return self.verb()
        if word in verbs().with_particle and (piece := self.verb()) is not None:
            return piece
        if word.endswith("ly") or word in ADVERBS:
            return self.take("word", 1)
        if self.expects_verb and word.endswith(("s", "ed", "ing")) and word.isalpha():
            base = re.sub(r"(es|s|ed|ing)$", "", word)
            return self.take("verb", 1, "unknown", verb=(base,), form="s")
        return None

    @property
    def expects_verb(self) -> bool:
        """Whether a subject has just been named."""
        for piece in reversed(self.found):
            if piece.kind != "word":
                joined = piece.kind == "join" and any(one.kind == "verb" for one in self.found)
                if joined and self.peek(1) and (self.starts_noun(1) or self.peek(1) in PREPOSITIONS):
                    return True
                return piece.kind in ("noun", "pronoun") and not any(one.kind == "verb" for one in self.clause())
        return False

    def clause(self) -> list[Piece]:
        """What was found since the last comma or conjunction."""
        ends = [place for place, piece in enumerate(self.found) if piece.kind in ("join", "order", "then")]
        return self.found[ends[-1] + 1 if ends else 0 :]

    def verb(self) -> Piece | None:
        """The verb here, with the particles of the longest phrase that is known."""
        known = verbs()
        candidates = (*known.forms.get(self.peek(), ()), *known.with_particle.get(self.peek(), ()))
        for length in (5, 4, 3, 2):
            said = tuple(self.low[self.at + 1 : self.at + length])
            owned = tuple("one's" if word in ("his", "her", "its", "their", "the") else word for word in said)
            for (base, form), rest in itertools.product(candidates, (said, owned)):
                if len(rest) == length - 1 and ((base, *rest) in known.phrases or (base, *rest) in known.silent):
                    return self.take("verb", length, verb=(base, *rest), form=form)
        if self.peek() not in known.forms:
            return None
        base, form = known.forms[self.peek()][0]
        return self.take("verb", 1, verb=(base,), form=form)

    def noun_phrase(self) -> Piece | None:
        return NounReader(self).read()
