"""Converts between MDM's parameter names and kinetune's.

MDM packs query, key and value in one matrix and stores its positional table twice (in a buffer shared by two modules).
Here they are three matrices, and the table is recomputed. The layers of an architecture that MDM does not have keep
kinetune's names under a prefix of their own. Conversion is strict: every name must be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from motions.base.errors import UserError
from rollouts.networks.attention import positional_table
from rollouts.networks.backbones import BACKBONES
from rollouts.networks.mdm_config import MDMConfig

OFFICIAL_POSITIONS = ("sequence_pos_encoder.pe", "embed_timestep.sequence_pos_encoder.pe")

_OUTER = {
    "input_process.poseEmbedding": "input_proj",
    "embed_timestep.time_embed.0": "time_embed.0",
    "embed_timestep.time_embed.2": "time_embed.2",
    "embed_text": "embed_text",
    "output_process.poseFinal": "output_proj",
}
_LAYER = {
    "self_attn.out_proj": "attention.out_proj",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm1": "norm1",
    "norm2": "norm2",
    "multihead_attn.out_proj": "cross_attention.out_proj",
    "norm3": "norm3",
}
_PREFIXES = {"trans_enc": "seqTransEncoder.layers", "trans_dec": "seqTransDecoder.layers"}
_OWN_PREFIXES = {"mamba": "seqMamba"}
_PACKED = {"self_attn": "attention", "multihead_attn": "cross_attention"}
_QKV = ("q_proj", "k_proj", "v_proj")


class StateDictError(UserError):
    """Names or shapes of a state dict are not those of the network that it should fill."""


def layers_prefix(arch: str) -> str | None:
    """What stands before the number of a layer in MDM's names; None for an architecture without such layers."""
    return _PREFIXES.get(arch)


def architecture_of(names: Iterable[str]) -> str | None:
    """The architecture that has MDM's parameter names; None if no name tells."""
    firsts = {name.split(".")[0] for name in names}
    found = [arch for arch, prefix in (_PREFIXES | _OWN_PREFIXES).items() if prefix.split(".")[0] in firsts]
    return found[0] if found else "gru" if "gru" in firsts else None


def from_official_state_dict(state: Mapping[str, Tensor], config: MDMConfig) -> dict[str, Tensor]:
    """Converts MDM's names to kinetune's, in float32, for a network of `config`.

    The positional tables may be absent or of any length, as in MDM's own loading: see `stored_positions`.

    Raises:
        StateDictError: missing or unexpected names (all listed), or a shape that does not match `config`.
    """
    shapes = official_shapes(config)
    given = {name: value for name, value in state.items() if name not in OFFICIAL_POSITIONS}
    missing = [name for name in shapes if name not in given]
    unexpected = [name for name in given if name not in shapes]
    if missing or unexpected:
        raise StateDictError(
            f"not an MDM {config.arch} state dict of {config.num_layers} layers: "
            f"{len(shapes) - len(missing)} of {len(shapes)} names match; "
            f"missing: {_listed(missing)}; unexpected: {_listed(unexpected)}"
        )
    for name, shape in shapes.items():
        if tuple(given[name].shape) != shape:
            raise StateDictError(f"{name} has shape {tuple(given[name].shape)}; the config asks for {shape}")
    ours: dict[str, Tensor] = {}
    for name, value in given.items():
        values = value.detach().to(torch.float32)
        targets = _targets(name)
        pieces = values.chunk(3) if len(targets) == 3 else (values,)
        ours.update({target: piece.clone() for target, piece in zip(targets, pieces, strict=True)})
    return ours


def stored_positions(state: Mapping[str, Tensor], config: MDMConfig) -> Tensor | None:
    """The positional table [max_positions, latent] of a file, where it is the sinusoids of `config` but for rounding.

    Processors round the rates of the sinusoids differently by one unit in the last place, which a row multiplies by its
    number; a network with the file's own table gives the file's own numbers on all of them.
    """
    given = state.get(OFFICIAL_POSITIONS[0])
    if given is None or tuple(given.shape) != (config.max_positions, 1, config.latent_dim):
        return None
    table = given[:, 0].detach().to(torch.float32)
    error = (table - positional_table(config.max_positions, config.latent_dim).to(table.device)).abs().amax(dim=1)
    rows = torch.arange(len(error), device=error.device).clamp(min=1)
    return table.clone() if bool((error <= rows * 2 * torch.finfo(torch.float32).eps).all()) else None


