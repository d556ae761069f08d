"""Packages that kinetune needs for single commands only, and that its extras install."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from motions.base.errors import UserError


def optional(package: str, extra: str, what: str) -> Any:
    """The imported package.

    Args:
        extra: of kinetune, which installs it.
        what: the option or command that needs it.

    Raises:
        UserError: it is not installed; the message has the line that installs it.

    Example:
        optional("diffusers", "enhance", "jobs.enhance")
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{what} needs the package {package}: pip install 'kinetune[{extra}]'")
    return importlib.import_module(package)
