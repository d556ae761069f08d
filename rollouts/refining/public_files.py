"""Files of the public text-to-scene project that PhysicsSSM comes from, `best_model.pt` and `checkpoint_epochN.pt`.

They hold the weights of three parts beside a pickled configuration, of which only the values are read, by torch's
restricted unpickler: no code of the file runs. Their network scans forwards, with rates shared by all channels, and
returns its reconstruction. It saw another physics state than the one that is computed here, so it is a start for a
training, and no refiner.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motions.base.safe_files import PlainObject, TensorFileError, read_tensor_file
from motions.humanoid.physics_state import NUM_CHANNELS
from motions.skeleton.skeletons import Skeleton
from rollouts.refining.checkpoints import RefinerCheckpointError, require_same_tensors
from rollouts.refining.network import RefinerConfig, RefinerNetwork

_PARTS = ("projector_state_dict", "motion_ssm_state_dict", "physics_ssm_state_dict")
_CONFIGURATION = "PhysicsTrainingConfig"
_OF_A_SCAN = ("conv1d", "x_proj", "dt_proj", "A_log", "D")


def is_public_file(path: Path) -> bool:
    """Whether a path is that of a file as the public project writes them, by its name."""
    return path.suffix == ".pt"


def load_public_network(path: Path, skeleton: Skeleton) -> RefinerNetwork:
    """The network of a public file, in float32, eval mode and on the CPU.

    Raises:
        RefinerCheckpointError: no such file, damaged, of another model, with other Python objects than its
            configuration, or for other features than the skeleton's.
    """
    if not path.is_file():
        raise RefinerCheckpointError(f"refiner {path}: no such file")
    try:
        document = read_tensor_file(path, plain_classes=(_CONFIGURATION,))
    except TensorFileError as error:
        raise RefinerCheckpointError(f"refiner {error}") from error
    parts = _parts(document, path)
    sizes = _sizes(document, parts, path)
    if sizes.num_features != skeleton.num_features:
        raise RefinerCheckpointError(
            f"refiner {path}: it is for motions of {sizes.num_features} numbers a frame; skeleton {skeleton.name} has "
            f"{skeleton.num_features}"
        )
    state = _renamed(parts)
    with torch.device("meta"):
        network = RefinerNetwork(sizes)
    require_same_tensors(network.state_dict(), state, path)
    network.load_state_dict(state, assign=True)
    return network.eval()


def _parts(document: object, path: Path) -> dict[str, Mapping[str, Tensor]]:
    if not isinstance(document, Mapping) or not all(isinstance(document.get(part), Mapping) for part in _PARTS):
        held = sorted(map(str, document)) if isinstance(document, Mapping) else type(document).__name__
        raise RefinerCheckpointError(f"refiner {path}: it holds {held}, expected {', '.join(_PARTS)}")
    for part in _PARTS:
        for name, value in document[part].items():
            if not isinstance(value, Tensor):
                raise RefinerCheckpointError(f"refiner {path}: {part}, {name} is no tensor")
    return {part: document[part] for part in _PARTS}


def _sizes(document: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]], path: Path) -> RefinerConfig:
    """Sizes by the shapes; those that the configuration says have to agree."""
    projector, motion, physics = (parts[part] for part in _PARTS)
    needed = {"encoder.0.weight": projector, "layers.0.A_log": motion, "constraint_proj.weight": physics}
    for name, state in needed.items():
        if name not in state:
            raise RefinerCheckpointError(f"refiner {path}: there is no tensor {name}")
    if physics["constraint_proj.weight"].shape[-1] != NUM_CHANNELS:
        raise RefinerCheckpointError(
            f"refiner {path}: its physics state has {physics['constraint_proj.weight'].shape[-1]} channels; expected "
            f"{NUM_CHANNELS}"
        )
    sizes = RefinerConfig(
        num_features=projector["encoder.0.weight"].shape[-1],
        d_model=projector["encoder.0.weight"].shape[0],
        d_state=motion["layers.0.A_log"].shape[-1],
        n_layers=len({name.split(".")[1] for name in motion if name.startswith("layers.")}),
        ssm_decay="shared",
        bidirectional=False,
        residual=False,
    )
    stated = document.get("config")
    values = vars(stated) if isinstance(stated, PlainObject) else stated if isinstance(stated, Mapping) else {}
    for name in ("d_model", "d_state", "n_layers"):
        if name in values and values[name] != getattr(sizes, name):
            raise RefinerCheckpointError(
                f"refiner {path}: its configuration says {name} {values[name]!r}, its weights have "
                f"{getattr(sizes, name)}"
            )
    return sizes


def _renamed(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors under this project's names."""
    projector, motion, physics = (parts[part] for part in _PARTS)
    state = dict(projector)
    for name, value in motion.items():
        kind, _, rest = name.partition(".")
        if kind == "norms":
            place, _, own = rest.partition(".")
            renamed = f"motion_ssm.layers.{place}.norm.{own}"
        elif kind == "layers":
            place, _, own = rest.partition(".")
            renamed = f"motion_ssm.layers.{place}.mixer.{_in_mixer(own)}"
        else:
            renamed = f"motion_ssm.{name}"
        state[renamed] = value
    for name, value in physics.items():
        kind, _, rest = name.partition(".")
        own = f"ssm.{_in_mixer(rest)}" if kind == "ssm" else name.replace("physics_gate.0.", "physics_gate.")
        state[f"physics_ssm.{own}"] = value
    return {name: value.to(torch.float32) for name, value in state.items()}


def _in_mixer(name: str) -> str:
    return f"scans.0.{name}" if name.partition(".")[0] in _OF_A_SCAN else name
