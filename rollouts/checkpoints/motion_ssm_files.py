"""Checkpoints of MotionSSM: a folder with the weights as safetensors and all that they do not say as plain JSON.

motion_ssm.safetensors   the weights, by the network's own names; adapters are merged
config.json              kind, version, sizes, skeleton, frames, text encoder, words, provenance
Mean.npy, Std.npy        statistics of the features
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text, refuse_foreign
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton, get_skeleton
from rollouts.checkpoints.mdm_files import STATISTICS
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.one_action.motion_ssm import MotionSSM, MotionSSMConfig
from rollouts.one_action.public_regressor import PublicRegressor
from rollouts.text.encoders import TextEncoder
from rollouts.text.words import Words

WEIGHTS_FILE = "motion_ssm.safetensors"
CONFIG_FILE = "config.json"
KIND, VERSION = "motion_ssm", 1


class MotionSSMFileError(UserError):
    """A folder holds no (complete) MotionSSM; the message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class MotionSSMReport:
    """What was loaded."""

    path: Path
    num_tensors: int
    latent_dim: int

    def __str__(self) -> str:
        what = f"{self.latent_dim} numbers a knot" if self.latent_dim else "a regressor, without a latent"
        return f"MotionSSM from {self.path}: {self.num_tensors}/{self.num_tensors} tensors matched; {what}"


@dataclass(frozen=True, slots=True)
class LoadedMotionSSM:
    """A network in eval mode with everything that its checkpoint states about it."""

    network: MotionSSM | PublicRegressor
    normalizer: Normalizer
    skeleton: Skeleton
    trained_frames: int
    text_encoder: str
    text_encoder_fingerprint: str
    words: tuple[str, ...]
    """The network's own vocabulary; empty where a text encoder gives embeddings."""
    report: MotionSSMReport


def is_motion_ssm(path: str | Path) -> bool:
    """Whether a path is a folder of `save_motion_ssm`, or the weights in one."""
    path = Path(path)
    return path.name == WEIGHTS_FILE or (path / WEIGHTS_FILE).is_file()


def save_motion_ssm(
    folder: str | Path,
    network: MotionSSM,
    normalizer: Normalizer,
    skeleton: Skeleton,
    encoder: TextEncoder,
    *,
    trained_frames: int,
    dtype: torch.dtype = torch.float32,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a folder (made if absent), each file atomically, the weights last; returns the path of the weights.

    Args:
        network: without adapters.
        trained_frames: frames of the longest motions that it has seen.
        dtype: float16 halves the file; loading gives float32 in any case.
        provenance: JSON values that say where it comes from: command, step, seed.

    Raises:
        WriteError: the disk is full or the folder not writable; older files are unchanged.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, array in zip(STATISTICS, (normalizer.mean, normalizer.std), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        with atomic_write(target / name) as file:
            file.write(buffer.getvalue())
    document = {
        "kind": KIND,
        "version": VERSION,
        "network": network.args(),
        "skeleton": skeleton.name,
        "trained_frames": trained_frames,
        "text_encoder": encoder.name,
        "text_encoder_fingerprint": encoder.fingerprint,
        "words": list(encoder.vocabulary),
        "provenance": dict(provenance or {}),
    }
    with atomic_write(target / CONFIG_FILE) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())
    state = {name: value.detach().to("cpu", dtype).contiguous() for name, value in network.state_dict().items()}
    with atomic_write(target / WEIGHTS_FILE) as file:
        file.write(safetensors_bytes(state, {"format": "pt"}))
    return target / WEIGHTS_FILE


def load_motion_ssm(path: str | Path) -> LoadedMotionSSM:
    """Loads a folder of `save_motion_ssm` strictly, in float32 and eval mode.

    Raises:
        MotionSSMFileError: no such file, another kind or version, names or shapes that do not match, numbers that are
            not finite.
        UserError: broken statistics or sizes, an unknown skeleton.
    """
    folder = Path(path).parent if Path(path).name == WEIGHTS_FILE else Path(path)
    config = read_config(folder)
    file = folder / WEIGHTS_FILE
    try:
        network = MotionSSM(MotionSSMConfig.from_args(config["network"]))
        words = tuple(config["words"])
        if words and network.config.num_words != Words(words).num_embeddings:
            raise UserError(f"{len(words)} words, and num_words is {network.config.num_words}")
        skeleton = get_skeleton(config["skeleton"])
    except UserError as error:
        raise MotionSSMFileError(f"{folder / CONFIG_FILE}: {error}") from error
    if not file.is_file():
        raise MotionSSMFileError(f"{file}: no such file")
    refuse_foreign(file)
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise MotionSSMFileError(f"{file}: not a safetensors file ({error})") from error
    wanted = network.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    reshaped = sorted(name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape)
    if missing or unexpected or reshaped:
        raise MotionSSMFileError(
            f"{file}, with the sizes of its {CONFIG_FILE}: missing {missing[:5] or 'none'}; unexpected "
            f"{unexpected[:5] or 'none'}; other shape {reshaped[:5] or 'none'}"
        )
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise MotionSSMFileError(f"{file}: {name} has numbers that are not finite")
    network.load_state_dict(state)
    normalizer = Normalizer.load(*(folder / name for name in STATISTICS))
    if normalizer.num_features != network.num_features:
        raise MotionSSMFileError(
            f"{folder}: {', '.join(STATISTICS)} have {normalizer.num_features} numbers, the network "
            f"{network.num_features} features"
        )
    report = MotionSSMReport(file, len(wanted), network.config.latent_dim)
    return LoadedMotionSSM(
        network=network.eval(),
        normalizer=normalizer,
        skeleton=skeleton,
        trained_frames=config["trained_frames"],
        text_encoder=config["text_encoder"],
        text_encoder_fingerprint=config["text_encoder_fingerprint"],
        words=words,
        report=report,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The entries of `config.json`, of which those that are needed are there and of their types.

    Raises:
        MotionSSMFileError: they are not.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MotionSSMFileError(f"{path}: no such file; a MotionSSM is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        config = json.loads(read_text(path))
    except ValueError as error:
        raise MotionSSMFileError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("kind") != KIND or config.get("version") != VERSION:
        stated = (config.get("kind"), config.get("version")) if isinstance(config, dict) else type(config).__name__
        raise MotionSSMFileError(f"{path}: says kind and version {stated}; expected {KIND} and {VERSION}")
    kinds = {
        **{"network": dict, "skeleton": str, "trained_frames": int, "text_encoder": str},
        **{"text_encoder_fingerprint": str, "words": list},
    }
    for name, kind in kinds.items():
        if not isinstance(config.get(name), kind):
            raise MotionSSMFileError(f"{path}: {name} is {config.get(name)!r:.60}; expected {kind.__name__}")
    return config
