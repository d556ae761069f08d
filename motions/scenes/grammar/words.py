"""The closed classes of words, and what is read of a piece of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from motions.scenes.vocabulary import Form, nouns, verbs

Kind = Literal[
    "noun",
    "pronoun",
    "verb",
    "preposition",
    "seconds",
    "times",
    "join",
    "then",
    "order",
    "together",
    "not",
    "be",
    "to",
    "who",
    "there",
    "word",
]
"""noun: a noun phrase; join: comma, and, but, or; order: before, after, while, ...; together: meanwhile; be: auxiliary
verbs; to: before an infinitive; who: relative pronouns; word: what only captions keep."""

NUMBERS = {
    **dict(
        zip(
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
            range(13),
            strict=True,
        )
    ),
    **{"thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19},
    **{"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
    **{"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000},
}
MAGNITUDES = {name: NUMBERS[name] for name in ("dozen", "hundred", "thousand", "million")}
"""Numbers that multiply the one before them."""
UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
PREPOSITIONS: dict[str, str] = {
    **dict.fromkeys(("on", "upon", "on top of", "atop", "on the top of"), "on"),
    **dict.fromkeys(("above",), "above"),
    **dict.fromkeys(("under", "below", "beneath", "underneath"), "below"),
    **dict.fromkeys(("in front of", "before the eyes of"), "in_front_of"),
    **dict.fromkeys(("behind", "in back of", "at the back of"), "behind"),
    **dict.fromkeys(("next to", "beside", "by", "alongside", "adjacent to", "at the side of"), "beside"),
    **dict.fromkeys(("near", "close to", "not far from", "nearby"), "near"),
    **dict.fromkeys(("inside", "within", "inside of", "in"), "inside"),
    **dict.fromkeys(("between", "in between"), "between"),
    **dict.fromkeys(("into",), "into"),
    **dict.fromkeys(("onto",), "onto"),
    **dict.fromkeys(
        ("to", "towards", "toward", "up to", "over to", "back to", "past", "across", "through", "around"), "to"
    ),
    **dict.fromkeys(
        ("along", "off", "out of", "off of", "away from", "up", "down", "out", "over", "round", "after"), "to"
    ),
    **{word: word for word in ("of", "with", "at", "for", "from", "against", "about", "like", "without")},
    "in the middle of": "of",
    "in the center of": "of",
    "in the centre of": "of",
}
for _side in ("left", "right"):
    for _start in ("to the", "on the", "at the", "to", ""):
        for _end in ("of", "side of", "hand side of"):
            PREPOSITIONS[f"{_start} {_side} {_end}".strip()] = f"{_side}_of"
PARTICLES = frozenset(
    [
        "up",
        "down",
        "off",
        "out",
        "over",
        "round",
        "around",
        "along",
        "through",
        "across",
        "past",
        "on",
        "in",
        "back",
        "away",
        "by",
        "to",
        "about",
        "after",
    ]
)
"""Without a noun phrase behind them they belong to the verb."""
ORDERS = {
    **dict.fromkeys(("while", "whilst", "as"), "while"),
    **{word: word for word in ("before", "after", "until", "when", "once")},
    **dict.fromkeys(("till",), "until"),
    **dict.fromkeys(("as soon as",), "once"),
    **dict.fromkeys(("prior to",), "before"),
}
FIXED: dict[str, Kind] = {
    **dict.fromkeys((",", ";", "and", "but", "or", "nor", "yet", "plus"), "join"),
    **dict.fromkeys(
        ("followed by", "then", "next", "afterwards", "afterward", "finally", "later", "subsequently", "after that"),
        "then",
    ),
    **dict.fromkeys(
        ("meanwhile", "simultaneously", "at the same time", "in the meantime", "all the while"), "together"
    ),
    **dict.fromkeys(("not", "never", "without", "neither", "instead of", "rather than", "no longer", "cannot"), "not"),
    **dict.fromkeys(("is", "are", "was", "were", "be", "been", "being", "am", "can", "will", "would", "must"), "be"),
    **dict.fromkeys(("should", "could", "may", "might", "shall"), "be"),
    **dict.fromkeys(("who", "which", "that"), "who"),
    **dict.fromkeys(
        ("back and forth", "up and down", "each other", "one another", "as well", "as if", "of course"), "word"
    ),
    **dict.fromkeys(("all of", "both of", "each of", "most of", "some of"), "word"),
    **dict.fromkeys(
        ("over and over", "again and again", "in place", "on the spot", "from side to side", "even"), "word"
    ),
    **dict.fromkeys(
        ("a little", "a bit", "all the way", "at all", "at last", "at first", "so that", "so", "if"), "word"
    ),
}
SOMEBODY: dict[str, str] = dict.fromkeys(("someone", "somebody", "anyone", "human"), "person")
PRONOUNS = frozenset(
    [
        "nobody",
        "none",
        "everyone",
        "everybody",
        "he",
        "she",
        "it",
        "they",
        "him",
        "her",
        "them",
        "himself",
        "herself",
        "itself",
        "themselves",
        "both",
    ]
)
DETERMINERS = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "these",
        "those",
        "his",
        "its",
        "their",
        "my",
        "your",
        "our",
        "some",
        "another",
        "each",
        "every",
        "all",
        "no",
        "any",
    ]
)
ADVERBS = frozenset(
    [
        "forward",
        "forwards",
        "backward",
        "backwards",
        "back",
        "away",
        "again",
        "together",
        "still",
        "just",
        "also",
        "well",
        "fast",
        "straight",
        "ahead",
        "sideways",
        "here",
        "off",
        "out",
        "over",
        "up",
        "down",
        "around",
        "left",
        "right",
        "very",
        "upright",
        "too",
        "slow",
        "quick",
        "first",
        "outside",
        "inside",
        "upstairs",
        "downstairs",
        "upward",
        "upwards",
        "downward",
        "downwards",
        "now",
        "soon",
        "only",
        "almost",
        "quite",
        "twice-over",
        "there",
        "home",
        "apart",
        "high",
        "low",
        "hard",
        "more",
        "alone",
    ]
)


@dataclass(frozen=True)
class NounPhrase:
    """What is read of a noun phrase."""

    noun: str
    """Singular, with the words that it is composed of: `tree_trunk`."""
    number: int | None
    """None for a plural without one."""
    definite: bool
    """Whether it can be something that was named before."""
    other: bool = False
    """Another one than those named before."""
    colour: str | None = None
    material: str | None = None
    scale: float = 1.0
    proper: bool = False

    @property
    def head(self) -> str:
        """The last word of the noun."""
        return self.noun.rpartition("_")[2]

    @property
    def is_entity(self) -> bool:
        """Not a place, a direction, a time, a part of a body or an action ("a kick")."""
        known = nouns()
        action = (self.head,) in verbs().phrases and self.head not in known.types
        return self.proper or not (self.head in known.places or self.head in known.body or action)


@dataclass(frozen=True)
class Piece:
    """A piece of a sentence."""

    kind: Kind
    text: str
    """As it stands there."""
    value: str = ""
    """Relation or path of a preposition, word that joins or orders, pronoun."""
    number: float = 0.0
    """Seconds or times."""
    phrase: NounPhrase | None = None
    verb: tuple[str, ...] = ()
    """Base form, with particles."""
    form: Form = "base"
