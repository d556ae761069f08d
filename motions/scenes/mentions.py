"""Which entity a noun phrase or a pronoun of a text means."""

from __future__ import annotations

from dataclasses import dataclass, field

from motions.base.errors import UserError
from motions.scenes.grammar.words import NounPhrase
from motions.scenes.scene import Entity
from motions.scenes.vocabulary import entity_type, nouns

MOST_ALIKE = 20
"""Of entities of one kind that a phrase makes ("twenty men")."""
_MALE, _FEMALE = ("he", "him", "himself"), ("she", "her", "herself")
_NEUTER = frozenset(
    ["robot", "android", "mannequin", "child", "kid", "baby", "toddler", "zombie", "figure", "character"]
)
"""Persons that "it" may mean."""
_MANY = ("they", "them", "themselves", "both", "everyone", "everybody")


@dataclass
class Mentions:
    """The entities of a text so far, in the order in which they were named."""

    entities: list[Entity] = field(default_factory=list)
    order: list[tuple[str, ...]] = field(default_factory=list)
    """Names that were meant, mention by mention; several for a group."""
    objects: list[str] = field(default_factory=list)
    """Targets of actions, in order."""
    actors: list[tuple[str, ...]] = field(default_factory=list)
    """Who acted, in order."""

    def meant(self, phrase: NounPhrase) -> tuple[str, ...]:
        """Names of the entities that a noun phrase means; new ones are made. None for places and parts of bodies.

        Raises:
            UserError: more than `MOST_ALIKE` of one kind.
        """
        if not phrase.is_entity:
            return ()
        if phrase.noun == "one" and self.groups():
            group = self.groups()[-1]
            names = (group[1 if phrase.other else 0],)
        else:
            known = self._known(phrase)
            if not known and (phrase.number or 2) > MOST_ALIKE:
                noun = phrase.noun.replace("_", " ")
                raise UserError(f"{phrase.number} of {noun!r}; a scene has at most {MOST_ALIKE} of a kind")
            names = known or tuple(self._new(phrase) for _ in range(phrase.number or 2))
        self.order.append(names)
        return names

    def pronoun(self, word: str, but: tuple[str, ...] = (), *, acts: bool = False) -> tuple[str, ...]:
        """Names of the entities that a pronoun means; a person is made where nobody was named.

        Args:
            but: entities that it cannot mean.
            acts: whether it is a subject: "it" then means the last actor that is called so.
        """
        if word.startswith("it"):
            who = [names[0] for names in reversed(self.actors) if len(names) == 1]
            who = [name for name in who if self._type(name) != "person" or _stem(name).rpartition("_")[2] in _NEUTER]
            if acts and who:
                return (who[0],)
            things = [name for name in (*self._mentioned(but), *reversed(self.objects)) if self._type(name) != "person"]
            targets = [name for name in reversed(self.objects) if name not in but and self._type(name) != "person"]
            return tuple((targets or things)[:1])
        if word in _MANY:
            groups = [group for group in self.groups() if not set(group) & set(but)]
            people = tuple(one.name for one in self.entities if one.type == "person")
            pairs = self._pairs(but)
            if word == "them" and pairs:
                return pairs
            return groups[-1] if groups else people or pairs or (self._make("person"),)
        gender = "male" if word in _MALE else "female"
        for name in self._mentioned(but):
            noun = name.rstrip("0123456789").rstrip("_").rpartition("_")[2]
            if self._type(name) == "person" and nouns().genders.get(noun, gender) == gender:
                return (name,)
        return (self._make("man" if gender == "male" else "woman"),) if not but else ()

    def acts(self, name: str) -> None:
        """An entity does what only somebody does: one of an unknown noun is a person."""
        old = self.entity(name)
        head = _stem(name).rpartition("_")[2].lower()
        if old.type == "object" and head not in nouns().types and old.material is None:
            self.entities[self.entities.index(old)] = old.model_copy(update={"type": "person"})

    def groups(self) -> list[tuple[str, ...]]:
        """Mentions of several entities at once."""
        return [names for names in self.order if len(names) > 1]

    def note(self, names: tuple[str, ...]) -> None:
        """Remembers that these were meant just now."""
        self.order.append(names)

    def person(self) -> str:
        """A person of whom the text says nothing, made where there is no actor to be meant."""
        return self._make("person")

    def entity(self, name: str) -> Entity:
        """The entity of a name."""
        return next(one for one in self.entities if one.name == name)

    def _type(self, name: str) -> str:
        return self.entity(name).type

    def _mentioned(self, but: tuple[str, ...]) -> list[str]:
        """Single entities, the last first."""
        return [names[0] for names in reversed(self.order) if len(names) == 1 and names[0] not in but]

    def _pairs(self, but: tuple[str, ...]) -> tuple[str, ...]:
        """The last things of one noun ("a red car ... a blue car ... between them")."""
        for name in self._mentioned(but):
            stem = _stem(name)
            same = tuple(one.name for one in self.entities if _stem(one.name) == stem and one.type != "person")
            if len(same) > 1:
                return same
        return ()

    def _known(self, phrase: NounPhrase) -> tuple[str, ...]:
        if not phrase.definite and not phrase.proper:
            return ()
        same = [one for one in self.entities if _stem(one.name) in (phrase.noun, phrase.head)]
        if not same:
            same = [one for one in self.entities if _stem(one.name).rpartition("_")[2] == phrase.noun]
        fitting = [
            one
            for one in same
            if (phrase.colour is None or one.colour in (None, phrase.colour))
            and (phrase.material is None or one.material in (None, phrase.material))
        ]
        exact = [one for one in fitting if one.colour == phrase.colour] if phrase.colour else []
        fitting = exact or fitting
        if phrase.other:
            fitting = [one for one in same if (one.name,) not in self.order[-1:]] if len(same) > 1 else []
        wanted = phrase.number
        if wanted is None:
            return tuple(one.name for one in fitting) if len(fitting) > 1 else ()
        if wanted > 1:
            return tuple(one.name for one in fitting[:wanted]) if len(fitting) >= wanted else ()
        if not fitting:
            return ()
        chosen = next((name for name in self._mentioned(()) if name in {one.name for one in fitting}), fitting[0].name)
        self._learn(chosen, phrase)
        return (chosen,)

    def _learn(self, name: str, phrase: NounPhrase) -> None:
        """A later mention may say more."""
        place = next(place for place, one in enumerate(self.entities) if one.name == name)
        old = self.entities[place]
        more = {"colour": old.colour or phrase.colour, "material": old.material or phrase.material}
        self.entities[place] = old.model_copy(update=more)

    def _new(self, phrase: NounPhrase) -> str:
        kind = "person" if phrase.proper else entity_type(phrase.noun)
        if kind != "object" and phrase.material is not None:
            kind = "object"
        entity = Entity(
            name=self._free(phrase.noun), type=kind, colour=phrase.colour, material=phrase.material, scale=phrase.scale
        )
        self.entities.append(entity)
        return entity.name

    def _make(self, noun: str) -> str:
        entity = Entity(name=self._free(noun), type="person")
        self.entities.append(entity)
        self.order.append((entity.name,))
        return entity.name

    def _free(self, noun: str) -> str:
        number = sum(_stem(one.name) == noun for one in self.entities)
        return noun if not number else f"{noun}_{number + 1}"


def _stem(name: str) -> str:
    """The name without its number."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdigit() else name
