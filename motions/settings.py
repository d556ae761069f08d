"""The base of every configuration model, and what a model's options are called.

Each layer declares its options in a `settings.py` of its own as small groups of fields. The configuration of a job is
a model whose fields are such groups (`config.policy`, `config.run`), nested as deep as is useful; a function of a
layer takes the group that it needs. `options_of` lists the options of a model, wherever they are nested; `Settings.of`
and `Settings.flat` read and write options by flat names. These modules import neither torch nor ray.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from annotated_types import Lt
from pydantic import AliasChoices, BaseModel, ConfigDict, create_model, field_validator
from pydantic.fields import FieldInfo

from motions.base.errors import UserError

SettingsT = TypeVar("SettingsT", bound="Settings")
Named = tuple[tuple[str, tuple[str, ...]], ...]
"""Dotted paths of options that name groups, with their values."""

BUILTIN = "builtin"
"""Value of an option that selects the motions, policy or TMR networks that come with kinetune."""

Affects = Literal["results", "length", "evaluation", "speed", "records"]
"""What an option changes. `results`: what is computed. `length`: only how long it goes on. `evaluation`: only how the
finished result is measured. `speed`: only where and how fast it is computed. `records`: only what is kept and shown."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Marks a field by what it changes, where that is not what its class says in `affects`.

    Example:
        num_steps: Annotated[int, Effect("length")] = 100
    """

    on: Affects


@dataclass(frozen=True, slots=True)
class KeptOnResume:
    """Marks a field of a better default than earlier versions had: a run of theirs that goes on keeps its own value.

    Example:
        swing_exemption: Annotated[str, KeptOnResume("cliff")] = "smooth"
    """

    before: object
    """The value that a file from before the field existed implies."""


@dataclass(frozen=True, slots=True)
class Retired:
    """An option of earlier versions that had one legal value: files and commands that say it are still read."""

    accepted: tuple[str, ...]
    """Its value, in all ways to write it."""
    reason: str
    """Why there is no other."""

    def accepts(self, given: object) -> bool:
        """Whether a value of a file is the legal one."""
        return str(given).lower() in self.accepted


class Settings(BaseModel):
    """A frozen group of options: unknown names are errors, and the string under a field is its documentation.

    Numbers are finite; a field in which infinity means something says so by `Field(allow_inf_nan=True)`. A `~` at the
    beginning of a path is the home folder, also where no shell has replaced it (`--save_dir=~/runs`, files).
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

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

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)) and str(value).startswith("~"):
            # Unlike `Path.expanduser` it leaves the name of an unknown user as it is.
            return type(value)(os.path.expanduser(value))
        return value

    @classmethod
    def groups_named(cls, values: tuple[str, ...]) -> Mapping[str, type[Settings]]:
        """The groups that values of the option `naming` add, by name."""
        return {}

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """The model from options by any of their names: flat, dotted or nested.

        Example:
            GRPOConfig.of(save_dir="runs/first", group_size=8, rewards={"beta_s": 2.0})

        Raises:
            UserError: an unknown option, a flat name that several groups have, or an option that is given twice.
            pydantic.ValidationError: an illegal value.
        """
        given = {**(values or {}), **more}
        kind = grown(cls, given)
        found: dict[str, Any] = {}
        written: dict[str, str] = {}
        for spelling, path, value in spelled_options(kind, given):
            if path is None:
                retired = retired_options(kind).get(spelling)
                if retired is None or not retired.accepts(value):
                    raise UserError(_refusal(kind, spelling, value))
            elif path in found:
                raise UserError(f"{path} is given twice: as {written[path]} and as {spelling}")
            else:
                found[path], written[path] = value, spelling
        return kind.model_validate(nested_values(kind, found))

    def flat(self) -> dict[str, Any]:
        """Every option as a plain value, by its flag."""
        return {
            option.flag: value for option, value in zip(options_of(type(self)).values(), self._plain(), strict=True)
        }

    def by_path(self) -> dict[str, Any]:
        """Every option as a plain value, by its dotted path."""
        return dict(zip(options_of(type(self)), self._plain(), strict=True))

    @property
    def depends_on_length(self) -> bool:
        """Whether a single step depends on how many there will be, as with a learning rate that falls over them."""
        return False

    @property
    def unheard(self) -> tuple[str, ...]:
        """Options or groups, dotted, that change nothing because of what other options say; in a job's model."""
        return ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A model that has grown is made anew where it is unpickled: its class is in no module."""
        if (origin := _ORIGINS.get(type(self))) is not None:
            return _blank, origin, self.__getstate__()
        return super().__reduce_ex__(protocol)

    def _plain(self) -> list[Any]:
        values = self.model_dump(mode="json")
        return [
            functools.reduce(lambda part, name: part[name], path.split("."), values) for path in options_of(type(self))
        ]


_ORIGINS: dict[type[Settings], tuple[type[Settings], Named]] = {}
"""Models that have grown, with what they have grown from and by."""


@dataclass(frozen=True, slots=True)
class Option:
    """One field of a model or of a group in it."""

    path: str
    """Names of the groups and of the field, with dots between them: `policy.lora_r`."""
    field: FieldInfo
    owner: type[Settings]
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

    def of(self, config: Settings) -> Any:
        """The option's value in a configuration."""
        return functools.reduce(getattr, self.path.split("."), config)


