"""Loads critics from the files in which people have them, and saves them in MotionCritic's own layout.

Accepted, all without running code from the file: MotionCritic's dictionaries (`model_state_dict` beside epoch and
optimizer), a bare state dict, one under `state_dict` or `model`, all with or without `module.` before the names; files
of PP-Motion, whose further head `phys_mlp` gives no score here; safetensors; and folders that `save_critic` wrote.
Every tensor of the critic must match. Sizes follow from the shapes; only the number of heads does not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import foreign_kind, read_text
from motions.base.safe_files import TensorFileError, read_tensor_file
from rewards.critic.inputs import INPUT_WIDTH, InputKind
from rewards.critic.network import CLIP_FRAMES, NUM_ROWS, PUBLISHED, CriticConfig, MotionCritic
from rewards.tmr.components import describe_state
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.checkpoints.wrapped_states import unwrapped

WEIGHTS = "motioncritic.pth"
"""The weights in a folder of `save_critic`, as MotionCritic's own programs read them."""
SAFE_WEIGHTS = "critic.safetensors"
"""The weights of a critic that sees more of a motion than MotionCritic's own programs give theirs."""
CONFIG = "config.json"
"""What the weights do not say, beside them."""
_OTHER_HEADS = ("phys_mlp.",)


class CriticCheckpointError(UserError):
    """A file is not a (complete) critic; the message names the file, what it is, and what was expected."""


@dataclass(frozen=True, slots=True)
class LoadedCritic:
    """A critic in eval mode, and what its file says."""

    critic: MotionCritic
    typical_score: float | None
    """Median score of real motions, if config.json beside the weights says it."""
    clip_frames: int
    """Largest number of frames of the motions that it learned from; 60, as published, if config.json does not say."""
    ignored: tuple[str, ...]
    """Tensors of the file that belong to no part of a critic: PP-Motion's second head."""
    source: Path


def load_critic(path: str | Path, num_heads: int | None = None) -> LoadedCritic:
    """Loads a critic strictly, in float32 and eval mode.

    Args:
        path: a file, or a folder of `save_critic`.
        num_heads: attention heads; by default those of config.json beside the weights, else 8 as published.

    Raises:
        CriticCheckpointError: no such file, another kind of network, a missing or unexpected tensor, a wrong shape, a
            number that is not finite, or heads that do not divide the width.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        file = next((path / name for name in (WEIGHTS, SAFE_WEIGHTS) if (path / name).is_file()), path / WEIGHTS)
    state, ignored = _read_state(file)
    stated = _read_config(file.parent / CONFIG)
    heads = num_heads or stated.get("num_heads", PUBLISHED.num_heads)
    if not isinstance(heads, int) or heads < 1:
        raise CriticCheckpointError(f"critic {file.parent / CONFIG}: num_heads is {heads!r}, expected a number above 0")
    config = _sizes(state, heads, file)
    with torch.device("meta"):
        critic = MotionCritic(config)
    _check(critic.state_dict(), state, file)
    critic.load_state_dict({name: value.to(torch.float32) for name, value in state.items()}, assign=True)
    typical = stated.get("typical_score")
    if typical is not None and not (isinstance(typical, (int, float)) and math.isfinite(typical)):
        raise CriticCheckpointError(f"critic {file.parent / CONFIG}: typical_score is {typical!r}, expected a number")
    frames = stated.get("clip_frames", CLIP_FRAMES)
    if not isinstance(frames, int) or not 1 <= frames <= config.maxlen:
        raise CriticCheckpointError(
            f"critic {file.parent / CONFIG}: clip_frames is {frames!r}, expected 1..{config.maxlen}"
        )
    return LoadedCritic(critic.eval(), None if typical is None else float(typical), frames, ignored, file)


def save_critic(
    folder: str | Path,
    critic: MotionCritic,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    typical_score: float | None = None,
    clip_frames: int = CLIP_FRAMES,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a critic's folder: the weights under MotionCritic's own names, in its own layout or, if its programs could
    not use them because the critic sees more than poses, as safetensors; and config.json.

    Args:
        folder: created when absent.
        dtype: storage of the weights; they are float32 again once loaded.
        typical_score: median score of real motions.
        clip_frames: largest number of frames of the motions that it learned from.
        provenance: JSON values kept in config.json (command, seed, measured figures).

    Raises:
        WriteError: disk full or folder not writable; files already there stay whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    storage = {"float32": torch.float32, "float16": torch.float16}[dtype]
    state = {f"module.{name}": value.detach().cpu().to(storage) for name, value in critic.state_dict().items()}
    if critic.config.inputs == "poses":
        with atomic_write(folder / WEIGHTS) as file:
            torch.save({"model_state_dict": state}, file)
    else:
        with atomic_write(folder / SAFE_WEIGHTS) as file:
            file.write(safetensors_bytes(state, {"format": "pt"}))
    document = {
        "num_heads": critic.config.num_heads,
        "inputs": critic.config.inputs,
        "typical_score": typical_score,
        "clip_frames": clip_frames,
        "storage": dtype,
        "provenance": dict(provenance or {}),
    }
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(document, indent=2).encode())


def _read_state(file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The critic's tensors by name, and the names of others."""
    if not file.is_file():
        raise CriticCheckpointError(f"critic {file}: no such file")
    if (kind := foreign_kind(file, zip_is_right=True)) is not None:
        raise CriticCheckpointError(f"critic {file} is {kind}")
    try:
        document = load_file(file) if file.suffix == ".safetensors" else read_tensor_file(file)
    except TensorFileError as error:
        raise CriticCheckpointError(f"critic {error}") from error
    except (SafetensorError, OSError) as error:
        raise CriticCheckpointError(f"critic {file}: not a safetensors file ({error})") from error
    if not isinstance(document, Mapping) or not document:
        raise CriticCheckpointError(f"critic {file}: holds a {type(document).__name__}, expected a dict of tensors")
    state, _ = unwrapped(document)
    if not any(name.startswith("dstran.") for name in state):
        raise CriticCheckpointError(
            f"critic {file}: is a {describe_state(state)}; a critic has tensors mlp.* and dstran.*"
        )
    own = {name: value for name, value in state.items() if not name.startswith(_OTHER_HEADS)}
    for name, value in own.items():
        if not isinstance(value, Tensor):
            raise CriticCheckpointError(f"critic {file}: {name} is a {type(value).__name__}, expected a tensor")
        if not bool(torch.isfinite(value).all()):
            raise CriticCheckpointError(f"critic {file}: {name} has values that are not finite")
    return own, tuple(name for name in state if name not in own)


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        stated = json.loads(read_text(path))
    except ValueError as error:
        raise CriticCheckpointError(f"critic {path}: not JSON ({error})") from error
    if not isinstance(stated, Mapping):
        raise CriticCheckpointError(f"critic {path}: holds a {type(stated).__name__}, expected an object")
    return stated


