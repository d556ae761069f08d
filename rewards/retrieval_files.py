"""Reads the networks that embed text and motion from files: what a state dict is, and the components of a document.

Two families have files of the same names and layouts: TMR, and the evaluator of Guo et al. Both may lie in one file
(components by name, with or without `_state_dict`, or as dotted prefixes, perhaps under `model` or `state_dict`) or in
one file each. They are told apart by their keys, never by a file's name: the public project MDM-GRPO
(jufan666/text-to-motion) loads TMR files into the evaluator with `strict` off, so that nothing matches and the reward
comes from a random network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motions.base.errors import UserError
from motions.base.foreign_files import foreign_kind
from motions.base.safe_files import TensorFileError, read_tensor_file
from rollouts.checkpoints.wrapped_states import unwrapped

State = dict[str, Tensor]


def describe_state(state: Mapping[str, Any]) -> str:
    """Describes what a state dict is, from its keys."""

    def has(*prefixes: str) -> bool:
        return any(str(key).startswith(prefixes) for key in state)

    if has("seqTransEncoder.") and "tokens" in state:
        return "TMR encoder"
    if has("seqTransDecoder.") and has("final_layer."):
        return "TMR motion decoder"
    if has("gru.") and has("pos_emb."):
        return "Guo et al. evaluator text encoder (a BiGRU, not TMR)"
    if has("gru.") and has("hidden", "output_net."):
        return "Guo et al. evaluator motion encoder (a BiGRU, not TMR)"
    if has("main.0.") and has("out_net."):
        return "Guo et al. evaluator movement encoder (a convolution, not TMR)"
    if has("input_process.", "seqTransEncoder.layers", "embed_timestep."):
        return "MDM policy checkpoint"
    keys = ", ".join(str(key) for key in list(state)[:4])
    return f"unknown state dict (keys {keys or 'none'}, ...)"


def read_document(path: Path, reader: str, error: type[UserError]) -> Mapping[str, Any]:
    """The dictionary of a torch file, without what training programs put around it.

    Args:
        reader: what reads it, for messages.
        error: raised for a file that is missing, of another kind, damaged, or holds no dictionary.
    """
    if not path.is_file():
        raise error(f"{reader} {path}: no such file")
    if (kind := foreign_kind(path, zip_is_right=True)) is not None:
        raise error(f"{reader} {path} is {kind}")
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] != b"\x80" and start != b"PK":  # A pickle stream (before torch 1.6) or a zip archive.
        raise error(f"{reader} {path}: not a torch file")
    try:
        document = read_tensor_file(path)
    except TensorFileError as fault:
        remedy = "; split a Lightning checkpoint into its three state dicts with the original's extract.py first"
        raise error(f"{reader} {fault}{remedy if fault.holds_objects else ''}") from fault
    if not isinstance(document, Mapping) or not document:
        raise error(f"{reader} {path}: holds a {type(document).__name__}, expected a dict of tensors")
    return unwrapped(document)[0]


def split_components(document: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, State], tuple[str, ...]]:
    """State dicts by component, by name or by dotted prefix, and the keys that belong to none.

    Args:
        names: components by the names that files give them, without `_state_dict`.
    """
    states: dict[str, State] = {}
    ignored: list[str] = []
    for key, value in document.items():
        component = names.get(str(key).removesuffix("_state_dict"))
        if component and isinstance(value, Mapping):
            states[component] = dict(value)
            continue
        prefix, _, rest = str(key).partition(".")
        component = names.get(prefix.removesuffix("_state_dict"))
        if component and rest and isinstance(value, Tensor):
            states.setdefault(component, {})[rest] = value
        else:
            ignored.append(str(key))
    return states, tuple(ignored)


def require_tensors(state: Mapping[str, Any], where: str, error: type[UserError]) -> None:
    """Raises `error`, saying `where`, for a value that is no tensor or not finite."""
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise error(f"{where} {key} is a {type(value).__name__}, expected a tensor")
        if not bool(torch.isfinite(value).all()):
            raise error(f"{where} {key} has values that are not finite")
