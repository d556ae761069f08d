"""The options of a model: the groups that hold them, and every way to spell them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from motions.base.errors import UserError
from motions.settings.marks import Affects, Effect, KeptOnResume, Retired

Named = tuple[tuple[str, tuple[str, ...]], ...]
"""Dotted paths of options that name groups, with their values."""


class OptionGroup(BaseModel):
    """What the class of a group of options declares besides its fields; `Settings` is the one to derive from."""

    affects: ClassVar[Affects] = "results"
    """What the fields change that this very class declares; those of its subclasses are theirs."""

    preferred: ClassVar[tuple[str, ...]] = ()
    """Groups, dotted, in which a flat name is looked for first when several groups have it; in a job's model."""

    important: ClassVar[tuple[str, ...]] = ()
    """Options that a person needs first, for the help page; in a job's model."""

    positional: ClassVar[str] = ""
    """The option that words before all others belong to (`jobs.view FILE`); in a job's model."""

    retired: ClassVar[Mapping[str, Retired]] = {}
    """Options that this group had in earlier versions."""

    naming: ClassVar[str] = ""
    """An option of this very class whose values name further groups; see `groups_named` and `grown`."""

    grown_from: ClassVar[tuple[type[OptionGroup], Named] | None] = None
    """The model that this one was made of by adding groups, and the options that named them; see `grown`."""

    @classmethod
    def groups_named(cls, values: tuple[str, ...]) -> Mapping[str, type[OptionGroup]]:
        """The groups that values of the option `naming` add, by name."""
        return {}

    @property
    def depends_on_length(self) -> bool:
        """Whether a single step depends on how many there will be, as with a learning rate that falls over them."""
        return False

    @property
    def ignored_options(self) -> tuple[str, ...]:
        """Options or groups, dotted, that change nothing because of what other options say; in a job's model."""
        return ()


@dataclass(frozen=True, slots=True)
class Option:
    """One field of a model or of a group in it."""

    path: str
    """Names of the groups and of the field, with dots between them: `policy.lora_r`."""
    field: FieldInfo
    owner: type[OptionGroup]
    """The class that declares the field. One that only changes a default is passed over."""
    flag: str
    """The shortest spelling that means this option: its name, or with as many groups in front as make it unique."""
    spellings: tuple[str, ...]
    """All that are accepted, `flag` first."""

    @property
    def name(self) -> str:
        """The field's name."""
        return self.path.rpartition(".")[2]

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further spellings without a dot."""
        return tuple(spelling for spelling in self.spellings[1:] if "." not in spelling)

    @property
    def affects(self) -> Affects:
        """What the option changes."""
        marks = [mark.on for mark in self.field.metadata if isinstance(mark, Effect)]
        if marks:
            return cast("Affects", marks[-1])
        return cast("Affects", self.owner.affects if "affects" in vars(self.owner) else "results")

    @property
    def kept(self) -> list[KeptOnResume]:
        """Its mark of that name, if it has one."""
        return [mark for mark in self.field.metadata if isinstance(mark, KeptOnResume)]

    @property
    def before(self) -> Any:
        """What a file that does not know the option means."""
        return self.kept[0].before if self.kept else self.field.get_default(call_default_factory=True)

    @property
    def doc(self) -> str:
        """Its documentation on one line."""
        return " ".join((self.field.description or self.owner.model_fields[self.name].description or "").split())

    def of(self, config: OptionGroup) -> Any:
        """The option's value in a configuration."""
        return functools.reduce(getattr, self.path.split("."), config)


def groups_of(config: type[OptionGroup]) -> dict[str, type[OptionGroup]]:
    """The groups that are fields of a model, by name."""
    fields = {name: field.annotation for name, field in config.model_fields.items()}
    return {name: kind for name, kind in fields.items() if inspect.isclass(kind) and issubclass(kind, OptionGroup)}


@functools.cache
def options_of(config: type[OptionGroup]) -> dict[str, Option]:
    """Options of a model and of the groups in it by dotted path, in the order of the fields."""
    fields = dict(_fields(config))
    meanings = _meanings(config)
    spellings: dict[str, list[str]] = {path: [] for path in fields}
    for spelling, path in meanings.items():
        spellings[path].append(spelling)
    options = {}
    for path, (owner, field) in fields.items():
        name = path.rpartition(".")[2]
        shown = _own_spellings(name, field)
        groups = path.rpartition(".")[0]
        # With the shown name first, within it all groups from one on, and within these the shortest.
        ranked = sorted(
            spellings[path],
            key=lambda s: (shown.index(s.rpartition(".")[2]), not groups.endswith(s.rpartition(".")[0]), s.count(".")),
        )
        options[path] = Option(path, field, owner, ranked[0], tuple(ranked))
    return options


