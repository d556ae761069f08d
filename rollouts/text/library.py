"""The library `transformers`, imported where the first network of it is read.

It takes a second, which actors that read no text do not spend.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Library:
    """Its names, without types: checking those of its two thousand modules would take a type checker most of its
    time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("transformers"), name)


transformers: Any = _Library()
"""In place of `import transformers`."""