def redeclared(
    group: type[Settings],
    name: str,
    default: Any = ...,
    *,
    spellings: tuple[str, ...] = (),
    affects: Affects | None = None,
    below: int | None = None,
) -> Any:
    """A field as a base class declares it, with another default, other spellings, effect, upper bound or, where a
    string stands under it, documentation.

    Args:
        spellings: the first is the one that help and messages show.
        below: in place of the base's upper bound.

    Example:
        class PretrainRunSettings(SteppedRunSettings):
            num_steps: int = redeclared(SteppedRunSettings, "num_steps", 600_000)
    """
    field = copy(group.model_fields[name])
    field.description = None  # `Option.doc` takes the base's where the subclass has none.
    changes: dict[str, Any] = {}
    if default is not ...:
        changes["default"] = default
    if spellings:
        changes["validation_alias"] = AliasChoices(*spellings)
    if affects is not None:
        field.metadata = [*field.metadata, Effect(affects)]
    if below is not None:
        field.metadata = [*(mark for mark in field.metadata if not isinstance(mark, Lt)), Lt(below)]
    for key, value in changes.items():
        setattr(field, key, value)
    field._attributes_set = {**field._attributes_set, **changes}
    return field


def groups_of(config: type[Settings]) -> dict[str, type[Settings]]:
    """The groups that are fields of a model, by name."""
    fields = {name: field.annotation for name, field in config.model_fields.items()}
    return {name: kind for name, kind in fields.items() if inspect.isclass(kind) and issubclass(kind, Settings)}


def settings_in(config: Settings) -> Iterator[Settings]:
    """A model and all groups in it."""
    yield config
    for name in groups_of(type(config)):
        yield from settings_in(getattr(config, name))


def naming_options(config: type[Settings]) -> frozenset[str]:
    """Dotted paths of the options of a model whose values name further groups."""
    inner = {f"{name}.{path}" for name, group in groups_of(config).items() for path in naming_options(group)}
    return frozenset(inner | ({config.naming} if config.naming else set()))


def grown(config: type[SettingsT], values: Mapping[str, Any]) -> type[SettingsT]:
    """The model with the groups that options name, such as those of a user's own rewards.

    They are a part of it like any other, but an option of theirs does not take a flat name from one of the model.

    Args:
        values: options by any of their names; all but those that name groups are passed over.

    Raises:
        UserError: a group that is named cannot be found.
    """
    wanted = naming_options(config)
    named: dict[str, tuple[str, ...]] = {}
    for _, path, value in spelled_options(config, values):
        if path in wanted and isinstance(value, (list, tuple)):
            named[path] = tuple(map(str, value))
        elif path is not None and isinstance(value, Settings) and type(value) in _ORIGINS:
            named |= {f"{path}.{inner}": names for inner, names in _ORIGINS[type(value)][1]}
    return _grown(config, tuple(sorted(named.items())))


@functools.cache
def _grown(config: type[Settings], named: Named) -> Any:
    fields: dict[str, type[Settings]] = {}
    for name, group in groups_of(config).items():
        inner = tuple((path.removeprefix(f"{name}."), names) for path, names in named if path.startswith(f"{name}."))
        if (kind := _grown(group, inner)) is not group:
            fields[name] = kind
    for path, names in named:
        fields |= config.groups_named(names) if path == config.naming else {}
    if not fields:
        return config
    required = {name for name, kind in fields.items() if any(f.is_required() for f in kind.model_fields.values())}
    definitions: Any = {name: (kind, ... if name in required else kind()) for name, kind in fields.items()}
    model = create_model(config.__name__, __base__=config, __module__=config.__module__, **definitions)
    _ORIGINS[model] = (config, named)
    return model


def _blank(config: type[Settings], named: Named) -> Settings:
    """An empty object of a grown model, for unpickling."""
    kind: type[Settings] = _grown(config, named)
    return kind.__new__(kind)


@functools.cache
def options_of(config: type[Settings]) -> dict[str, Option]:
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


def spellings_of(config: type[Settings]) -> dict[str, str]:
    """Every accepted spelling of an option -> its dotted path."""
    return _meanings(config)


