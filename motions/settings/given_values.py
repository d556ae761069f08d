"""Values as files and Python give them, before a field converts them: what stands for a list, and what is no number."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

LISTS = (list, tuple, Sequence, set, frozenset)
"""Origins of the types of options that take several values."""


def as_declared(field: FieldInfo, value: Any) -> Any:
    """A value for a field: one thing where a list is wanted is a list of one, nothing where it may be empty is none.

    Raises:
        PydanticKnownError, PydanticCustomError: true or false, which Python counts as 1 and 0, for a number; an
            empty text for a path.
    """
    kinds = list(alternatives(field.annotation))
    _require_no_mix_up(kinds, value)
    lists = [kind for kind in kinds if get_origin(kind) in LISTS]
    if not lists:
        return value
    if isinstance(value, (list, tuple)):
        items = [kind for one in lists for item in get_args(one) for kind in alternatives(item)]
        for part in value:
            _require_no_mix_up(items, part)
    # Where other types are legal too ("auto", a pair), what a single value means is theirs to say.
    others = [kind for kind in kinds if kind not in lists and kind is not type(None)]
    if others or any(get_origin(kind) is tuple and Ellipsis not in get_args(kind) for kind in lists):
        return value
    may_be_empty = not any(isinstance(mark, MinLen) and mark.min_length for mark in field.metadata)
    if value is None and type(None) not in kinds and may_be_empty:
        return ()
    return (value,) if isinstance(value, (str, int, float, Path)) else value


def alternatives(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, without what `Annotated` adds."""
    if get_origin(annotation) is typing.Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (typing.Union, types.UnionType):
        for kind in get_args(annotation):
            yield from alternatives(kind)
    else:
        yield annotation


def _require_no_mix_up(kinds: Sequence[Any], value: Any) -> None:
    if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
        raise PydanticKnownError("int_type" if int in kinds else "float_type")
    if isinstance(value, str) and not value and Path in kinds and str not in kinds:
        raise PydanticCustomError("empty_path", "an empty text is no path")
