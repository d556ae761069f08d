"""YAML of plain values that reads back as the same values."""

from __future__ import annotations

from typing import Any

import yaml

_BREAKS = "\x85\u2028\u2029"
"""Line breaks that PyYAML loses unless they are escaped."""


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(character in value for character in _BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def plain_yaml(values: Any) -> str:
    """The values as YAML, mappings in their order, readable in any script."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def yaml_mistake(error: yaml.YAMLError) -> str:
    """What is wrong with a text that is no YAML, and in which line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).replace('in "<unicode string>", ', "").split())
    mark = error.problem_mark or error.context_mark
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{f'line {mark.line + 1}: ' if mark is not None else ''}{words}"
