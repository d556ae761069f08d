"""What an option names: an entry of a registry, or `package.module:Class` of one's own.

A registry is a table from a name to `package.module:Class`, so that it can be read, and names checked, without
importing what it names.

    SAMPLERS = {"ddpm": "rollouts.diffusion.samplers.ancestral:DDPM"}
    load_named("sampler", "ddpm", SAMPLERS)               # the class DDPM
    load_named("sampler", "mine.samplers:Euler", SAMPLERS)

A class of one's own is imported, which runs code, so only an option may name one: `named_in_file` refuses it elsewhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from motions.base.errors import UserError


def require_named(option: str, name: str, registry: Mapping[str, str]) -> str:
    """The name, if it is in the registry or has the form `package.module:Class`; imports nothing.

    Raises:
        UserError: it is neither; the message lists the registry.
    """
    module, _, attribute = name.partition(":")
    if name in registry or all(part.isidentifier() for part in (*module.split("."), attribute)):
        return name
    raise UserError(f"{option} is {name!r}; legal: {', '.join(registry)}, or package.module:Class")


def named_in_file(place: str, name: str, option: str) -> str:
    """A name that a file gives, such as the args.json of a downloaded checkpoint.

    Args:
        place: file and field, for the message.
        option: with which a user may name the class.

    Raises:
        UserError: it is `package.module:Class`.
    """
    if ":" in name:
        raise UserError(
            f"{place} is {name!r}, a class to import. Importing runs code, which a file may not ask for; if you "
            f"trust it, give --{option} {name}"
        )
    return name


def load_named(option: str, name: str, registry: Mapping[str, str]) -> Any:
    """What the name means.

    Raises:
        UserError: an unknown name, or a module or attribute that cannot be imported.
    """
    module, _, attribute = registry.get(require_named(option, name, registry), name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{option} is {name!r}: {error}; expected package.module:Class") from error
