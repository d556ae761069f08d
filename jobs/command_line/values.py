"""Options of another job that a command is given as words, `OPTION=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from jobs.command_line.flags import UsageError, flags_of, is_none, unknown
from motions.base.plain_yaml import yaml_mistake
from motions.settings import Settings, spellings_of


def read_assignments(flag: str, words: Sequence[str], model: type[Settings]) -> dict[str, Any]:
    """Values by dotted path; a value is read as in a file of options.

    Args:
        flag: that gives the words, for messages.
        model: options of the other job.

    Raises:
        UsageError: a word is no OPTION=VALUE, its value is no YAML, or it names no option.
    """
    values: dict[str, Any] = {}
    mistakes, flags = [], flags_of(model)
    for word in words:
        name, sign, text = word.partition("=")
        path = spellings_of(model).get(name)
        if not sign:
            mistakes.append(f"{flag} {word}: expected OPTION=VALUE")
        elif path is None:
            mistakes.append(f"{flag} {word}: {unknown(name, name, flags)}")
        else:
            try:
                value = yaml.safe_load(text)
                values[path] = flags[path].nothing if is_none(flags[path], value) else value
            except yaml.YAMLError as error:
                mistakes.append(f"{flag} {word}: not a YAML value: {yaml_mistake(error)}")
    if mistakes:
        raise UsageError(mistakes)
    return values
