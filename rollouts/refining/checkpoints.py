"""A refiner's folder: weights as safetensors, everything else as plain JSON and arrays.

physics_ssm.safetensors   the network's weights, and those of the residual where GRPO has trained one
config.json               its sizes and form, the skeleton, the statistics of the physics state with their names
Mean.npy Std.npy          statistics of the features
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import foreign_kind, read_text
from motions.humanoid.physics_state import StateStatistics
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import get_skeleton
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.refiner import Refiner
from rollouts.refining.residual import ResidualConfig, ResidualHead
from rollouts.settings import Decay, RefinerConstraints, RefinerGate

WEIGHTS = "physics_ssm.safetensors"
CONFIG = "config.json"
KIND = "physics_ssm"
_RESIDUAL = "residual."
"""Beginning of the names of the residual's tensors."""
_LEGAL = {
    "gate": get_args(RefinerGate),
    "constraints": get_args(RefinerConstraints),
    "ssm_decay": get_args(Decay),
    "bidirectional": (True, False),
    "residual": (True, False),
}
"""Legal values of what is no number."""


class RefinerCheckpointError(UserError):
    """A folder is no (complete) refiner; the message names the file, what it is, and what was expected."""


def save_refiner(
    folder: str | Path,
    refiner: Refiner,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a refiner's folder, which is made where it does not exist.

    Args:
        dtype: storage of the weights; they are float32 again once loaded.
        provenance: JSON values kept in config.json (command, seed, measured figures).

    Raises:
        WriteError: disk full or folder not writable; files already there stay whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    storage = {"float32": torch.float32, "float16": torch.float16}[dtype]
    state = {name: value.detach().cpu().to(storage).contiguous() for name, value in _tensors(refiner).items()}
    document = {
        "kind": KIND,
        "skeleton": refiner.skeleton.name,
        "network": asdict(refiner.network.config),
        "residual": None if refiner.residual is None else asdict(refiner.residual.config),
        "physics_state": refiner.statistics.document(),
        "provenance": dict(provenance or {}),
    }
    refiner.normalizer.save(folder)
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(document, indent=1).encode())
    with atomic_write(folder / WEIGHTS) as file:
        file.write(safetensors_bytes(state, {"format": "pt"}))


def load_refiner(path: str | Path) -> Refiner:
    """The refiner of a folder, in float32, eval mode and on the CPU.

    Raises:
        RefinerCheckpointError: no such folder, another kind of model, or a file that is not what it should be.
        UserError: statistics that are not of the skeleton's features.
    """
    folder = Path(path)
    if not folder.is_dir() or not (folder / CONFIG).is_file():
        raise RefinerCheckpointError(
            f"refiner {path}: no folder with {CONFIG} and {WEIGHTS}; jobs.train_physics_ssm writes one"
        )
    document = _read_document(folder / CONFIG)
    skeleton = get_skeleton(str(document.get("skeleton")))
    config = _read_config(document.get("network"), folder / CONFIG)
    if config.num_features != skeleton.num_features:
        raise RefinerCheckpointError(
            f"refiner {folder / CONFIG}: num_features is {config.num_features}, skeleton {skeleton.name} has "
            f"{skeleton.num_features}"
        )
    normalizer = Normalizer.load(folder / "Mean.npy", folder / "Std.npy", num_features=skeleton.num_features)
    with torch.device("meta"):
        network = RefinerNetwork(config)
    residual = None
    if document.get("residual") is not None:
        sizes = ResidualConfig.of_document(document["residual"], f"refiner {folder / CONFIG}")
        residual = ResidualHead(sizes, skeleton).eval()
    statistics = StateStatistics.of_document(document["physics_state"], f"refiner {folder / CONFIG}")
    refiner = Refiner(network.eval(), normalizer, statistics, skeleton, residual)
    state = _read_weights(folder / WEIGHTS)
    require_same_tensors(_tensors(refiner), state, folder / WEIGHTS)
    own = {name: value.float() for name, value in state.items() if not name.startswith(_RESIDUAL)}
    network.load_state_dict(own, assign=True)
    if residual is not None:
        learned = {name.removeprefix(_RESIDUAL): value.float() for name, value in state.items() if name not in own}
        residual.load_state_dict(learned)
    return refiner


def _tensors(refiner: Refiner) -> dict[str, Tensor]:
    """The tensors of a refiner's file by name."""
    learned = {} if refiner.residual is None else refiner.residual.state_dict()
    return refiner.network.state_dict() | {f"{_RESIDUAL}{name}": value for name, value in learned.items()}


def require_same_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Path) -> None:
    """Raises RefinerCheckpointError where names or shapes differ, or a number is not finite."""
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unexpected or reshaped:
        raise RefinerCheckpointError(
            f"refiner {source}: missing {missing[:5] or 'none'}; unexpected {unexpected[:5] or 'none'}; other shape "
            f"{reshaped[:5] or 'none'}"
        )
    for name, value in state.items():
        if not bool(value.isfinite().all()):
            raise RefinerCheckpointError(f"refiner {source}: {name} has values that are not finite")


def _read_document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(read_text(path))
    except ValueError as error:
        raise RefinerCheckpointError(f"refiner {path}: not JSON ({error})") from error
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        kind = document.get("kind") if isinstance(document, Mapping) else type(document).__name__
        raise RefinerCheckpointError(f"refiner {path}: kind is {kind!r}, expected {KIND!r}: it is another model's")
    if not isinstance(document.get("physics_state"), Mapping):
        raise RefinerCheckpointError(f"refiner {path}: it has no statistics of the physics state")
    return document


def _read_config(values: object, path: Path) -> RefinerConfig:
    names = [field.name for field in fields(RefinerConfig)]
    if not isinstance(values, Mapping) or sorted(values) != sorted(names):
        raise RefinerCheckpointError(f"refiner {path}: network is not an object of {', '.join(names)}")
    for name, value in values.items():
        if name in _LEGAL and value not in _LEGAL[name]:
            raise RefinerCheckpointError(f"refiner {path}: {name} is {value!r}; legal: {_LEGAL[name]}")
        if name not in _LEGAL and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise RefinerCheckpointError(f"refiner {path}: {name} is {value!r}, expected a number above 0")
    return RefinerConfig(**values)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RefinerCheckpointError(f"refiner {path}: no such file")
    if (kind := foreign_kind(path)) is not None:
        raise RefinerCheckpointError(f"refiner {path} is {kind}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RefinerCheckpointError(f"refiner {path}: not a safetensors file ({error})") from error
