"""Reads the components of a TMR from files: formats that are accepted, and how they are recognised.

Accepted (all loaded without running code from them):

* a run folder of TMR's code: `last_weights/{text_encoder,motion_encoder,motion_decoder}.pt`, each a plain state dict;
  or that `last_weights` folder itself; or single files (a plain state dict, or one under `model`, `state_dict` or the
  component's name);
* a Lightning checkpoint: `state_dict` with `text_encoder.`, `motion_encoder.`, `motion_decoder.` prefixes;
* one file with the components by name, with or without a `_state_dict` suffix, or dotted under `model`;
* all these with `module.` or `_orig_mod.` before the names.

Components are recognised by their keys, never by a file's name alone: the public project MDM-GRPO
(jufan666/text-to-motion) loads TMR files into the recurrent evaluator of Guo et al. with `strict` off, so that nothing
matches and the reward comes from a random network. Here a file of that evaluator is rejected by name, and every value
must be finite.
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
from rollouts.checkpoints.wrapped_states import PLAIN_KEYS, under_key, without_prefixes

State = dict[str, Tensor]
COMPONENTS = ("text_encoder", "motion_encoder", "motion_decoder")
# MDM-GRPO calls its third file the movement encoder; with genuine TMR weights it is the motion decoder.
_NAMES = {name: name for name in COMPONENTS} | {"movement_encoder": "motion_decoder"}


class TMRCheckpointError(UserError):
    """A file is not a (complete) TMR; the message names the file, what it is, and what was expected."""


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


def read_components(path: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    """State dicts by component of a folder or a single file, and the keys of a file that belong to none.

    Raises:
        TMRCheckpointError: missing file, other kind of network, not finite.
    """
    return _read_folder(path) if path.is_dir() else _read_single_file(path)


def read_component_files(
    text: str | Path | None, motion: str | Path | None, decoder: str | Path | None
) -> tuple[dict[str, State], tuple[str, ...]]:
    """Like `read_components`, from one file per component; the decoder's may be omitted."""
    if text is None or motion is None:
        missing = "text_encoder" if text is None else "motion_encoder"
        raise TMRCheckpointError(f"TMR: no {missing} file given; both encoders are needed")
    given = {"text_encoder": text, "motion_encoder": motion, "motion_decoder": decoder}
    return {name: _read_component(Path(path), name) for name, path in given.items() if path is not None}, ()


def _read_single_file(path: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    """Components of one file, by name or by dotted prefix."""
    document = _unwrap(_read_torch(path), path)
    states: dict[str, State] = {}
    ignored: list[str] = []
    for key, value in document.items():
        component = _component_of(str(key))
        if component and isinstance(value, Mapping):
            states[component] = dict(value)
            continue
        prefix, _, rest = str(key).partition(".")
        component = _component_of(prefix)
        if component and rest and isinstance(value, Tensor):
            states.setdefault(component, {})[rest] = value
        else:
            ignored.append(str(key))
    if not states:
        raise TMRCheckpointError(
            f"TMR {path}: is a {describe_state(document)}; expected components text_encoder and motion_encoder, "
            "by name or as key prefixes"
        )
    kinds = [describe_state(state) for state in states.values()]
    if guo := [kind for kind in kinds if kind.startswith("Guo")]:
        raise TMRCheckpointError(
            f"TMR {path}: holds a {guo[0]}: this is the evaluator's text_mot_match/model/finest.tar or a copy of its "
            "parts, not a TMR, whatever the file is called"
        )
    for name, state in states.items():
        _require_kind(name, state, path)
    return states, tuple(ignored)


def _read_folder(folder: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    weights = folder / "last_weights" if (folder / "last_weights").is_dir() else folder
    files = {name: weights / f"{name}.pt" for name in COMPONENTS}
    for name in COMPONENTS[:2]:
        if not files[name].is_file():
            raise TMRCheckpointError(f"TMR {folder}: no {name}.pt in {weights}")
    return {name: _read_component(path, name) for name, path in files.items() if path.is_file()}, ()


def _read_component(path: Path, name: str) -> State:
    document = _unwrap(_read_torch(path), path)
    for key in (name, f"{name}_state_dict", "movement_encoder" if name == "motion_decoder" else name):
        if isinstance(document.get(key), Mapping):
            document = document[key]
            break
    state = dict(document)
    _require_kind(name, state, path)
    return state


def _read_torch(path: Path) -> Any:
    if not path.is_file():
        raise TMRCheckpointError(f"TMR {path}: no such file")
    if (kind := foreign_kind(path, zip_is_right=True)) is not None:
        raise TMRCheckpointError(f"TMR {path} is {kind}")
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] != b"\x80" and start != b"PK":  # A pickle stream (before torch 1.6) or a zip archive.
        raise TMRCheckpointError(f"TMR {path}: not a torch file")
    try:
        return read_tensor_file(path)
    except TensorFileError as error:
        remedy = "; split a Lightning checkpoint into its three state dicts with the original's extract.py first"
        raise TMRCheckpointError(f"TMR {error}{remedy if error.holds_objects else ''}") from error


def _component_of(name: str) -> str | None:
    return _NAMES.get(name.removesuffix("_state_dict"))


def _unwrap(document: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or not document:
        raise TMRCheckpointError(f"TMR {path}: holds a {type(document).__name__}, expected a dict of tensors")
    key = under_key(document, PLAIN_KEYS)
    return without_prefixes(document if key is None else document[key])[0]


def _require_kind(name: str, state: Mapping[str, Any], path: Path) -> None:
    expected = "TMR motion decoder" if name == "motion_decoder" else "TMR encoder"
    kind = describe_state(state)
    if kind != expected:
        raise TMRCheckpointError(f"TMR {path}: {name} is a {kind}; expected a {expected}")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise TMRCheckpointError(f"TMR {path}: {name} {key} is a {type(value).__name__}, expected a tensor")
        if not bool(torch.isfinite(value).all()):
            raise TMRCheckpointError(f"TMR {path}: {name} {key} has values that are not finite")
