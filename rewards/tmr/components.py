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

from motions.base.errors import UserError
from rewards.retrieval_files import State, describe_state, read_document, require_tensors, split_components

COMPONENTS = ("text_encoder", "motion_encoder", "motion_decoder")
# MDM-GRPO calls its third file the movement encoder; with genuine TMR weights it is the motion decoder.
_NAMES = {name: name for name in COMPONENTS} | {"movement_encoder": "motion_decoder"}


class TMRCheckpointError(UserError):
    """A file is not a (complete) TMR; the message names the file, what it is, and what was expected."""


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
    document = read_document(path, "TMR", TMRCheckpointError)
    states, ignored = split_components(document, _NAMES)
    if not states:
        raise TMRCheckpointError(
            f"TMR {path}: is a {describe_state(document)}; expected components text_encoder and motion_encoder, "
            "by name or as key prefixes"
        )
    kinds = [describe_state(state) for state in states.values()]
    if guo := [kind for kind in kinds if kind.startswith("Guo")]:
        raise TMRCheckpointError(
            f"TMR {path}: holds a {guo[0]}: this is the evaluator's text_mot_match/model/finest.tar or a copy of its "
            "parts, not a TMR, whatever the file is called. As a reward: --reward_model_type mdm --evaluator_path"
        )
    for name, state in states.items():
        _require_kind(name, state, path)
    return states, ignored


def _read_folder(folder: Path) -> tuple[dict[str, State], tuple[str, ...]]:
    weights = folder / "last_weights" if (folder / "last_weights").is_dir() else folder
    files = {name: weights / f"{name}.pt" for name in COMPONENTS}
    for name in COMPONENTS[:2]:
        if not files[name].is_file():
            raise TMRCheckpointError(f"TMR {folder}: no {name}.pt in {weights}")
    return {name: _read_component(path, name) for name, path in files.items() if path.is_file()}, ()


def _read_component(path: Path, name: str) -> State:
    document = read_document(path, "TMR", TMRCheckpointError)
    for key in (name, f"{name}_state_dict", "movement_encoder" if name == "motion_decoder" else name):
        if isinstance(document.get(key), Mapping):
            document = document[key]
            break
    state = dict(document)
    _require_kind(name, state, path)
    return state


def _require_kind(name: str, state: Mapping[str, Any], path: Path) -> None:
    expected = "TMR motion decoder" if name == "motion_decoder" else "TMR encoder"
    kind = describe_state(state)
    if kind != expected:
        raise TMRCheckpointError(f"TMR {path}: {name} is a {kind}; expected a {expected}")
    require_tensors(state, f"TMR {path}: {name}", TMRCheckpointError)