def spelled_options(config: type[Settings], values: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Any]]:
    """What a nested, flat or mixed mapping says: spelling, dotted path (None where it is no option), value.

    A group that is given as an object stands as it is, under the path of the group; one without a value (in YAML a
    group whose options are all commented out) says nothing.
    """
    groups, spellings = groups_of(config), spellings_of(config)
    for key, value in values.items():
        name = str(key)
        if name in groups and isinstance(value, Settings):
            yield name, name, value
        elif name in groups and (value is None or isinstance(value, Mapping)):
            for inner, path, found in spelled_options(groups[name], value or {}):
                yield f"{name}.{inner}", None if path is None else f"{name}.{path}", found
        else:
            yield name, spellings.get(name), value


def nested_values(config: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted path as the nested mapping that the model validates; every group is there."""
    nested: dict[str, Any] = {}
    for name, group in groups_of(config).items():
        inner = {path.partition(".")[2]: value for path, value in values.items() if path.startswith(f"{name}.")}
        if name in values and inner:
            raise UserError(f"{name} is given as a whole, and so is {name}.{next(iter(inner))}")
        nested[name] = values[name] if name in values else nested_values(group, inner)
    own = {path: value for path, value in values.items() if "." not in path and path not in nested}
    return nested | own


def kept_values(config: SettingsT, before: Mapping[str, Any]) -> SettingsT:
    """The settings of a run that goes on, in which fields marked `KeptOnResume` that nobody set have their old values.

    Args:
        before: the run's `config.yaml`, nested, flat or mixed.
    """
    then = {path: value for _, path, value in spelled_options(type(config), before) if path is not None}
    for path, option in options_of(type(config)).items():
        marks = option.kept
        *groups, name = path.split(".")
        owner = functools.reduce(getattr, groups, cast("Any", config))
        if marks and name not in owner.model_fields_set:
            value = then.get(path, marks[0].before)
            if value != getattr(owner, name):
                config = _with_value(config, path, value)
    return config


def _with_value(config: SettingsT, path: str, value: object) -> SettingsT:
    group, _, inner = path.partition(".")
    changed = _with_value(getattr(config, group), inner, value) if inner else value
    return config.model_copy(update={group: changed})


def flat_values(config: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a nested, flat or mixed mapping says, by flag; what is no option (any more) by its own name."""
    options = options_of(config)
    return {
        spelling if path is None else options[path].flag: value
        for spelling, path, value in spelled_options(config, values)
    }


def retired_options(config: type[Settings]) -> dict[str, Retired]:
    """Retired options of a model and of the groups in it, flat and dotted."""
    found = dict(config.retired)
    for name, group in groups_of(config).items():
        inner = retired_options(group)
        found |= {**inner, **{f"{name}.{key}": value for key, value in inner.items()}}
    return found


def changeable_options(config: Settings) -> frozenset[str]:
    """Dotted paths of the options that may be others when a run goes on: no bit of the steps before depends on them."""
    lengthy = any(group.depends_on_length for group in settings_in(config))
    fixed = {"results", "length"} if lengthy else {"results"}
    return frozenset(
        path
        for path, option in options_of(type(config)).items()
        if option.affects not in fixed or any(path == name or path.startswith(f"{name}.") for name in config.unheard)
    )


def _fields(config: type[Settings], prefix: str = "") -> Iterator[tuple[str, tuple[type[Settings], FieldInfo]]]:
    groups = groups_of(config)
    for name, field in config.model_fields.items():
        if name in groups:
            yield from _fields(groups[name], f"{prefix}{name}.")
        else:
            owners = [
                owner
                for owner in reversed(config.__mro__)
                if issubclass(owner, Settings) and name in inspect.get_annotations(owner)
            ]
            yield f"{prefix}{name}", (owners[0] if owners else config, field)


@functools.cache
def _meanings(config: type[Settings]) -> dict[str, str]:
    """Spelling -> dotted path; names win over aliases, preferred groups over others, all of the model over what it has
    grown by, and what is left open is none."""
    claims: dict[str, list[tuple[int, str]]] = {}
    own = set(dict(_fields(_ORIGINS[config][0]))) if config in _ORIGINS else None
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


def _refusal(config: type[Settings], spelling: str, value: object) -> str:
    """Why a spelling that is no option, or no option any more, is not accepted."""
    retired = retired_options(config).get(spelling)
    if retired is not None:
        return f"{spelling} {value} is not supported: {retired.reason}"
    options = options_of(config).values()
    meant = [option.flag for option in options if any(one.endswith(f".{spelling}") for one in option.spellings)]
    if meant:
        return f"{spelling!r} could be any of {', '.join(meant)}; say which"
    return f"unknown option {spelling!r} of {config.__name__}"


def _own_spellings(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The field's names, the shown one first."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return tuple(dict.fromkeys([*(choice for choice in choices if isinstance(choice, str)), name]))
