"""What is known in the middle of reading a clause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from motions.scenes.grammar.words import Piece
from motions.scenes.scene import RelationName


@dataclass
class Draft:
    """An action that is being read."""

    actor: str
    verb: str
    base: str
    start: Literal["after", "with"]
    target: str | None = None
    repeat: int = 1
    seconds: float | None = None
    words: list[str] = field(default_factory=list)
    passive: bool = False
    """Read of a passive sentence, whose words are no caption."""
    relations: list[tuple[str, RelationName, str]] = field(default_factory=list)
    """Those that the action brings about."""


@dataclass
class Clause:
    """The state of reading a clause."""

    subject: tuple[str, ...] = ()
    outer: tuple[str, ...] | None = None
    """Subject of the clause around a relative one."""
    started: bool = False
    """Whether a verb was read."""
    acting: list[Draft] = field(default_factory=list)
    """Actions of the last verb, one for each actor."""
    figure: tuple[str, ...] = ()
    """What was named last behind the verb, of which a relation may follow."""
    blocked: bool = False
    """A part of a body or the like was named: what follows says where that is."""
    preposition: Piece | None = None
    last_preposition: str = ""
    between: int = 0
    fronted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    negated: bool = False
    negated_once: bool = False
    starting: bool = False
    """A verb as in "starts running" was read."""
    being: bool = False
    """An auxiliary verb was read."""
    boundary: bool = True
    """A comma or a conjunction was read, or nothing yet."""
    comma: bool = False
    together: bool = False
    passive: Draft | None = None
    seconds: float | None = None
    repeat: int | None = None
    finite: bool = False
    light: bool = False
    """The last verb was one as in "does a cartwheel", so that "and a backflip" is another action."""
    adverbs: list[str] = field(default_factory=list)
    """Before the verb to which they belong."""

    def read(self, piece: Piece) -> None:
        """Takes note of what is neither a noun nor a verb."""
        readers = {
            **{"join": self._join, "then": self._then, "together": self._together, "not": self._not, "be": self._be},
            **{"who": self._who, "preposition": self._preposition, "seconds": self._seconds, "times": self._times},
            "there": self._there,
        }
        if piece.kind in readers:
            readers[piece.kind](piece)

    def begin(self) -> None:
        """A verb was read: what follows belongs to it."""
        self.started, self.figure, self.blocked, self.last_preposition = True, (), False, ""
        self.fronted = []
        self.boundary, self.comma, self.light = False, False, False

    def _join(self, piece: Piece) -> None:
        if self.outer is not None and piece.value == ",":
            self.subject, self.outer = self.outer, None
        self.boundary = True
        self.comma = piece.value == ","
        if piece.value not in ("or", "nor") or not self.negated:
            self.negated = False
        if piece.value == "nor":
            self.negated = True

    def _then(self, piece: Piece) -> None:
        self.boundary, self.negated, self.finite = True, False, True

    def _together(self, piece: Piece) -> None:
        self.together = True

    def _not(self, piece: Piece) -> None:
        self.negated = True

    def _be(self, piece: Piece) -> None:
        self.being = True
        if self.outer is None or self.boundary:
            self.boundary = False
        if piece.value in ("do", "does", "did") or piece.text in ("does", "do", "did"):
            self.being = False

    def _who(self, piece: Piece) -> None:
        meant = self.figure or self.subject
        if meant:
            self.outer = self.outer or self.subject
            self.subject = meant
            self.boundary, self.started, self.being = False, False, False
            self.acting, self.figure = [], ()

    def _preposition(self, piece: Piece) -> None:
        self.preposition = piece
        self.between = 2 if piece.value == "between" else 0
        self.boundary = False

    def _seconds(self, piece: Piece) -> None:
        if piece.value == "after":
            self.seconds = piece.number
            return
        if self.acting:
            for draft in self.acting:
                draft.seconds = piece.number
        elif not self.started:
            self.seconds = piece.number

    def _times(self, piece: Piece) -> None:
        for draft in self.acting:
            draft.repeat = int(piece.number)
        if not self.acting:
            self.repeat = int(piece.number)

    def _there(self, piece: Piece) -> None:
        self.subject, self.started, self.being, self.boundary = (), False, True, True
