"""Values of a command line and its files as a model, or one line for each that is not legal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from cluster.records.opening import check_place
from jobs.command_line.flags import UsageError, flags_of, shown
from motions.settings import OptionGroup, Settings, SettingsT, groups_of, nested_values, options_of, spellings_of


@dataclass(slots=True)
class Sources:
    """Values by dotted path and the place each came from, for the error messages."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def update(self, values: Mapping[str, Any], origin: str) -> None:
        """Sets values and their origin."""
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, origin))


def validate(config: type[SettingsT], sources: Sources) -> SettingsT:
    """The validated model. Raises a `UsageError` that names option, value, origin and legal values."""
    try:
        return config.model_validate(nested_values(config, sources.values))
    except ValidationError as error:
        lines = [_error_line(dict(detail), sources, config) for detail in error.errors(include_url=False)]
        raise UsageError(list(dict.fromkeys(lines))) from error


def check_outputs(settings: Settings, names: Sequence[str]) -> None:
    """Checks that the folders which options name can be created or written to.

    Args:
        names: of the options; those that the job does not have, or that are not given, are passed over.

    Raises:
        RunDirectoryError: one cannot; the message names option, folder and why.
    """
    places = spellings_of(type(settings))
    for name in names:
        folder = options_of(type(settings))[places[name]].of(settings) if name in places else None
        if folder is not None:
            check_place(folder, option=name)


def with_dashes(message: str, config: type[OptionGroup]) -> str:
    """A message that begins by an option's name, with the name as the command line spells it.

    A name without an underscore may be a word of a sentence; it is an option only before what it is, has or was given.
    """
    name = re.match(r"[a-z0-9.]+_[a-z0-9_.]+(?=\W)|[a-z][a-z0-9.]*(?=:| is | has | belongs to | \S+: )", message)
    return f"--{message}" if name is not None and name[0] in spellings_of(config) else message


def _error_line(detail: dict[str, Any], sources: Sources, config: type[Settings]) -> str:
    path = _option_at(config, detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ")
    if path is None:
        return with_dashes(message, config)
    flag = flags_of(config)[path]
    if detail["type"] == "missing":
        return f"--{flag.name} is required: {flag.legal}"
    origin = sources.origins.get(path)
    place = "default" if origin is None else origin
    value = sources.values.get(path, detail["input"])
    behind = f" ({place})" if place else ""
    name = path.rpartition(".")[2]
    if detail["type"] == "value_error" and message.startswith(name):
        return f"--{flag.name}{message.removeprefix(name)}{behind}"
    if detail["type"] == "value_error":
        return f"--{flag.name} {shown(value)}{behind}: {message}"
    legal = flag.legal.replace("number", "finite number", 1) if detail["type"] == "finite_number" else flag.legal
    return f"--{flag.name} {shown(value)}{behind}: expected {legal}"


def _option_at(config: type[OptionGroup], place: Sequence[int | str]) -> str | None:
    """Dotted path of the option at which an error is placed; None for one of a group or of the whole model."""
    if not place:
        return None
    first, groups = str(place[0]), groups_of(config)
    if first in groups and len(place) > 1:
        inner = _option_at(groups[first], place[1:])
        return None if inner is None else f"{first}.{inner}"
    return None if first in groups else spellings_of(config).get(first)
