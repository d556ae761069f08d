"""Options of a run that goes on: which may change, and which keep the value that an earlier version gave them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, cast

from motions.settings.model import Settings, SettingsT
from motions.settings.options import OptionGroup, groups_of, options_of, spelled_options


def _with_groups(config: OptionGroup) -> Iterator[OptionGroup]:
    """A model and all groups in it."""
    yield config
    for name in groups_of(type(config)):
        yield from _with_groups(getattr(config, name))


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


def changeable_options(config: Settings) -> frozenset[str]:
    """Dotted paths of the options that may be others when a run goes on: no bit of the steps before depends on them."""
    lengthy = any(group.depends_on_length for group in _with_groups(config))
    fixed = {"results", "length"} if lengthy else {"results"}
    return frozenset(
        path
        for path, option in options_of(type(config)).items()
        if option.affects not in fixed
        or any(path == name or path.startswith(f"{name}.") for name in config.ignored_options)
    )
