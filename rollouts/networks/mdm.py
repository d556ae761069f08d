"""MDM, the motion diffusion network (Tevet et al. 2023), batch first.

Motions are [B, T, D] here; the official layout is [B, J, F, T]. The network is cut as every `DenoiserNetwork` is; an
architecture (`trans_enc`, `trans_dec`, `gru`, and `mamba`, which is not of the paper) is a module of `backbones.py`
that mixes frames with the condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from rollouts.linear import Linear
from rollouts.messages import TextForm
from rollouts.networks.attention import Attention, positional_table
from rollouts.networks.backbones import BACKBONES
from rollouts.networks.denoiser_network import DenoiserNetwork
from rollouts.networks.mdm_config import FILE_KIND, MDMConfig
from rollouts.networks.mdm_naming import (
    OFFICIAL_POSITIONS,
    StateDictError,
    architecture_of,
    from_official_state_dict,
    layers_prefix,
    stored_positions,
    to_official_state_dict,
)
from rollouts.ssm.layers import SelectiveScan

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_FEED_FORWARD = ("linear1", "linear2")
_OUTER = ("embed_text", "input_proj", "output_proj")
_TRANSFORMER_TARGETS = {
    "attn": _ATTENTION,
    "ffn": _FEED_FORWARD,
    "text": ("embed_text",),
    "all": (*_ATTENTION, *_FEED_FORWARD, *_OUTER),
}
_SCAN = ("in_proj", "x_proj", "out_proj")
_TARGETS = {
    "gru": {"text": ("embed_text",), "all": _OUTER},
    "mamba": {"attn": _SCAN, "text": ("embed_text",), "all": (*_SCAN, "condition_proj", *_OUTER)},
}
"""Of architectures that are no transformers."""


class MDM(DenoiserNetwork):
    """Predicts the clean motion x0 from x_t, the diffusion step, and one text embedding or one for each token."""

    adapter_targets = _TRANSFORMER_TARGETS
    file_kind = FILE_KIND
    derived_names = OFFICIAL_POSITIONS

    positions: Tensor

    def __init__(self, config: MDMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_features
        self.text_dim = config.text_dim
        self.max_positions = config.max_positions
        self.adapter_targets = _TARGETS.get(config.arch, _TRANSFORMER_TARGETS)
        self.text_form = self.reads(config.args())
        self.hides_padding = config.hides_padding
        width = config.latent_dim
        with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
            # A GRU's frames hold the condition beside the features.
            joined = width if config.arch == "gru" else 0
            self.input_proj = Linear(config.num_features + joined, width)
            self.output_proj = Linear(width, config.num_features)
            self.embed_text = Linear(config.text_dim, width)
            self.time_embed = nn.Sequential(Linear(width, width), nn.SiLU(), Linear(width, width))
            self.backbone = BACKBONES[config.arch](config)
        # A function of the config, so not part of a checkpoint.
        self.register_buffer("positions", positional_table(config.max_positions, width), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        _initialise(self, torch.Generator().manual_seed(seed))

    @classmethod
    def build(cls, args: Mapping[str, Any], num_features: int, text_dim: int, seed: int = 0) -> MDM:
        """See the base class; needs all entries that `args` gives."""
        return cls(MDMConfig.from_args(args, num_features, text_dim), seed)

    @classmethod
    def reads(cls, args: Mapping[str, Any]) -> TextForm:
        """See the base class."""
        return "tokens" if args.get("text_by_token") else "pooled"

    @classmethod
    def from_file(cls, state: Mapping[str, Tensor], args: Mapping[str, Any]) -> MDM:
        """See the base class; sizes that old files do not say are read off the weights."""

        def size(name: str, axis: int) -> int:
            if name not in state:
                raise StateDictError(f"{name} is missing; the file is not (all of) an MDM checkpoint")
            return state[name].shape[axis]

        if (found := architecture_of(state)) not in (None, args["arch"]):
            raise StateDictError(f"the weights are of arch {found}, not {args['arch']}")
        network = cls.build(
            {**args, "ff_size": args["ff_size"] or _ff_size(args["arch"], size)},
            num_features=size("output_process.poseFinal.weight", 0),
            text_dim=args["text_dim"] or size("embed_text.weight", 1),
        )
        network.take_file(state)
        return network

    def take_file(self, state: Mapping[str, Tensor]) -> None:
        """Takes weights over that have official names, and the positional table where it is ours but for rounding.

        Raises:
            StateDictError: missing or unexpected names, or a shape that does not fit.
        """
        self.load_state_dict(from_official_state_dict(state, self.config))
        if (table := stored_positions(state, self.config)) is not None:
            self.positions.copy_(table)

    def to_file(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """See the base class; official names, the positional table under both of its own."""
        return to_official_state_dict(self.config, self.state_dict() if weights is None else weights, self.positions)

    def args(self) -> dict[str, Any]:
        """Entries of args.json."""
        return self.config.args()

    def encode_text(self, text: Tensor, drop_text: Tensor | None = None) -> Tensor:
        """Embeds text [B, L, E] to [B, L, latent]. A dropped text is 0 before the projection, whose bias stays."""
        if text.ndim != 3 or text.shape[2] != self.config.text_dim:
            raise ValueError(f"text has shape {tuple(text.shape)}; expected [batch, tokens, {self.config.text_dim}]")
        if drop_text is not None:
            text = text.masked_fill(drop_text.view(-1, 1, 1), 0.0)
        return self.embed_text(text)

    def encode_null(self, batch_size: int, num_tokens: int = 1) -> Tensor:
        """Null condition [batch_size, num_tokens, latent]."""
        zeros = torch.zeros(1, 1, self.config.text_dim, device=self.positions.device, dtype=self.positions.dtype)
        return self.embed_text(zeros).expand(batch_size, num_tokens, -1)

    def embed_timesteps(self, timesteps: Tensor) -> Tensor:
        """Embeds time steps [B] int64 to [B, latent]: a row of the positional table through a two-layer perceptron."""
        return self.time_embed(self.positions[timesteps])

    def denoise(
        self,
        x: Tensor,
        text: Tensor,
        time: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """See the base class. Runs in the precision of the weights of `input_proj`, and looks at `frame_mask` with
        `mask_frames` only."""
        if x.ndim != 3 or x.shape[2] != self.config.num_features:
            raise ValueError(f"motion has shape {tuple(x.shape)}; expected [batch, frames, {self.config.num_features}]")
        if x.shape[1] < 1 or x.shape[1] >= self.config.max_positions:
            raise UserError(f"motion has {x.shape[1]} frames; legal are 1 to {self.config.max_positions - 1}")
        if self.text_form == "pooled" and (text.shape[1] != 1 or text_mask is not None):
            raise ValueError(
                f"{self.config.arch} takes one pooled text embedding, not {text.shape[1]} tokens or a token mask"
            )
        dtype = self.input_proj.weight.dtype
        visible = frame_mask if self.config.mask_frames else None
        x = x.to(dtype)
        if self.config.arch == "gru":
            x = torch.cat([x, (text.to(dtype) + time.to(dtype).unsqueeze(1)).expand(-1, x.shape[1], -1)], dim=2)
        frames = self.input_proj(x)
        mixed = self.backbone(
            frames, text.to(dtype), time.to(dtype), self.positions.to(dtype), self.dropout, visible, text_mask
        )
        return self.output_proj(mixed)


def _ff_size(arch: str, size: Callable[[str, int], int]) -> int:
    """Width of the feed-forward layers by the weights; MDM's own for a GRU, which has none."""
    prefix = layers_prefix(arch)
    return MDMConfig().ff_size if prefix is None else size(f"{prefix}.0.linear1.weight", 0)


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """The initial distributions of MDM's code: torch's defaults for Linear, packed attention, GRU and convolution; a
    scan has its own."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.in_features)
            module.weight.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.uniform_(-bound, bound, generator=generator)
    for module in network.modules():
        if isinstance(module, Attention):
            width = module.q_proj.in_features
            bound = math.sqrt(6.0 / (width + 3 * width))  # Xavier uniform of the packed [3 width, width] matrix
            for projection in (module.q_proj, module.k_proj, module.v_proj):
                projection.weight.uniform_(-bound, bound, generator=generator)
                projection.bias.zero_()
            module.out_proj.bias.zero_()
        elif isinstance(module, nn.GRU):
            bound = 1.0 / math.sqrt(module.hidden_size)
            for parameter in module.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.Conv1d):
            bound = 1.0 / math.sqrt(module.kernel_size[0] * module.in_channels // module.groups)
            for parameter in module.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, SelectiveScan):
            module.reset(generator)
