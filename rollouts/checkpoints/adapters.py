"""LoRA adapters through peft: added, saved in peft's format, reloaded, merged.

The adapters are injected into the network in place (peft's `inject_adapter_in_model`), so the policy keeps holding a
plain network: no wrapper, no second set of names, and `DiffusionPolicy.adapters_disabled` is the base bit for bit.
Query, key and value are separate layers in MDM and every adapted layer has a real forward
(`rollouts/networks/attention.py`), so no adapter is dead. Each adapter adds scale * B A x with A random and B zero: a
new adapter changes no bit of the output.

A saved adapter is a folder with `adapter_model.safetensors` and `adapter_config.json`, which
`peft.PeftModel.from_pretrained(network, folder)` reads too. The tensors' metadata carry the sha256 of the base
*weights* (not of a file: the same weights saved twice are the same base), and loading on another base is refused: such
an adapter fits, and produces noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text, refuse_foreign
from rollouts.checkpoints.adapted import has_lora
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.policy import PolicyNetwork
from rollouts.settings import PolicySettings

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"

_NAME = "default"  # peft's name for an adapter without a name
_PEFT_PREFIX = "base_model.model."
_BASE_KEY = "base_sha256"
# Options of peft's LoRA that add other parameters or use another scale.
_VARIANTS = (
    *("use_dora", "use_rslora", "use_qalora", "lora_bias", "bias", "modules_to_save", "rank_pattern", "alpha_pattern"),
    *("target_parameters", "layers_to_transform", "layer_replication", "trainable_token_indices"),
)


NetworkT = TypeVar("NetworkT", bound=PolicyNetwork)


class AdapterError(UserError):
    """An adapter does not fit the network, or a file is no adapter; the message names file and reason."""


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """Rank, scale, layers and size of adapters that were added or loaded."""

    r: int
    alpha: int
    targets: tuple[str, ...]
    num_layers: int
    num_parameters: int

    def __str__(self) -> str:
        return (
            f"LoRA of rank {self.r}, alpha {self.alpha}, on {self.num_layers} layers ({', '.join(self.targets)}): "
            f"{self.num_parameters} parameters"
        )


def add_lora(network: PolicyNetwork, settings: PolicySettings) -> AdapterSummary:
    """Freezes the network and adds adapters to the layers of `lora_target_spec`, in place; the output does not change.

    A is uniform in +-1/sqrt(inputs), a function of `lora_seed`; B is zero. Global random state is not used.

    Raises:
        AdapterError: the network already has adapters, or a target does not name a layer of it.
    """
    targets = resolve_targets(network, settings.lora_target_spec)
    config = LoraConfig(r=settings.lora_r, lora_alpha=settings.lora_alpha, target_modules=list(targets))
    _inject(network, config)
    generator = torch.Generator().manual_seed(settings.lora_seed)
    with torch.no_grad():
        for name, parameter in _adapter_parameters(network).items():
            if ".lora_A." in name:
                bound = parameter.shape[1] ** -0.5
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
    return adapter_summary(network)


def resolve_targets(network: PolicyNetwork, spec: str) -> tuple[str, ...]:
    """Module names of a target specification: the network's groups (`attn`, `all` ...) and names, separated by commas.

    A name is that of a layer (`q_proj`: in every transformer layer) or its complete path.

    Raises:
        AdapterError: a name does not belong to a Linear layer of the network; the message lists the legal ones.
    """
    paths, groups = _linear_layers(network), network.adapter_targets
    words = [word.strip() for word in spec.split(",") if word.strip()]
    names = list(dict.fromkeys(name for word in words for name in groups.get(word, (word,))))
    unknown = [name for name in names if not any(_is_called(path, name) for path in paths)]
    if unknown or not names:
        short = dict.fromkeys(_short_name(path) for path in paths)
        raise AdapterError(
            f"lora_target_spec is {spec!r}: no layer is called {', '.join(unknown) or 'nothing'}; legal: "
            f"{', '.join(groups)}, or layers, separated by commas: {', '.join(short)}"
        )
    return tuple(names)


def adapter_summary(network: PolicyNetwork) -> AdapterSummary:
    """Rank, scale, layers and size of the network's adapters. Raises AdapterError if it has none."""
    layers = list(_adapted_layers(network))
    if not layers:
        raise AdapterError("the network has no adapters")
    parameters = _adapter_parameters(network).values()
    first = layers[0][1]
    return AdapterSummary(
        r=first.r[_NAME],
        alpha=int(first.lora_alpha[_NAME]),
        targets=tuple(dict.fromkeys(_short_name(path) for path, _ in layers)),
        num_layers=len(layers),
        num_parameters=sum(parameter.numel() for parameter in parameters),
    )


