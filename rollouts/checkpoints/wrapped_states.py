"""Takes state dicts out of what training programs put around them.

Lightning saves `{"state_dict": ...}`, others `{"model_state_dict": ...}`, `{"ema": ...}` or `{"model_avg": ...}`;
data parallel training puts `module.` before every name, `torch.compile` puts `_orig_mod.`. None of these changes what
the weights are, so they are taken off, and what was taken off is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN_KEYS = ("model", "state_dict", "model_state_dict")
"""Under which programs save the weights of the last step."""
AVERAGED_KEYS = ("model_avg", "ema", "model_ema", "ema_state_dict")
"""Under which programs save averaged weights."""
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "n_averaged"
"""Beside the weights in a state of `torch.optim.swa_utils.AveragedModel`."""


def without_prefixes(state: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A state dict without prefixes that all of its names have, and these prefixes."""
    named = {str(name): value for name, value in state.items()}
    taken: list[str] = []
    while prefix := next((each for each in _PREFIXES if _all_begin(named, each)), None):
        named = {name.removeprefix(prefix): value for name, value in named.items() if name != _COUNTER}
        taken.append(prefix)
    return named, tuple(taken)


def under_key(contents: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of the keys under which another dictionary lies."""
    return next((key for key in keys if isinstance(contents.get(key), Mapping)), None)


def _all_begin(state: Mapping[str, Any], prefix: str) -> bool:
    names = [name for name in state if name != _COUNTER]
    return bool(names) and all(name.startswith(prefix) for name in names)
