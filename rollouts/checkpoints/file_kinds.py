"""Identifies files that are not MDM checkpoints.

Motion models consist of many .pt, .pth, .tar, .npy and .safetensors files with similar names, so a wrong one is easily
given. Kinds are recognised by content: keys of state dicts, magic numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from motions.base.errors import UserError
from motions.base.safe_files import TensorFileError, read_tensor_file
from rollouts.checkpoints.wrapped_states import AVERAGED_KEYS, PLAIN_KEYS, under_key
from rollouts.networks.mdm_config import FILE_KIND
from rollouts.networks.mdm_naming import architecture_of

_GUO_PARTS = ("movement_encoder", "motion_encoder", "text_encoder")


class CheckpointError(UserError):
    """A file cannot be loaded as an MDM checkpoint; the message names the file and says what it is."""


def read_torch_file(path: Path) -> Any:
    """Contents of a torch file, on the CPU, without running code from it.

    Raises:
        CheckpointError: the file is of another kind (which is named), or damaged.
    """
    if (kind := _kind_by_bytes(path)) is not None:
        raise CheckpointError(f"{path} is {kind}")
    try:
        return read_tensor_file(path)
    except TensorFileError as error:
        remedy = "; save the state dict alone: torch.save(model.state_dict(), ...)" if error.holds_objects else ""
        raise CheckpointError(f"{error}{remedy}") from error


def describe_contents(contents: Any) -> str:
    """Describes the contents of a torch file, to continue the words "this is"."""
    if isinstance(contents, torch.Tensor):
        return f"a single tensor {tuple(contents.shape)}{_statistics_hint(contents.dim())}"
    if not isinstance(contents, Mapping):
        return f"a {type(contents).__name__}, not a state dict"
    if {"state", "param_groups"} <= contents.keys():
        return "the state of an optimizer (opt#########.pt); give the model#########.pt beside it"
    if (wrapper := under_key(contents, (*PLAIN_KEYS, *AVERAGED_KEYS))) is not None:
        return _describe_state(contents[wrapper])
    if any(
        isinstance(contents.get(f"{part}{suffix}"), Mapping) for part in _GUO_PARTS for suffix in ("", "_state_dict")
    ):
        return _describe_parts(contents)
    return _describe_state(contents)


def _describe_parts(contents: Mapping[str, Any]) -> str:
    states = [value for value in contents.values() if isinstance(value, Mapping)]
    if any(str(key).startswith("seqTransEncoder.") for state in states for key in state):
        return "a TMR; it belongs to the reward: --tmr_checkpoint_path"
    return "an evaluator of Guo et al. (text_mot_match/model/finest.tar), not a generator"


def _describe_state(state: Mapping[str, Any]) -> str:
    """Describes a flat state dict."""
    names = [str(name) for name in state]

    def any_starts(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in names)

    def any_holds(*parts: str) -> bool:
        return any(part in name for part in parts for name in names)

    kinds = {
        "a LoRA adapter, or weights with adapters that were not merged; give an adapter's folder as --adapter_path": (
            any_holds(".lora_A.", ".lora_B.", ".base_layer.")
        ),
        "an MDM that is labelled with actions, not with text": any_starts("embed_action."),
        FILE_KIND: any_starts("input_process.") and architecture_of(names) is not None,
        "a TMR; it belongs to the reward: --tmr_checkpoint_path": (
            any_starts("motion_encoder.", "motion_decoder.")
            or (any_starts("seqTransEncoder.", "seqTransDecoder.") and any_starts("tokens", "final_layer."))
        ),
        "a MotionCritic, which judges motions and makes none": any_starts("dstran.", "module.dstran."),
        "an encoder of the evaluator of Guo et al., not a generator": any_starts("gru.", "main.") and any_starts("out"),
    }
    for kind, holds in kinds.items():
        if holds:
            return kind
    return f"something unknown with {len(names)} entries: {', '.join(names[:5])}"


def _kind_by_bytes(path: Path) -> str | None:
    """Describes files that are not torch files."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"\x93NUMPY"):
        return _describe_numpy(path)
    if path.suffix == ".npz":
        return "a NumPy archive (.npz); give a model#########.pt"
    if path.suffix == ".safetensors":
        return _describe_safetensors(path)
    if head.lstrip()[:1] in (b"{", b"["):
        return _describe_json(path)
    return None


def _describe_numpy(path: Path) -> str:
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, EOFError):
        return "a NumPy file that is damaged or holds Python objects"
    return f"a NumPy array {tuple(shape)}{_statistics_hint(len(shape))}"


def _describe_safetensors(path: Path) -> str:
    try:
        with safe_open(path, framework="np") as file:
            names: list[str] = file.keys()
    except SafetensorError as error:
        return f"a damaged safetensors file ({error})"
    return f"a safetensors file, and by its names {_describe_state(dict.fromkeys(names))}"


def _describe_json(path: Path) -> str | None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return "a JSON file; give the model#########.pt it lies beside"


def _statistics_hint(num_axes: int) -> str:
    return ", as statistics of a dataset are; give their folder as --stats_path" if num_axes == 1 else ""
