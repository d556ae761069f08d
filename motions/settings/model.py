"""`Settings`, the base of every configuration model, and fields that are declared again."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self, TypeVar

from annotated_types import Lt
from pydantic import AliasChoices, ConfigDict, ValidationInfo, field_validator

from motions.base.errors import UserError
from motions.settings.given_values import as_declared
from motions.settings.growth import blank, grown
from motions.settings.marks import Affects, Effect
from motions.settings.options import OptionGroup, nested_values, options_of, refusal, retired_options, spelled_options

SettingsT = TypeVar("SettingsT", bound="Settings")

BUILTIN = "builtin"
"""Value of an option that selects the motions, policy or TMR networks that come with kinetune."""


class Settings(OptionGroup):
    """A frozen group of options: unknown names are errors, and the string under a field is its documentation.

    One text or number where a list is wanted is a list of one; true and false are no numbers, an empty text no path.
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

    @field_validator("*", mode="before")
    @classmethod
    def _as_declared(cls, value: Any, info: ValidationInfo) -> Any:
        return as_declared(cls.model_fields[info.field_name or ""], value)

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)) and str(value).startswith("~"):
            # Unlike `Path.expanduser` it leaves the name of an unknown user as it is.
            return type(value)(os.path.expanduser(value))
        return value

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
                    raise UserError(refusal(kind, spelling, value))
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

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A model that has grown is made anew where it is unpickled: its class is in no module."""
        if (origin := type(self).grown_from) is not None:
            return blank, origin, self.__getstate__()
        return super().__reduce_ex__(protocol)

    def _plain(self) -> list[Any]:
        values = self.model_dump(mode="json")
        return [
            functools.reduce(lambda part, name: part[name], path.split("."), values) for path in options_of(type(self))
        ]


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
