"""Shows the examples of docstrings as code: an extension of griffe, which reads the docstrings for mkdocstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:\n((?:    .*(?:\n|$)|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence around the indented lines behind `Example:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that has been read."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(example: re.Match[str]) -> str:
    """The example with its fence."""
    return f"Example:\n    ```python\n{example[1].rstrip()}\n    ```\n\n"
