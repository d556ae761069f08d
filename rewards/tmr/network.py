"""TMR: text and motion in one latent space (Petrovich et al. 2023), with the original's parameter names.

Two encoders of one kind ("ACTOR style": two learned tokens before the sequence, sinusoidal positions, post-norm
transformer; outputs 0 and 1 are mu and logvar) and a decoder that only training needs. Choices:

* The encoder layers are MDM's, with packed projections and torch's names (`rollouts/networks/attention.py`): training
  and eval mode give the same numbers, which they do not in `nn.TransformerEncoder`.
* Masks are boolean, True = real. A sequence's latent does not depend on the padding beside it, up to rounding.
* Features enter in physical units and are normalised with TMR's own per-feature statistics (not the policy's), and
  padded after that with zeros.

Legend: B batch, L positions, T frames, D motion features, E text width, d latent width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motions.base.errors import UserError
from motions.skeleton.normalization import Normalizer
from rollouts.gaussians import Gaussian
from rollouts.networks.attention import Attention, EncoderLayer, positional_table

NORMALIZATION_EPS = 1e-12
"""Constant that TMR's code adds to the standard deviation: (x - mean) / (std + 1e-12)."""


@dataclass(frozen=True, slots=True)
class TMRConfig:
    """Sizes of a TMR; the defaults are those of the published models.

    Example:
        TMRConfig(num_features=263, text_dim=384, latent_dim=64, ff_size=256, num_layers=3)
    """

    num_features: int = 263
    text_dim: int = 768
    latent_dim: int = 256
    ff_size: int = 1024
    num_layers: int = 6
    num_heads: int = 4
    dropout: float = 0.1
    fps: float = 20.0
    """Frame rate of the motions that it was trained on."""

    def __post_init__(self) -> None:
        for name in ("num_features", "text_dim", "latent_dim", "ff_size", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise UserError(f"TMR {name}={getattr(self, name)}: must be at least 1")
        if self.latent_dim % self.num_heads or self.latent_dim % 2:
            raise UserError(
                f"TMR latent_dim={self.latent_dim}: must be even and a multiple of num_heads={self.num_heads}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"TMR dropout={self.dropout}: must be in [0, 1)")


def _key_mask(mask: Tensor) -> Tensor:
    """[B, L] as attention takes it, [B, 1, 1, L]."""
    return mask[:, None, None, :]


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Boolean [B, size], True for the first `lengths` [B] positions of each row."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


class DecoderLayer(nn.Module):
    """Post-norm transformer decoder layer (GELU), keys as in `nn.TransformerDecoderLayer`."""

    def __init__(self, config: TMRConfig) -> None:
        super().__init__()
        dim = config.latent_dim
        self.self_attn = Attention(dim, config.num_heads, config.dropout, packed=True)
        self.multihead_attn = Attention(dim, config.num_heads, config.dropout, packed=True)
        self.linear1 = nn.Linear(dim, config.ff_size)
        self.linear2 = nn.Linear(config.ff_size, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Decodes x [B, L, d], attending to itself and to memory [B, M, d]; masks are True where real."""
        x = self.norm1(x + self.dropout(self.self_attn(x, x, mask)))
        x = self.norm2(x + self.dropout(self.multihead_attn(x, memory, memory_mask)))
        hidden = self.linear2(self.dropout(F.gelu(self.linear1(x))))
        return self.norm3(x + self.dropout(hidden))


class EncoderStack(nn.Module):
    """A holder named `seqTransEncoder` in the state dict."""

    def __init__(self, config: TMRConfig) -> None:
        super().__init__()
        sizes = (config.latent_dim, config.ff_size, config.num_heads, config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(*sizes, packed=True) for _ in range(config.num_layers))


class DecoderStack(nn.Module):
    """A holder named `seqTransDecoder` in the state dict."""

    def __init__(self, config: TMRConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))


class ActorEncoder(nn.Module):
    """Encodes a sequence to a Gaussian over latents."""

    def __init__(self, input_dim: int, config: TMRConfig) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(2, config.latent_dim))
        self.projection = nn.Linear(input_dim, config.latent_dim)
        self.seqTransEncoder = EncoderStack(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Gaussian:
        """Encodes `x` [B, L, input_dim] with `mask` [B, L]."""
        hidden = self.projection(x)
        hidden = torch.cat([self.tokens.expand(x.shape[0], -1, -1), hidden], dim=1)
        hidden = self.dropout(hidden + positional_table(hidden.shape[1], hidden.shape[2], x.device))
        key_mask = _key_mask(F.pad(mask, (2, 0), value=True))
        for layer in self.seqTransEncoder.layers:
            hidden = layer(hidden, key_mask)
        return Gaussian(hidden[:, 0], hidden[:, 1])


class ActorDecoder(nn.Module):
    """Decodes a latent to a motion; the queries are the positional table alone."""

    def __init__(self, config: TMRConfig) -> None:
        super().__init__()
        self.seqTransDecoder = DecoderStack(config)
        self.final_layer = nn.Linear(config.latent_dim, config.num_features)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, latent: Tensor, mask: Tensor) -> Tensor:
        """Decodes `latent` [B, d] into normalised features [B, T, D], zero where `mask` [B, T] is False."""
        batch, length = mask.shape
        queries = positional_table(length, latent.shape[1], latent.device).expand(batch, -1, -1)
        hidden = self.dropout(queries)
        memory = latent[:, None]
        key_mask, memory_mask = _key_mask(mask), _key_mask(mask.new_ones(batch, 1))
        for layer in self.seqTransDecoder.layers:
            hidden = layer(hidden, key_mask, memory, memory_mask)
        return self.final_layer(hidden) * mask[:, :, None]


class TMR(nn.Module):
    """Text encoder, motion encoder and optional decoder, with the statistics of the motion features.

    Args:
        config: sizes of the networks.
        normalizer: statistics of the motions it is trained on; its eps is replaced by TMR's own.
        text_encoder_name: encoder of `rollouts/text/encoders.py` whose tokens `encode_text` takes.
        text_encoder_fingerprint: hash of that encoder's weights, if known.
        with_decoder: build the decoder (training needs it, rewards do not).
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        config: TMRConfig,
        normalizer: Normalizer,
        text_encoder_name: str,
        *,
        text_encoder_fingerprint: str | None = None,
        with_decoder: bool,
    ) -> None:
        super().__init__()
        if normalizer.num_features != config.num_features:
            raise UserError(
                f"TMR statistics have {normalizer.num_features} numbers, num_features is {config.num_features}"
            )
        self.config = config
        self.normalizer = normalizer
        self.text_encoder_name = text_encoder_name
        self.text_encoder_fingerprint = text_encoder_fingerprint
        self.text_encoder = ActorEncoder(config.text_dim, config)
        self.motion_encoder = ActorEncoder(config.num_features, config)
        self.motion_decoder = ActorDecoder(config) if with_decoder else None
        self.register_buffer("mean", torch.tensor(normalizer.mean), persistent=False)
        self.register_buffer("scale", torch.tensor(normalizer.std + np.float32(NORMALIZATION_EPS)), persistent=False)

    def normalize(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalises physical features [B, T, D]; the result is zero from each row's length on."""
        normalized = (features - self.mean) / self.scale
        mask = length_mask(lengths, features.shape[1])
        # `where` instead of a product: padding may hold any values, and 0 * nan is nan.
        return torch.where(mask[:, :, None], normalized, 0.0)

    def encode_motion(self, features: Tensor, lengths: Tensor) -> Gaussian:
        """Encodes physical features [B, T, D] with `lengths` [B] to a Gaussian; mu is the embedding.

        Raises:
            ValueError: width other than the model's, or a length outside 1..T.
        """
        _check_sequence("motion", features, lengths, self.config.num_features)
        return self.motion_encoder(self.normalize(features, lengths), length_mask(lengths, features.shape[1]))

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Gaussian:
        """Encodes token embeddings [B, L, E] with `lengths` [B] to a Gaussian; mu is the embedding.

        Raises:
            ValueError: width other than the model's, or a length outside 1..L.
        """
        _check_sequence("text", tokens, lengths, self.config.text_dim)
        return self.text_encoder(tokens, length_mask(lengths, tokens.shape[1]))

    def decode(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Decodes latents [B, d] to normalised features [B, max(lengths), D], zero after each length."""
        if self.motion_decoder is None:
            raise UserError("this TMR has no motion decoder: load one (motion_decoder.pt) or build it with_decoder")
        return self.motion_decoder(latents, length_mask(lengths, int(lengths.max())))


def _check_sequence(kind: str, values: Tensor, lengths: Tensor, width: int) -> None:
    if values.ndim != 3 or values.shape[2] != width:
        raise ValueError(f"TMR {kind}: shape {tuple(values.shape)}, this model takes [B, L, {width}]")
    if lengths.shape != values.shape[:1]:
        raise ValueError(f"TMR {kind} lengths: shape {tuple(lengths.shape)}, needs ({values.shape[0]},)")
    if int(lengths.min()) < 1 or int(lengths.max()) > values.shape[1]:
        raise ValueError(
            f"TMR {kind} lengths: {int(lengths.min())}..{int(lengths.max())}, legal are 1..{values.shape[1]}"
        )
