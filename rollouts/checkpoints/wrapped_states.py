"""Takes state dicts out of what training programs put around them.

Lightning saves `{"state_dict": ...}` with `model.` or another attribute of its module before every name, others
`{"model_state_dict": ...}`, `{"ema": ...}` or `{"model_avg": ...}`, one in the other; data parallel training puts
`module.` before every name, `torch.compile` puts `_orig_mod.`. None of these changes what the weights are, so they are
taken off, and what was taken off is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN_KEYS = ("model", "state_dict", "model_state_dict", "net", "network", "params", "weights")
"""Under which programs save the weights of the last step."""
AVERAGED_KEYS = ("model_avg", "ema", "model_ema", "ema_model", "ema_state_dict", "params_ema")
"""Under which programs save averaged weights."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "denoiser.", "ema_model.")
_COUNTER = "n_averaged"
"""Beside the weights in a state of `torch.optim.swa_utils.AveragedModel`."""


def unwrapped(contents: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A state dict without keys of the last step's weights around it and without prefixes that all of its names have,
    and what was taken off."""
    state = {str(name): value for name, value in contents.items()}
    taken: list[str] = []
    while True:
        if (prefix := next((each for each in _PREFIXES if _all_begin(state, each)), None)) is not None:
            state = {name.removeprefix(prefix): value for name, value in state.items() if name != _COUNTER}
            taken.append(prefix)
        elif (key := under_key(state, PLAIN_KEYS)) is not None:
            state = {str(name): value for name, value in state[key].items()}
            taken.append(key)
        else:
            return state, tuple(taken)


def under_key(contents: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of the keys under which another dictionary lies."""
    return next((key for key in keys if isinstance(contents.get(key), Mapping)), None)


def _all_begin(state: Mapping[str, Any], prefix: str) -> bool:
    names = [name for name in state if name != _COUNTER]
    return bool(names) and all(name.startswith(prefix) for name in names)
