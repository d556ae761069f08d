"""Models that grow: values of their options name further groups, such as those of a user's own rewards."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import create_model

from motions.settings.options import Named, OptionGroup, groups_of, spelled_options

GroupT = TypeVar("GroupT", bound=OptionGroup)


def naming_options(config: type[OptionGroup]) -> frozenset[str]:
    """Dotted paths of the options of a model whose values name further groups."""
    inner = {f"{name}.{path}" for name, group in groups_of(config).items() for path in naming_options(group)}
    return frozenset(inner | ({config.naming} if config.naming else set()))


def grown(config: type[GroupT], values: Mapping[str, Any]) -> type[GroupT]:
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
        if path in wanted and isinstance(value, (str, list, tuple)):
            named[path] = (value,) if isinstance(value, str) else tuple(map(str, value))
        elif path is not None and isinstance(value, OptionGroup) and (origin := type(value).grown_from) is not None:
            named |= {f"{path}.{inner}": names for inner, names in origin[1]}
    return _grown(config, tuple(sorted(named.items())))


@functools.cache
def _grown(config: type[OptionGroup], named: Named) -> Any:
    fields: dict[str, type[OptionGroup]] = {}
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
    model.grown_from = (config, named)
    return model


def blank(config: type[OptionGroup], named: Named) -> OptionGroup:
    """An empty object of a grown model, for unpickling."""
    kind: type[OptionGroup] = _grown(config, named)
    return kind.__new__(kind)