def spellings_of(config: type[OptionGroup]) -> dict[str, str]:
    """Every accepted spelling of an option -> its dotted path."""
    return _meanings(config)


def spelled_options(config: type[OptionGroup], values: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """What a nested, flat or mixed mapping says: spelling, dotted path (None where it is no option), value.

    A group that is given as an object stands as it is, under the path of the group; one without a value (in YAML a
    group whose options are all commented out) says nothing.
    """
    groups, spellings = groups_of(config), spellings_of(config)
    for key, value in values.items():
        name = str(key)
        if name in groups and isinstance(value, OptionGroup):
            yield name, name, value
        elif name in groups and (value is None or isinstance(value, Mapping)):
            for inner, path, found in spelled_options(groups[name], value or {}):
                yield f"{name}.{inner}", None if path is None else f"{name}.{path}", found
        else:
            yield name, spellings.get(name), value


def nested_values(config: type[OptionGroup], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted path as the nested mapping that the model validates; every group is there."""
    nested: dict[str, Any] = {}
    for name, group in groups_of(config).items():
        inner = {path.partition(".")[2]: value for path, value in values.items() if path.startswith(f"{name}.")}
        if name in values and inner:
            raise UserError(f"{name} is given as a whole, and so is {name}.{next(iter(inner))}")
        nested[name] = values[name] if name in values else nested_values(group, inner)
    own = {path: value for path, value in values.items() if "." not in path and path not in nested}
    return nested | own


def flat_values(config: type[OptionGroup], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a nested, flat or mixed mapping says, by flag; what is no option (any more) by its own name."""
    options = options_of(config)
    return {
        spelling if path is None else options[path].flag: value
        for spelling, path, value in spelled_options(config, values)
    }


def retired_options(config: type[OptionGroup]) -> dict[str, Retired]:
    """Retired options of a model and of the groups in it, flat and dotted."""
    found = dict(config.retired)
    for name, group in groups_of(config).items():
        inner = retired_options(group)
        found |= {**inner, **{f"{name}.{key}": value for key, value in inner.items()}}
    return found


def refusal(config: type[OptionGroup], spelling: str, value: object) -> str:
    """Why a spelling that is no option, or no option any more, is not accepted."""
    retired = retired_options(config).get(spelling)
    if retired is not None:
        return f"{spelling} {value} is not supported: {retired.reason}"
    options = options_of(config).values()
    meant = [option.flag for option in options if any(one.endswith(f".{spelling}") for one in option.spellings)]
    if meant:
        return f"{spelling!r} could be any of {', '.join(meant)}; say which"
    return f"unknown option {spelling!r} of {config.__name__}"


def _fields(config: type[OptionGroup], prefix: str = "") -> Iterator[tuple[str, tuple[type[OptionGroup], FieldInfo]]]:
    groups = groups_of(config)
    for name, field in config.model_fields.items():
        if name in groups:
            yield from _fields(groups[name], f"{prefix}{name}.")
        else:
            owners = [
                owner
                for owner in reversed(config.__mro__)
                if issubclass(owner, OptionGroup) and name in inspect.get_annotations(owner)
            ]
            yield f"{prefix}{name}", (owners[0] if owners else config, field)


@functools.cache
def _meanings(config: type[OptionGroup]) -> dict[str, str]:
    """Spelling -> dotted path; names win over aliases, preferred groups over others, all of the model over what it has
    grown by, and what is left open is none."""
    claims: dict[str, list[tuple[int, str]]] = {}
    own = set(dict(_fields(config.grown_from[0]))) if config.grown_from is not None else None
    for path, (_, field) in _fields(config):
        *groups, name = path.split(".")
        grown_by = own is not None and path not in own
        for spelling in _own_spellings(name, field):
            for depth in range(len(groups) + 1):
                full = depth == len(groups)
                whole = ".".join([*groups[len(groups) - depth :], spelling])
                rank = (0 if full else 1) if spelling == name else 2
                claims.setdefault(whole, []).append((rank + 4 * (grown_by and not full), path))
            for depth in range(1, len(groups)):
                claims.setdefault(".".join([*groups[:depth], spelling]), []).append((3, path))
    meanings = {}
    for spelling, claimed in claims.items():
        best = min(rank for rank, _ in claimed)
        paths = [path for rank, path in claimed if rank == best]
        for group in config.preferred:
            paths = [path for path in paths if path.startswith(f"{group}.")] or paths
        if len(paths) == 1:
            meanings[spelling] = paths[0]
    return meanings


def _own_spellings(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The field's names, the shown one first."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return tuple(dict.fromkeys([*(choice for choice in choices if isinstance(choice, str)), name]))