def to_official_state_dict(config: MDMConfig, weights: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
    """Weights of kinetune's names under MDM's, on the CPU, checked as strictly; the positional table [max_positions,
    latent], one tensor, stands under both of its names."""
    shapes = official_shapes(config)
    wanted = [target for name in shapes for target in _targets(name)]
    missing = [name for name in wanted if name not in weights]
    unexpected = sorted(set(weights) - set(wanted))
    if missing or unexpected:
        raise StateDictError(
            f"not the plain weights of this network (adapters have to be merged first): "
            f"missing: {_listed(missing)}; unexpected: {_listed(unexpected)}"
        )
    official = {
        name: torch.cat([weights[target].detach().cpu() for target in _targets(name)]).clone() for name in shapes
    }
    table = positions.detach().to("cpu", torch.float32).unsqueeze(1)
    return official | dict.fromkeys(OFFICIAL_POSITIONS, table)


def official_shapes(config: MDMConfig) -> dict[str, tuple[int, ...]]:
    """All parameter names in MDM for a network of `config`, with shapes; without positional tables."""
    width, hidden = config.latent_dim, config.ff_size
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        shapes[f"{name}.bias"] = (rows,)

    def attention(name: str) -> None:
        shapes[f"{name}.in_proj_weight"] = (3 * width, width)
        shapes[f"{name}.in_proj_bias"] = (3 * width,)
        linear(f"{name}.out_proj", width, width)

    linear("input_process.poseEmbedding", width, config.num_features + (width if config.arch == "gru" else 0))
    if config.arch in _OWN_PREFIXES:
        with torch.device("meta"):
            own = BACKBONES[config.arch](config).state_dict()
        shapes |= {f"{_OWN_PREFIXES[config.arch]}.{name}": tuple(value.shape) for name, value in own.items()}
    prefix = layers_prefix(config.arch)
    for layer in range(config.num_layers) if config.arch not in _OWN_PREFIXES else ():
        if prefix is None:
            for part in ("ih", "hh"):
                shapes[f"gru.weight_{part}_l{layer}"] = (3 * width, width)
                shapes[f"gru.bias_{part}_l{layer}"] = (3 * width,)
            continue
        attention(f"{prefix}.{layer}.self_attn")
        if config.arch == "trans_dec":
            attention(f"{prefix}.{layer}.multihead_attn")
        linear(f"{prefix}.{layer}.linear1", hidden, width)
        linear(f"{prefix}.{layer}.linear2", width, hidden)
        for norm in ("norm1", "norm2", "norm3") if config.arch == "trans_dec" else ("norm1", "norm2"):
            shapes[f"{prefix}.{layer}.{norm}.weight"] = (width,)
            shapes[f"{prefix}.{layer}.{norm}.bias"] = (width,)
    linear("embed_timestep.time_embed.0", width, width)
    linear("embed_timestep.time_embed.2", width, width)
    linear("embed_text", width, config.text_dim)
    linear("output_process.poseFinal", config.num_features, width)
    return shapes


def _targets(official_name: str) -> list[str]:
    """kinetune's names for one of MDM's parameters: three for a packed projection, one otherwise."""
    module, _, kind = official_name.rpartition(".")
    if module in _OUTER:
        return [f"{_OUTER[module]}.{kind}"]
    if module == "gru":
        return [f"backbone.gru.{kind}"]
    if (first := module.split(".")[0]) in _OWN_PREFIXES.values():
        return [f"backbone.{official_name.removeprefix(f'{first}.')}"]
    _, _, layer, inner = module.split(".", 3)
    if kind.startswith("in_proj_"):
        packed = kind.removeprefix("in_proj_")
        return [f"backbone.layers.{layer}.{_PACKED[inner]}.{projection}.{packed}" for projection in _QKV]
    return [f"backbone.layers.{layer}.{_LAYER[inner]}.{kind}"]


def _listed(names: list[str], limit: int = 12) -> str:
    if not names:
        return "none"
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
