"""What a noun is in its clause: who acts, what an action is done to, or where something is."""

from __future__ import annotations

from collections.abc import Sequence

from motions.scenes.grammar.shapes import is_joined, leads_verb
from motions.scenes.grammar.state import Clause, Draft
from motions.scenes.grammar.words import Piece
from motions.scenes.mentions import Mentions
from motions.scenes.scene import RelationName

_SETTING = frozenset(("put", "drop"))
"""Verbs after which every relation of the object says where it ends."""
_POSTURES = frozenset(("sit", "stand", "lie", "wait", "kneel", "lean", "crouch", "sleep"))
STATES = frozenset((*_POSTURES, "put", "float", "balance"))
"""What things do by being somewhere ("a lamp stands on ...", "a picture hangs over ...")."""
_SUPPORTED = frozenset(
    [
        "sit",
        "stand",
        "lie",
        "wait",
        "kneel",
        "crouch",
        "sleep",
        "balance",
        "dance",
        "stretch",
        "walk",
        "run",
        "jump",
        "skip",
        "crawl",
        "spin",
        "turn",
        "roll",
        "push_up",
        "sit_up",
        "handstand",
    ]
)
"""Verbs of which "on" and "in" say where the actor is ("sits on the chair", unlike "knocks on the door")."""
_TOWARDS = frozenset(("lunge", "reach", "look", "wait", "fight", "run", "walk"))
_MOVING = frozenset(
    ["dance", "stretch", "walk", "run", "skip", "crawl", "spin", "turn", "roll", "push_up", "sit_up", "handstand"]
)
"""Of those the verbs of which it is only the place and no target."""


class Placing:
    """Reads nouns into entities, subjects, targets and relations."""

    def __init__(self) -> None:
        self.mentions = Mentions()
        self.relations: list[tuple[str, RelationName, str]] = []

    def names(self, piece: Piece, but: tuple[str, ...] = (), *, acts: bool = False) -> tuple[str, ...]:
        """Entities that a noun phrase or a pronoun means."""
        if piece.phrase is not None:
            return self.mentions.meant(piece.phrase)
        return self.mentions.pronoun(piece.value, but, acts=acts)

    def noun(self, found: Sequence[Piece], place: int, state: Clause) -> None:
        """A noun phrase or a pronoun in its part: subject, object, or behind a preposition."""
        piece = found[place]
        if state.between == 1 and is_joined(found, place):
            state.preposition, state.between = Piece("preposition", "", "between"), 0
        if state.preposition is not None:
            self._behind_preposition(piece, state)
            return
        leads = leads_verb(found, place)
        if not state.started or (state.boundary and leads):
            told = state.started or (state.being and leads)
            joined = state.boundary and bool(state.subject) and not told and is_joined(found, place)
            if piece.value in ("nobody", "none"):
                state.negated, state.subject = True, ()
                return
            names = self.names(piece, acts=True)
            if not names and piece.phrase is not None:
                state.subject = state.subject if joined else ()
                state.started, state.acting, state.boundary = False, [], False
                return
            state.subject = (*state.subject, *names) if joined else names
            if not joined:
                state.started, state.acting, state.being, state.outer = False, [], False, None
            if joined:
                self.mentions.note(state.subject)
            state.figure, state.blocked, state.boundary = (), False, False
            for relation, objects in state.fronted:
                self._relate(names, relation, objects, None)
            return
        joined_object = state.boundary and bool(state.last_preposition) and is_joined(found, place)
        if joined_object and state.last_preposition:
            state.preposition = Piece("preposition", "", state.last_preposition)
            self._behind_preposition(piece, state)
            state.boundary = False
            return
        names = self.names(piece, () if piece.kind == "noun" else state.subject)
        state.boundary = False
        if not names:
            state.blocked = True
            return
        state.figure, state.blocked = names, False
        for draft in state.acting:
            if draft.target is None and draft.verb != "wait":
                draft.target = names[0]
                draft.verb = {"lean": "put"}.get(draft.verb, draft.verb)
        if state.acting:
            self.mentions.objects.append(names[0])

    def _behind_preposition(self, piece: Piece, state: Clause) -> None:
        assert state.preposition is not None
        relation = state.preposition.value
        excluded = state.figure or state.subject
        names = self.names(piece, () if piece.kind == "noun" else excluded)
        if relation == "between" and state.between == 2 and len(names) < 2:
            state.between = 1
            state.last_preposition = "between"
        state.preposition = None
        if relation == "of":
            if state.last_preposition and not state.figure and names:
                relation = state.last_preposition
            else:
                if names and not state.started and not state.subject:
                    state.subject = names
                return
        state.last_preposition = relation
        if not names:
            if state.started and not state.figure:
                state.blocked = state.blocked and not state.figure
            return
        action = state.acting[0] if state.acting else None
        if (
            state.passive is not None
            and relation == "beside"
            and self.mentions.entity(names[0]).type in ("person", "animal")
        ):
            state.passive.actor = names[0]
            state.passive = None
            return
        if state.started and action is None and not state.figure and state.negated_once:
            state.figure = names
            return
        self._place(names, relation, action, state)

    def _place(self, names: tuple[str, ...], relation: str, action: Draft | None, state: Clause) -> None:
        """What a preposition with its noun says: a relation, a target, or nothing but that these exist."""
        figure = state.figure
        if relation == "at" and action is not None and action.verb in _POSTURES and not figure:
            relation = "near"
        if relation == "against" and figure:
            relation = "beside"
        if relation == "over" or (relation == "to" and action is None and state.started and not figure):
            relation = "above" if action is None else "to"
        if relation in ("into", "onto") and figure and action is not None:
            relation = {"into": "inside", "onto": "on"}[relation]
            self._relate(figure, relation, names, action)
        elif relation in ("into", "onto", "to", "at", "against", "through"):
            self._aim(state, names)
        elif relation == "from":
            if action is not None and action.verb in ("drink", "eat"):
                self._aim(state, names)
        elif relation == "for":
            if action is not None and action.verb in _TOWARDS:
                self._aim(state, names)
        elif relation in ("with", "about", "like", "without"):
            state.figure = names if relation == "with" else figure
            return
        elif state.blocked and not figure:
            pass
        elif figure:
            brings = action if action is not None and action.verb in _SETTING and figure[0] == action.target else None
            self._relate(figure, relation, names, brings)
        elif action is not None:
            for draft in state.acting:
                if relation not in ("on", "inside") or draft.verb in _SUPPORTED:
                    self._relate((draft.actor,), relation, names, draft)
            if relation in ("on", "inside") and action.verb not in _MOVING:
                self._aim(state, names)
        elif state.subject:
            self._relate(state.subject, relation, names, None)
        else:
            state.fronted.append((relation, names))
            state.figure = () if relation == "between" else names
            return
        if (state.started or state.subject) and state.between != 1:
            state.figure = names if state.started else state.figure

    def _aim(self, state: Clause, names: tuple[str, ...]) -> None:
        for draft in state.acting:
            if draft.target is None:
                draft.target = names[0]
        if any(draft.target == names[0] for draft in state.acting):
            self.mentions.objects.append(names[0])

    def _relate(self, subjects: Sequence[str], name: str, objects: Sequence[str], action: Draft | None) -> None:
        relation: RelationName = "beside" if name == "between" else name  # pyright: ignore[reportAssignmentType]
        into = self.relations if action is None else action.relations
        into += [(one, relation, other) for one in subjects for other in objects if one != other]
