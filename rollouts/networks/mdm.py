"""MDM, the motion diffusion network (Tevet et al. 2023), batch first.

Motions are [B, T, D] here; the official [B, J, F, T] is met in `checkpoints.py` only. The forward is cut in three, so
that a sampler computes the embeddings of text, null text and all time steps once and then calls `denoise` alone:

    text = network.encode_text(text_features)          # [B, L, latent]
    time = network.embed_timesteps(timesteps)          # [B, latent]
    x0 = network.denoise(x_t, text, time, frame_mask)  # the network predicts the clean motion

An architecture is a backbone module in `_BACKBONES` that mixes frames with the condition; `trans_enc` prepends one
token, text + time, to the frames. Submodules that adapters wrap: `q_proj`, `k_proj`, `v_proj`, `out_proj`, `linear1`,
`linear2`, `input_proj`, `output_proj`, `embed_text`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from rollouts.networks.attention import Attention, EncoderLayer
from rollouts.networks.linear import Linear

Architecture = Literal["trans_enc"]


@dataclass(frozen=True, slots=True)
class MDMConfig:
    """Sizes of the network; the defaults are the official HumanML3D model's.

    Example:
        MDMConfig(num_features=263, latent_dim=128, ff_size=256, num_layers=4, text_dim=384, mask_frames=True)
    """

    arch: Architecture = "trans_enc"
    num_features: int = 263
    latent_dim: int = 512
    ff_size: int = 1024
    num_layers: int = 8
    num_heads: int = 4
    dropout: float = 0.1
    text_dim: int = 512
    """Width of the text encoder's output."""
    max_positions: int = 5000
    """Rows of the positional table: limits both the number of frames and the diffusion step."""
    mask_frames: bool = False
    """Hide padding frames from attention. Old official models do not: there the padded length changes the result."""
    cond_mask_prob: float = 0.1
    """Share of captions dropped in training, which teaches the unconditional prediction that guidance needs."""

    def __post_init__(self) -> None:
        if self.arch not in get_args(Architecture):
            raise UserError(f"arch is {self.arch!r}; built architectures: {', '.join(get_args(Architecture))}")
        sizes = ("num_features", "latent_dim", "ff_size", "num_layers", "num_heads", "text_dim", "max_positions")
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        for name in ("dropout", "cond_mask_prob"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"{name} is {getattr(self, name)}; it has to be in [0, 1)")
        if self.latent_dim % (2 * self.num_heads):
            raise UserError(
                f"latent_dim is {self.latent_dim}; it has to be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )


class MDM(nn.Module):
    """The denoiser: predicts the clean motion x0 from x_t, the diffusion step and a text embedding.

    Weights are a function of (config, seed); global random state is neither read nor changed.
    """

    positions: Tensor

    def __init__(self, config: MDMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        width = config.latent_dim
        with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
            self.input_proj = Linear(config.num_features, width)
            self.output_proj = Linear(width, config.num_features)
            self.embed_text = Linear(config.text_dim, width)
            self.time_embed = nn.Sequential(Linear(width, width), nn.SiLU(), Linear(width, width))
            self.backbone = _BACKBONES[config.arch](config)
        # Recomputed from the config, so no part of a checkpoint.
        self.register_buffer("positions", positional_table(config.max_positions, width), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        _initialise(self, torch.Generator().manual_seed(seed))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        text: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        drop_text: Tensor | None = None,
    ) -> Tensor:
        """Clean motion x0 [B, T, D].

        Args:
            x: noisy motion [B, T, D], normalised features.
            timesteps: [B] int64, in the steps of the schedule the network was trained with.
            text: text encoder output [B, L, E].
            frame_mask: [B, T] bool, True = real frame; only looked at with `mask_frames`.
            text_mask: [B, L] bool, True = real token; None = all are real.
            drop_text: [B] bool, True = this sample gets the null condition.
        """
        condition = self.encode_text(text, drop_text)
        return self.denoise(x, condition, self.embed_timesteps(timesteps), frame_mask, text_mask)

    def encode_text(self, text: Tensor, drop_text: Tensor | None = None) -> Tensor:
        """[B, L, E] -> [B, L, latent]. A dropped text is zero before the projection: the null condition is its bias."""
        if text.ndim != 3 or text.shape[2] != self.config.text_dim:
            raise ValueError(f"text has shape {tuple(text.shape)}; expected [batch, tokens, {self.config.text_dim}]")
        if drop_text is not None:
            text = text.masked_fill(drop_text.view(-1, 1, 1), 0.0)
        return self.embed_text(text)

    def encode_null(self, batch_size: int) -> Tensor:
        """Null condition [batch_size, 1, latent]."""
        zeros = torch.zeros(1, 1, self.config.text_dim, device=self.positions.device, dtype=self.positions.dtype)
        return self.embed_text(zeros).expand(batch_size, -1, -1)

    def embed_timesteps(self, timesteps: Tensor) -> Tensor:
        """[B] int64 -> [B, latent]: the row of the positional table through a two-layer perceptron."""
        return self.time_embed(self.positions[timesteps])

    def denoise(
        self,
        x: Tensor,
        text: Tensor,
        time: Tensor,
        frame_mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Clean motion [B, T, D] from embedded conditions: text [B, L, latent], time [B, latent]; masks as in
        `forward`.

        Runs in the precision of the weights of `input_proj`; the result keeps it.
        """
        if x.ndim != 3 or x.shape[2] != self.config.num_features:
            raise ValueError(f"motion has shape {tuple(x.shape)}; expected [batch, frames, {self.config.num_features}]")
        if x.shape[1] < 1 or x.shape[1] >= self.config.max_positions:
            raise UserError(f"motion has {x.shape[1]} frames; legal are 1 to {self.config.max_positions - 1}")
        dtype = self.input_proj.weight.dtype
        visible = frame_mask if self.config.mask_frames else None
        frames = self.input_proj(x.to(dtype))
        mixed = self.backbone(
            frames, text.to(dtype), time.to(dtype), self.positions.to(dtype), self.dropout, visible, text_mask
        )
        return self.output_proj(mixed)


class EncoderBackbone(nn.Module):
    """`trans_enc`: one token, text + time, in front of the frames; a transformer encoder over both."""

    def __init__(self, config: MDMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(config.latent_dim, config.ff_size, config.num_heads, config.dropout)
            for _ in range(config.num_layers)
        )

    def forward(
        self,
        frames: Tensor,
        text: Tensor,
        time: Tensor,
        positions: Tensor,
        dropout: nn.Module,
        frame_mask: Tensor | None,
        text_mask: Tensor | None,
    ) -> Tensor:
        """frames [B, T, d], text [B, 1, d], time [B, d], positions [P, d], frame_mask [B, T] -> [B, T, d]."""
        if text.shape[1] != 1 or text_mask is not None:
            raise ValueError(f"trans_enc takes one pooled text embedding, not {text.shape[1]} tokens or a token mask")
        sequence = torch.cat([text + time.unsqueeze(1), frames], dim=1)
        # Row 0 of the table belongs to the condition, frame 0 has row 1.
        sequence = dropout(sequence + positions[: sequence.shape[1]])
        key_mask = None
        if frame_mask is not None:
            condition_visible = frame_mask.new_ones(frame_mask.shape[0], 1)
            key_mask = torch.cat([condition_visible, frame_mask], dim=1)[:, None, None, :]
        for layer in self.layers:
            sequence = layer(sequence, key_mask)
        return sequence[:, 1:]


_BACKBONES: dict[Architecture, type[EncoderBackbone]] = {"trans_enc": EncoderBackbone}


def positional_table(num_rows: int, width: int) -> Tensor:
    """Sinusoids [num_rows, width] float32: channel 2k sin(p w_k), channel 2k + 1 cos(p w_k), w_k =
    10000^(-2k/width)."""
    rows = torch.arange(num_rows, dtype=torch.float32).unsqueeze(1)
    # In float32 and as exp(log): bit for bit the table that official checkpoints store.
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(rows * rates), torch.cos(rows * rates)], dim=2).flatten(1)


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """The initial distributions of the official model: torch's defaults for Linear and for packed attention."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.in_features)
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)
    for module in network.modules():
        if isinstance(module, Attention):
            width = module.q_proj.in_features
            bound = math.sqrt(6.0 / (width + 3 * width))  # Xavier uniform of the packed [3 width, width] matrix
            for projection in (module.q_proj, module.k_proj, module.v_proj):
                projection.weight.uniform_(-bound, bound, generator=generator)
                projection.bias.zero_()
            module.out_proj.bias.zero_()
