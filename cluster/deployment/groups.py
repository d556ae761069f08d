"""Groups of equal machines that a run needs, from what its actors reserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from motions.base.errors import UserError


@dataclass(frozen=True, slots=True)
class Reservation:
    """So many actors of one kind, each with what it reserves."""

    name: str
    count: int
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class MachineGroup:
    """So many equal machines for the actors of one kind."""

    name: str
    machines: int
    cpus: int
    gpus: int
    memory_gb: int


def machine_groups(reservations: Sequence[Reservation], memory_gb: int) -> list[MachineGroup]:
    """A group for each kind of actor, with a machine for each actor. Actors of any kind that take fractions of a GPU
    share the machines of one group, `gpu`. A machine has whole CPUs and GPUs.

    Args:
        memory_gb: of each actor.

    Raises:
        UserError: an actor takes more than one GPU, but no whole number of them.
    """
    groups = []
    sharing = [one for one in reservations if 0 < one.gpus < 1]
    if sharing:
        cards = _packed(sharing)
        groups.append(
            MachineGroup(
                name="gpu",
                machines=len(cards),
                cpus=max(1, *(ceil(sum(actor.cpus for actor in card)) for card in cards)),
                gpus=1,
                memory_gb=memory_gb * max(len(card) for card in cards),
            )
        )
    for one in reservations:
        if one.gpus > 1 and one.gpus != int(one.gpus):
            raise UserError(f"{one.name} takes {one.gpus:g} GPUs: above 1 only whole numbers")
        if one not in sharing:
            groups.append(MachineGroup(one.name, one.count, max(1, ceil(one.cpus)), int(one.gpus), memory_gb))
    return groups


def _packed(sharing: Sequence[Reservation]) -> list[list[Reservation]]:
    """Actors by the card that they share: the largest first, each on the first card that has room."""
    cards: list[list[Reservation]] = []
    actors = [one for one in sharing for _ in range(one.count)]
    for actor in sorted(actors, key=lambda one: -one.gpus):
        room = (card for card in cards if sum(one.gpus for one in card) + actor.gpus <= 1 + 1e-9)
        card = next(room, None)
        if card is None:
            cards.append([actor])
        else:
            card.append(actor)
    return cards
