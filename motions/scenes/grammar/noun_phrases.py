"""Reads noun phrases: determiner, number, adjectives and nouns."""

from __future__ import annotations

from typing import Protocol

from motions.scenes.grammar.words import (
    ADVERBS,
    DETERMINERS,
    FIXED,
    NUMBERS,
    ORDERS,
    PREPOSITIONS,
    PRONOUNS,
    SOMEBODY,
    UNITS,
    Kind,
    NounPhrase,
    Piece,
)
from motions.scenes.vocabulary import Form, nouns, singular, verbs


class Cursor(Protocol):
    """A place in the words of a sentence, as `motions.scenes.grammar.phrases` moves it on."""

    words: list[str]
    at: int

    @property
    def before(self) -> Piece | None: ...

    def peek(self, ahead: int = 0) -> str: ...

    def take(self, kind: Kind, count: int, value: str = "", **more: object) -> Piece: ...

    def number(self, ahead: int) -> tuple[float, int] | None: ...

    def is_verb(self, ahead: int, *forms: Form) -> bool: ...

    def starts_noun(self, ahead: int) -> bool: ...


class NounReader:
    """Reads the noun phrase at which a cutter stands."""

    def __init__(self, cutter: Cursor) -> None:
        self.cutter = cutter
        self.length = 0
        self.nouns: list[str] = []
        self.colour: str | None = None
        self.material: str | None = None
        self.scale = 1.0
        self.plural = False
        self.proper = False

    def read(self) -> Piece | None:
        """The noun phrase, if there is one."""
        cutter = self.cutter
        word = cutter.peek()
        if word in PRONOUNS and not (word in ("her", "both") and self.follows()):
            return None
        number, definite, other, determined = self.determiners()
        if not determined and not self.begins_bare():
            return None
        proper = self.proper = not determined and self.is_name(0)
        while self.nouns[:1] != ["one"] and (word := cutter.peek(self.length)) and self.add(word, determined):
            pass
        if not self.nouns:
            return None
        if cutter.peek(self.length) == "'s":
            cutter.at += self.length + 1
            return NounReader(cutter).read_owned()
        if number is None and not self.plural:
            number = 1
        phrase = NounPhrase(
            "_".join(self.nouns), number, definite, other, self.colour, self.material, self.scale, proper
        )
        return cutter.take("noun", self.length, phrase=phrase)

    def read_owned(self) -> Piece | None:
        """What belongs to somebody: the phrase after 's."""
        while (word := self.cutter.peek(self.length)) and self.add(word, True):
            pass
        if not self.nouns:
            return None
        phrase = NounPhrase("_".join(self.nouns), None if self.plural else 1, True, False, self.colour, self.material)
        return self.cutter.take("noun", self.length, phrase=phrase)

    def follows(self) -> bool:
        """Whether `her` owns something here, and `both` counts something."""
        word = self.cutter.peek(1)
        known = nouns()
        everything = {*known.types, *known.places, *known.body, *known.colours, *known.materials, *known.modifiers}
        plain = (
            word in everything or (singular(word) or "") in everything or word in ("the", "of") or word in known.sizes
        )
        if word in everything and self.cutter.is_verb(1, "s", "ed", "ing"):
            return False
        return plain and not (self.cutter.peek() == "her" and word in ("the", "of", "left", "right", "up", "down"))

    def determiners(self) -> tuple[int | None, bool, bool, bool]:
        """Number, whether definite, whether another, and whether there is any determiner."""
        cutter = self.cutter
        number, definite, other, any_found = None, True, False, False
        while True:
            word = cutter.peek(self.length)
            read = None if word in ("a", "an", "one") else cutter.number(self.length)
            if word in ("a", "an") and cutter.peek(self.length + 1) in ("few", "couple", "pair", "number"):
                number, definite = None if cutter.peek(self.length + 1) == "few" else 2, False
                self.length += 2 + (cutter.peek(self.length + 2) == "of")
                any_found = True
                if cutter.peek(self.length - 1) in ("couple", "pair") and not cutter.starts_noun(self.length):
                    self.nouns, self.plural = ["person"], True
            elif word in ("a", "an"):
                number, definite, any_found = 1, False, True
                self.length += 1
            elif word in DETERMINERS or word in ("her", "both"):
                other |= word == "another"
                definite &= word != "another" and word != "some"
                number = 2 if word == "both" else number
                any_found = True
                self.length += 1
            elif word == "one" and (any_found or cutter.starts_noun(1)) and cutter.peek(self.length + 1) != "of":
                number, any_found, definite = 1, True, any_found
                self.length += 1
            elif read is not None and read[0] == int(read[0]):
                number, definite, any_found = int(read[0]), any_found and definite, True
                self.length += read[1]
            elif word == "other" and any_found and not self.continues(self.length + 1):
                # "the other one", or "the other" alone.
                self.nouns = ["one"]
                self.length += 1 + (cutter.peek(self.length + 1) == "one")
                return 1, True, True, True
            elif word in ("other", "second", "third") and any_found and self.continues(self.length + 1):
                other = True
                self.length += 1
            else:
                return number, definite, other, any_found

    def is_name(self, ahead: int) -> bool:
        """Whether the word there is a person's name."""
        cutter = self.cutter
        place = cutter.at + ahead
        word = cutter.words[place]
        known = nouns()
        low = word.lower()
        return (
            word[0].isupper()
            and low not in verbs().forms
            and low
            not in {*known.types, *known.places, *known.body, *known.colours, *known.materials, *known.modifiers}
            and low not in {*FIXED, *ORDERS, *PREPOSITIONS, *ADVERBS, *PRONOUNS, *DETERMINERS, *NUMBERS, *known.sizes}
            and not low.endswith("ly")
            and (singular(low) or "") not in {*known.types, *known.places, *known.body}
        )

    def begins_bare(self) -> bool:
        """Whether a noun phrase without determiner begins here."""
        cutter = self.cutter
        word = cutter.peek()
        known = nouns()
        if self.is_name(0):
            return True
        noun = word in known.types or word in known.places or word in known.body
        noun |= (singular(word) or "") in {*known.types, *known.places, *known.body}
        adjective = word in known.colours or word in known.materials or word in known.sizes or word in known.modifiers
        if word in ADVERBS and not (word in ("left", "right") and cutter.peek(1) in known.body):
            return False
        if cutter.is_verb(0):
            before = cutter.before
            return (
                noun and before is not None and before.kind in ("preposition", "verb") and not cutter.is_verb(0, "ing")
            )
        return noun or (adjective and cutter.starts_noun(1))

    def add(self, word: str, determined: bool) -> bool:
        """Takes one more word if it belongs to the phrase."""
        cutter, known = self.cutter, nouns()
        can = word == "can" and determined and not self.nouns
        if (word in FIXED and not can) or word in ORDERS or (word in UNITS and self.nouns):
            return False
        if word in PREPOSITIONS and word not in known.modifiers:
            return False
        one = singular(word)
        base = one or word
        noun = base in known.types or base in known.places or base in known.body
        more = self.continues(self.length + 1)
        if not self.nouns and more and (word in known.colours or word in known.materials or word in known.sizes):
            if word in known.materials and word not in ("golden", "silver"):
                self.material = known.materials[word]
            elif word in known.colours:
                self.colour = word
            else:
                self.scale = known.sizes[word]
        elif not self.nouns and more and word in known.modifiers:
            pass
        elif self.nouns:
            if self.proper or not self.continues(self.length):
                return False
            self.nouns.append(base)
            self.plural = one is not None
        elif cutter.is_verb(self.length, "ing", "ed") and more and not noun:
            pass
        elif noun or determined or self.is_name(self.length):
            if word in ADVERBS and not noun:
                return False
            name = self.is_name(self.length) and not determined
            self.nouns.append(cutter.words[cutter.at + self.length] if name else SOMEBODY.get(base, base))
            self.plural = one is not None
        else:
            return False
        self.length += 1
        return True

    def continues(self, ahead: int) -> bool:
        """Whether the word there can belong to the noun phrase."""
        cutter, known = self.cutter, nouns()
        word = cutter.peek(ahead)
        if not word or not word[0].isalpha() or word in FIXED or word in ORDERS or word in DETERMINERS:
            return False
        if word in PRONOUNS or word in UNITS or word in NUMBERS or word in ("twice", "thrice", "there"):
            return False
        if word in PREPOSITIONS or (word in ADVERBS and word not in known.modifiers):
            return False
        base = singular(word) or word
        noun = base in known.types or base in known.places or base in known.body
        head = self.nouns[-1] if self.nouns else ""
        if cutter.is_verb(ahead):
            if not self.nouns:
                return True
            if known.types.get(head) in ("person", "animal") or self.plural or not cutter.is_verb(ahead, "base"):
                return False
            return noun or head not in known.types
        if self.nouns:
            return (noun and not word.endswith("ly")) or (head not in known.types and not self.looks_like_verb(ahead))
        return noun or not word.endswith("ly")

    def looks_like_verb(self, ahead: int) -> bool:
        """Whether an unknown word is in the place and the form of a verb."""
        word = self.cutter.peek(ahead)
        return word.endswith(("s", "ed", "ing", "ly"))