def _sizes(state: Mapping[str, Tensor], num_heads: int, file: Path) -> CriticConfig:
    """Sizes by the shapes; what does not fit them is found by the strict comparison."""
    needed = {
        "dstran.pos_embed": 3,
        "dstran.temp_embed": 4,
        "dstran.joints_embed.weight": 2,
        "dstran.pre_logits.fc.weight": 2,
        "dstran.blocks_st.0.mlp_s.fc1.weight": 2,
    }
    for name, dimensions in needed.items():
        if name not in state or state[name].ndim != dimensions:
            raise CriticCheckpointError(f"critic {file}: no tensor {name} of {dimensions} dimensions")
    rows, width = state["dstran.pos_embed"].shape[1:]
    if rows != NUM_ROWS:
        raise CriticCheckpointError(
            f"critic {file}: dstran.pos_embed is for {rows} rows of a frame; a critic of motions in SMPL's joints has "
            f"{NUM_ROWS}"
        )
    seen = state["dstran.joints_embed.weight"].shape[1]
    kinds: list[InputKind] = [kind for kind, numbers in INPUT_WIDTH.items() if numbers == seen]
    if not kinds:
        raise CriticCheckpointError(
            f"critic {file}: dstran.joints_embed.weight takes {seen} numbers a row; a critic takes "
            f"{' or '.join(f'{numbers} ({kind})' for kind, numbers in INPUT_WIDTH.items())}"
        )
    if not width or width % num_heads:
        raise CriticCheckpointError(f"critic {file}: its width {width} is no multiple of {num_heads} attention heads")
    blocks = {name.split(".")[2] for name in state if name.startswith("dstran.blocks_st.")}
    return CriticConfig(
        dim_feat=width,
        dim_rep=state["dstran.pre_logits.fc.weight"].shape[0],
        depth=len(blocks),
        num_heads=num_heads,
        mlp_ratio=state["dstran.blocks_st.0.mlp_s.fc1.weight"].shape[0] // width,
        maxlen=state["dstran.temp_embed"].shape[1],
        qkv_bias="dstran.blocks_st.0.attn_s.qkv.bias" in state,
        att_fuse=any(name.startswith("dstran.ts_attn.") for name in state),
        inputs=kinds[0],
    )


def _check(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], file: Path) -> None:
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unexpected or reshaped:
        raise CriticCheckpointError(
            f"critic {file}: {len(expected) - len(missing) - len(reshaped)} of {len(expected)} tensors match; missing "
            f"{missing[:5] or 'none'}; unexpected {unexpected[:5] or 'none'}; other shape {reshaped[:5] or 'none'}"
        )
