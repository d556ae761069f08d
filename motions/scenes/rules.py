"""The rule parser: an English text as a scene.

It reads the order of the text, "before", "after", "while", "until"; verbs after "and" and commas; counts, repetitions
and durations; negations; several actors; pronouns; relations of place. Words are matched whole: no "sit" in "position".

Example:
    scene = parse_text("A man walks to the table, then kicks the red ball next to it.")
    [action.verb for action in scene.actions]   # ["walk", "kick"]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from motions.base.errors import UserError
from motions.scenes.grammar.phrases import pieces, sentences
from motions.scenes.grammar.placing import STATES, Placing
from motions.scenes.grammar.shapes import (
    action_of,
    end_of_first,
    goes_on,
    has_agent,
    has_have,
    is_aside,
    is_attribute,
    is_joined,
    last_group,
    leads_verb,
    light_meaning,
    means_the_same,
    ordered,
    singly,
    split_rest,
    trimmed,
)
from motions.scenes.grammar.state import Clause, Draft
from motions.scenes.grammar.words import Piece
from motions.scenes.mentions import Mentions
from motions.scenes.scene import MOST_REPETITIONS, Action, Relation, Scene, check_scene, unknown_verb
from motions.scenes.vocabulary import verbs

_STYLE = re.compile(
    r"[,.]?\s*\b(?:in (?:a|an|the) )?((?:[a-z]+[- ])?(?:cartoon|anime|cinematic|realistic|sketch"
    r"|watercolou?r|pixel|noir|comic)[a-z]*)(?: style)?\b(?=[.,]?\s*$)",
    re.IGNORECASE,
)


def parse_text(text: str) -> Scene:
    """The scene of a text.

    Raises:
        UserError: nothing is in the text, or a verb is not known (the nearest one is named), or its relations
            contradict each other, or a duration is not above 0 and at most 60 s.
    """
    if not text.strip():
        raise UserError("the text is empty: it describes no scene")
    style = _STYLE.search(text)
    reader = _Reader()
    for words in sentences(text[: style.start()] if style else text):
        reader.sentence(pieces(words))
    scene = reader.scene(text, style[1].lower() if style else None)
    if not scene.entities:
        raise UserError(f"{text!r} describes no scene: nobody and nothing is named in it")
    check_scene(scene)
    return scene


class _Reader(Placing):
    """Reads sentences into entities, drafts of actions, and relations."""

    def __init__(self) -> None:
        super().__init__()
        self.drafts: list[Draft] = []
        self.notes: list[str] = []

    def scene(self, text: str, style: str | None) -> Scene:
        """What was read.

        Raises:
            UserError: an action is repeated more than `MOST_REPETITIONS` times.
        """
        for draft in self.drafts:
            if not 1 <= draft.repeat <= MOST_REPETITIONS:
                raise UserError(f"{draft.verb!r} {draft.repeat} times; at least 1 and at most {MOST_REPETITIONS}")
        actions = tuple(
            Action(
                actor=draft.actor,
                verb=draft.verb,
                text=caption(self.mentions, draft),
                target=draft.target,
                start="after" if not place else draft.start,
                repeat=draft.repeat,
                seconds=draft.seconds,
            )
            for place, draft in enumerate(self.drafts)
        )
        relations = [Relation(subject=a, relation=b, object=c) for a, b, c in dict.fromkeys(self.relations)]
        for place, draft in enumerate(self.drafts):
            relations += [
                Relation(subject=a, relation=b, object=c, after=place) for a, b, c in dict.fromkeys(draft.relations)
            ]
        return Scene(
            text=text,
            entities=tuple(self.mentions.entities),
            actions=actions,
            relations=tuple(relations),
            style=style,
            parser="rules",
            notes=tuple(self.notes),
        )

    def sentence(self, found: Sequence[Piece]) -> None:
        """Adds what a sentence says."""
        self.drafts += self.clauses(list(found), ())

    def clauses(self, found: list[Piece], subject: tuple[str, ...]) -> list[Draft]:
        """The actions of clauses that are joined by before, after, while, ..., in the order of their beginning."""
        found = trimmed(found)
        if not found:
            return []
        place = next((place for place, piece in enumerate(found) if piece.kind == "order"), None)
        if place is None:
            return self.clause(found, subject)
        word = found[place].value
        if place == 0:
            end = end_of_first(found)
            inner, rest = found[1:end], found[end:]
            inner_subject = subject
            if not any(piece.kind in ("noun",) for piece in inner[:1]) and rest:
                inner_subject = self.first_subject(rest) or subject
            first = self.clauses(inner, inner_subject)
            if not subject and first and not self.first_subject_is_named(rest):
                subject = (first[-1].actor,)
            second = self.clauses(rest, subject or inner_subject)
            if word == "while" and first:
                return [*first, *([replace(second[0], start="with"), *second[1:]] if second else [])]
            return ordered("once" if word == "when" else word, first, second)
        main = self.clause(found[:place], subject)
        inner, rest = split_rest(found[place + 1 :])
        kept = tuple(draft.actor for draft in last_group(main)) or subject
        sub = self.clauses(inner, kept)
        result = ordered(word, sub, main)
        if rest:
            after = self.clauses(rest, tuple(draft.actor for draft in last_group(result)) or kept)
            result += after
        return result

    def first_subject_is_named(self, found: Sequence[Piece]) -> bool:
        """Whether a clause begins with its subject."""
        first = next((piece for piece in found if piece.kind not in ("join", "then", "word")), None)
        return first is not None and first.kind in ("noun", "pronoun", "preposition")

    def first_subject(self, found: Sequence[Piece]) -> tuple[str, ...]:
        """Who a clause is about, if it begins with a noun phrase."""
        first = next((piece for piece in found if piece.kind not in ("join", "then", "word")), None)
        if first is None or first.kind not in ("noun", "pronoun"):
            return ()
        return self.names(first, acts=True)

    def coming_subject(self, found: Sequence[Piece]) -> tuple[str, ...]:
        """Who does what a participle at the beginning says: the next subject."""
        for place, piece in enumerate(found):
            if piece.kind in ("noun", "pronoun") and place and is_joined(found, place) and leads_verb(found, place):
                return self.names(piece, acts=True)
        return ()

    def clause(self, found: list[Piece], subject: tuple[str, ...]) -> list[Draft]:
        """The actions of a clause, or of several that follow each other."""
        if found and found[0].kind == "verb" and found[0].form == "ing" and not subject:
            subject = self.coming_subject(found)
        state = Clause(subject=subject)
        drafts: list[Draft] = []
        deferred: list[Draft] = []
        place = 0
        while place < len(found):
            piece = found[place]
            step = 1
            if piece.kind == "verb" and piece.form == "ed" and is_attribute(found, place):
                pass
            elif piece.kind == "verb":
                step, new = self._read_verb(found, place, state)
                if state.started and new and is_aside(found, place, state):
                    deferred += new
                else:
                    drafts += new
                    if new and deferred:
                        drafts += [replace(one, start="with") for one in deferred]
                        deferred = []
            elif piece.kind == "noun" and self._is_action(found, place, state):
                drafts += self._another(piece, state)
            elif piece.kind == "then" and goes_on(found, place):
                state.read(piece)
                drafts += self._same(state, drafts)
            elif piece.kind == "word" and (state.boundary or not state.acting):
                state.adverbs.append(piece.text)
                place += 1
                continue
            elif piece.kind == "be" and means_the_same(found, place):
                drafts += self._same(state, drafts)
                step = 2
            elif piece.kind in ("noun", "pronoun"):
                self.noun(found, place, state)
            else:
                state.read(piece)
            if piece.kind not in (
                "verb",
                "join",
                "then",
                "seconds",
                "times",
                "together",
                "be",
                "not",
                "order",
                "who",
                "to",
            ):
                for draft in state.acting:
                    draft.words += [self._words(piece, state)] if not draft.passive else []
            place += step
        return drafts + deferred

    def _same(self, state: Clause, drafts: Sequence[Draft]) -> list[Draft]:
        """What was done last, by the present subject ("and the boy does too")."""
        last = last_group(drafts or self.drafts)
        state.acting = [
            replace(last[0], actor=actor, start="with" if number else "after", relations=[], seconds=None, words=[])
            for number, actor in enumerate(state.subject if last else ())
        ]
        state.started, state.boundary = True, False
        return state.acting

    def _is_action(self, found: Sequence[Piece], place: int, state: Clause) -> bool:
        """Whether a noun is one more action ("does a cartwheel and a backflip", "followed by a roll")."""
        joined = place > 0 and (found[place - 1].kind == "then" or (state.light and is_joined(found, place)))
        return joined and bool(state.subject) and not leads_verb(found, place) and action_of(found[place]) is not None

    def _another(self, piece: Piece, state: Clause) -> list[Draft]:
        """The action of a noun, by the present subject."""
        meant = action_of(piece)
        assert meant is not None
        state.acting = [
            Draft(actor, meant[0], "do", "with" if number else "after", repeat=meant[1] or 1)
            for number, actor in enumerate(state.subject)
        ]
        state.begin()
        return state.acting

    def _words(self, piece: Piece, state: Clause) -> str:
        """A piece in a caption: pronouns by what they mean."""
        if piece.kind != "pronoun" or len(state.figure) != 1:
            return piece.text
        return f"the {self.mentions.entity(state.figure[0]).noun}"

    def _read_verb(self, found: list[Piece], place: int, state: Clause) -> tuple[int, list[Draft]]:
        """Reads a verb; returns the number of pieces that it takes, and its actions, one for each actor."""
        piece = found[place]
        if piece.value == "unknown":
            raise UserError(unknown_verb(piece.text))
        phrase, step, count = piece.verb, 1, None
        if phrase[0] in verbs().light and len(phrase) == 1:
            found_meaning = light_meaning(found, place)
            if found_meaning is not None:
                verb, step, count = found_meaning
                if verb is None:
                    state.starting = True
                    return step, []
                drafts = self._act(found, place, state, verb, piece, count)
                state.light = True
                for draft in drafts:
                    draft.words += [singly(one) if count else one.text for one in found[place + 1 : place + step]]
                return step, drafts
        known = verbs().phrases
        verb = known.get(phrase)
        passive = state.being and piece.form == "ed" and not has_have(found, place)
        if verb is not None and verb not in STATES - {"kneel", "crouch", "wait", "sleep"} and not state.being:
            for name in state.subject:
                self.mentions.acts(name)
        inanimate = bool(state.subject) and all(
            self.mentions.entity(n).type in ("object", "vehicle") for n in state.subject
        )
        if phrase in verbs().silent or verb is None or (inanimate and verb in STATES) or (passive and inanimate):
            if passive and verb is not None and verb not in STATES and has_agent(found, place):
                target = state.subject[0]
                words = [f"the {self.mentions.entity(target).noun}"]
                draft = Draft("", verb, phrase[0], "after", target, words=words, passive=True)
                state.begin()
                state.acting, state.passive = [draft], draft
                return 1, [draft]
            state.begin()
            state.acting = []
            return 1, []
        return 1, self._act(found, place, state, verb, piece, None)

    def _act(
        self, found: list[Piece], place: int, state: Clause, verb: str, piece: Piece, count: int | None
    ) -> list[Draft]:
        if not state.subject and not state.negated:
            last = self.mentions.actors[-1] if self.mentions.actors and piece.form == "ing" else ()
            state.subject = last or (self.mentions.person(),)
        relative = state.outer is not None and state.started and piece.form != "ing"
        if relative and not state.boundary:
            state.subject, state.outer = state.outer or state.subject, None
        along = piece.form == "ing" and state.finite and not state.starting and (not state.being or state.started)
        start: Literal["after", "with"] = "with" if state.together or along else "after"
        if piece.form != "ing" or state.being or state.starting:
            state.finite = True
        state.starting = False
        skipped = state.negated
        state.begin()
        state.together = False
        state.negated_once = skipped
        if skipped:
            self.notes.append(f"{piece.text!r} is negated, and left out")
            state.acting = []
            return []
        drafts = [
            Draft(actor, verb, piece.verb[0], "with" if number else start, words=[_particles(piece)])
            for number, actor in enumerate(state.subject)
        ]
        for draft in drafts:
            draft.repeat = count or state.repeat or 1
            draft.seconds = state.seconds
            draft.words += state.adverbs
        state.seconds = state.repeat = None
        state.adverbs = []
        state.acting = drafts
        self.mentions.actors.append(state.subject)
        self.mentions.note(state.subject)
        return drafts


def caption(mentions: Mentions, draft: Draft) -> str:
    """An action as a caption: "a man kicks the red ball"."""
    entity = mentions.entity(draft.actor) if draft.actor else None
    noun = "person" if entity is None or entity.name[0].isupper() else entity.noun
    article = "an" if noun[0] in "aeiou" else "a"
    words = " ".join(word for word in draft.words if word).strip(" ,")
    third = next(word for word, found in verbs().forms.items() if (draft.base, "s") in found)
    return " ".join(f"{article} {noun} {third} {words}".split())


def _particles(piece: Piece) -> str:
    return " ".join(piece.verb[1:]).replace("one's", "the")