def save_adapter(folder: str | Path, network: PolicyNetwork, base_model: str | None = None) -> Path:
    """Writes the network's adapters to a folder (created if absent) in peft's format, atomically; returns the folder.

    Args:
        folder: receives `adapter_config.json` and `adapter_model.safetensors`.
        network: a network with adapters.
        base_model: origin of the base, recorded for users as peft's `base_model_name_or_path`.

    Raises:
        AdapterError: the network has no adapters.
        WriteError: the disk is full or the folder not writable; older files are unchanged.
    """
    summary = adapter_summary(network)
    config = LoraConfig(
        r=summary.r,
        lora_alpha=summary.alpha,
        target_modules=_target_names(network, summary),
        base_model_name_or_path=base_model,
        inference_mode=True,
    )
    described = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    tensors = {
        f"{_PEFT_PREFIX}{name.replace(f'.{_NAME}.', '.')}": parameter.detach().to("cpu", torch.float32).contiguous()
        for name, parameter in _adapter_parameters(network).items()
    }
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with atomic_write(target / CONFIG_FILE) as file:
        file.write((json.dumps(described, indent=2, sort_keys=True) + "\n").encode())
    with atomic_write(target / WEIGHTS_FILE) as file:
        file.write(safetensors_bytes(tensors, {"format": "pt", _BASE_KEY: base_fingerprint(network)}))
    return target


def load_adapter(network: PolicyNetwork, path: str | Path, *, allow_other_base: bool = False) -> AdapterSummary:
    """Loads a saved adapter strictly; a network without adapters first gets adapters like those of the file.

    Keys may have peft's prefix `base_model.model.` and adapter name, or not. Adapters saved by peft itself hold no hash
    of the base, so it is not compared.

    Args:
        network: the base, or a network with adapters of the same rank, alpha and layers.
        path: folder of the adapter, or its `adapter_model.safetensors`.
        allow_other_base: load even if the adapter was trained on other base weights.

    Raises:
        AdapterError: there is no adapter, or base, rank, alpha or layers differ, tensors are missing or unexpected, or
            a number is not finite. The network is then unchanged.
    """
    folder = Path(path).parent if Path(path).name == WEIGHTS_FILE else Path(path)
    config = _read_config(folder / CONFIG_FILE)
    tensors, trained_on = _read_tensors(folder / WEIGHTS_FILE)
    own = base_fingerprint(network)
    if trained_on not in (None, own) and not allow_other_base:
        raise AdapterError(
            f"{folder}: the adapter was trained on other base weights (sha256 {trained_on[:12]}..., "
            f"{config.base_model_name_or_path or 'not named'}) than these ({own[:12]}...). Give its own base as "
            "--model_path, or set --allow_other_base if you know what you are doing"
        )
    _require_same_shape(network, tensors, config, folder)
    if not has_lora(network):
        _inject(network, config)
    with torch.no_grad():
        for name, parameter in _adapter_parameters(network).items():
            parameter.copy_(tensors[name])
    return adapter_summary(network)


def plain_state_dict(network: PolicyNetwork, *, merged: bool = True) -> dict[str, Tensor]:
    """Copies of the weights under the names of a network without adapters; `merged` adds the adapters."""
    deltas: dict[str, Tensor] = {}
    if merged:
        deltas = {f"{path}.weight": layer.get_delta_weight(_NAME) for path, layer in _adapted_layers(network)}
    plain: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer.", ".")
        value = tensor.detach().clone()
        plain[name] = value + deltas[name].detach().to(value.dtype) if name in deltas else value
    return plain


def merge_into_base(network: NetworkT) -> NetworkT:
    """A new network without adapters that computes the same up to rounding."""
    merged = network.like()
    merged.load_state_dict(plain_state_dict(network))
    return merged


def base_network(network: NetworkT) -> NetworkT:
    """A new network with the weights of the base alone."""
    base = network.like()
    base.load_state_dict(plain_state_dict(network, merged=False))
    return base


def base_fingerprint(network: PolicyNetwork) -> str:
    """sha256 over names, shapes and float32 values of the base weights; adapters do not change it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(plain_state_dict(network, merged=False).items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _adapted_layers(network: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Paths and layers with adapters, in the network's order."""
    for path, module in network.named_modules():
        if isinstance(module, LoraLinear):
            yield path, module


def _adapter_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if ".lora_" in name}


