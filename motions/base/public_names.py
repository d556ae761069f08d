"""The public names of a layer: re-exported by its `__init__.py`, imported when they are first used (PEP 562).

A layer's `__init__.py` lists its names once, as imports for type checkers, and takes its `__getattr__` from here:

    if TYPE_CHECKING:
        from motions.data.prompts import Prompt as Prompt
    else:
        __getattr__ = lazy_names(__name__)

So `from motions import Prompt` works, while `import motions` loads nothing: `--help` needs neither torch nor ray.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


@cache
def public_names(package: str) -> dict[str, str]:
    """Public name -> module that defines it, as the imports under `if TYPE_CHECKING:` of the package's file say."""
    file = sys.modules[package].__file__
    assert file is not None, f"{package} has no __init__.py"
    names: dict[str, str] = {}
    for statement in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name):
            for line in statement.body:
                assert isinstance(line, ast.ImportFrom) and line.module is not None, f"{file}:{line.lineno}"
                names |= {alias.name: line.module for alias in line.names}
    return names


def lazy_names(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports its public names when they are first used."""

    def load(name: str) -> Any:
        module = None if name.startswith("__") else public_names(package).get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