def _linear_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """The network's own Linear layers by their path without adapters."""
    return {
        path.removesuffix(".base_layer"): module
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in path
    }


def _is_called(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _target_names(network: PolicyNetwork, summary: AdapterSummary) -> list[str]:
    """Short names if they denote exactly the adapted layers, otherwise complete paths."""
    adapted = [path for path, _ in _adapted_layers(network)]
    meant = [path for path in _linear_layers(network) if any(_is_called(path, name) for name in summary.targets)]
    return sorted(summary.targets if set(meant) == set(adapted) else adapted)


def _short_name(path: str) -> str:
    """`q_proj` for a layer of every block, `time_embed.0` if the last part alone is a number."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdecimal() else parts[-1]


def _inject(network: PolicyNetwork, config: LoraConfig) -> None:
    if has_lora(network):
        raise AdapterError("the network has adapters already; merge them first (--merge_adapter)")
    training = network.training
    with torch.random.fork_rng(devices=[]):  # peft draws A from the global generator
        inject_adapter_in_model(config, network)
    network.train(training)


def _read_config(path: Path) -> LoraConfig:
    """peft's configuration of a plain LoRA. Raises AdapterError for variants that add other parameters."""
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; an adapter is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        values = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise AdapterError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict) or values.get("peft_type") != "LORA":
        found = values.get("peft_type") if isinstance(values, dict) else type(values).__name__
        raise AdapterError(f"{path}: peft_type is {found!r}; only LORA is supported")
    for option in _VARIANTS:
        if values.get(option) not in (None, False, "none", {}, []):
            raise AdapterError(f"{path}: {option} is {values[option]!r}; only plain LoRA is supported")
    legal = {"r": int, "lora_alpha": int, "target_modules": list}
    for option, kind in legal.items():
        if not isinstance(values.get(option), kind):
            raise AdapterError(f"{path}: {option} is {values.get(option)!r}; expected {kind.__name__}")
    return LoraConfig(
        r=values["r"],
        lora_alpha=values["lora_alpha"],
        target_modules=values["target_modules"],
        base_model_name_or_path=values.get("base_model_name_or_path"),
    )


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors by their names inside a network, and the hash of the base that they were trained on."""
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; an adapter is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    refuse_foreign(path)
    try:
        with safe_open(path, framework="pt") as file:
            keys: list[str] = file.keys()
            tensors = {_inner_name(key): file.get_tensor(key) for key in keys}
            metadata: Mapping[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise AdapterError(f"{path}: not a safetensors file ({error})") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"{path}: {name} has numbers that are not finite")
    return tensors, metadata.get(_BASE_KEY)


def _inner_name(key: str) -> str:
    """Converts `base_model.model.x.lora_A.weight` or `x.lora_A.weight` to `x.lora_A.default.weight`."""
    name = key.removeprefix(_PEFT_PREFIX)
    for half in (".lora_A.", ".lora_B."):
        if half in name and f"{half}{_NAME}." not in name:
            name = name.replace(half, f"{half}{_NAME}.")
    return name


def _require_same_shape(
    network: PolicyNetwork, tensors: Mapping[str, Tensor], config: LoraConfig, folder: Path
) -> None:
    """Checks that the file's tensors are exactly those that its configuration gives on this network."""
    if has_lora(network):
        own = adapter_summary(network)
        if (own.r, own.alpha) != (config.r, config.lora_alpha):
            raise AdapterError(
                f"{folder}: the adapter has r {config.r} and alpha {config.lora_alpha}, the network's adapters have "
                f"r {own.r} and alpha {own.alpha}"
            )
        wanted = {name: tuple(parameter.shape) for name, parameter in _adapter_parameters(network).items()}
    else:
        wanted = _shapes_of(network, config)
    missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unexpected:
        raise AdapterError(
            f"{folder}: {len(wanted) - len(missing)} of {len(wanted)} tensors match; missing: "
            f"{', '.join(missing[:6]) or 'none'}; unexpected: {', '.join(unexpected[:6]) or 'none'}"
        )
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise AdapterError(f"{folder}: {name} has shape {tuple(tensors[name].shape)}; expected {shape}")


def _shapes_of(network: PolicyNetwork, config: LoraConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of an adapter with this configuration, for a network without adapters."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path, layer in _linear_layers(network).items():
        if any(_is_called(path, name) for name in config.target_modules or ()):
            shapes[f"{path}.lora_A.{_NAME}.weight"] = (config.r, layer.in_features)
            shapes[f"{path}.lora_B.{_NAME}.weight"] = (layer.out_features, config.r)
    return shapes
