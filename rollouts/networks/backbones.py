"""The parts of MDM's architectures that mix frames with the condition; `mdm.MDM` puts the rest around them.

A backbone is called with embedded frames [B, T, d], the text [B, L, d], the diffusion step [B, d], the positional table
[P, d], a dropout, and masks of frames [B, T] and tokens [B, L] (True = real; None = all are), and returns [B, T, d].
L is 1 and there is no mask of tokens where the text is one vector.

Source: the public code of MDM (Tevet et al. 2023).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from rollouts.networks.attention import DecoderLayer, EncoderLayer
from rollouts.networks.mdm_config import MDMConfig
from rollouts.ssm.layers import StateSpaceBlock


class EncoderBackbone(nn.Module):
    """`trans_enc`: a transformer encoder over one token, text + step, followed by the frames."""

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
        """See the module's docstring."""
        sequence = torch.cat([text + time.unsqueeze(1), frames], dim=1)
        # Row 0 of the table belongs to the condition; frame 0 has row 1.
        sequence = dropout(sequence + positions[: sequence.shape[1]])
        key_mask = _key_mask(_after_visible(frame_mask))
        for layer in self.layers:
            sequence = layer(sequence, key_mask)
        return sequence[:, 1:]


class DecoderBackbone(nn.Module):
    """`trans_dec`: a transformer decoder over the frames, whose memory is text + step: a row for each token of the
    text, or one for the whole. With `emb_trans_dec` a token of the step stands before the frames."""

    def __init__(self, config: MDMConfig) -> None:
        super().__init__()
        self.emb_trans_dec = config.emb_trans_dec
        self.layers = nn.ModuleList(
            DecoderLayer(config.latent_dim, config.ff_size, config.num_heads, config.dropout)
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
        """See the module's docstring."""
        step = time.unsqueeze(1)
        sequence = torch.cat([step, frames], dim=1) if self.emb_trans_dec else frames
        # Frame 0 has row 0 of the table, unless a token stands before it.
        sequence = dropout(sequence + positions[: sequence.shape[1]])
        key_mask = _key_mask(_after_visible(frame_mask) if self.emb_trans_dec else frame_mask)
        memory, memory_mask = text + step, _key_mask(text_mask)
        for layer in self.layers:
            sequence = layer(sequence, memory, key_mask, memory_mask)
        return sequence[:, 1:] if self.emb_trans_dec else sequence


class GRUBackbone(nn.Module):
    """`gru`: a GRU over the frames, which hold the condition already (see `mdm.MDM.denoise`)."""

    def __init__(self, config: MDMConfig) -> None:
        super().__init__()
        self.recurrence = config.gru_recurrence
        self.gru = nn.GRU(config.latent_dim, config.latent_dim, config.num_layers, batch_first=True)

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
        """See the module's docstring."""
        sequence = dropout(frames + positions[: frames.shape[1]])
        if self.recurrence == "time":
            return self.gru(sequence)[0]
        # Every frame is a sequence of its own.
        return self.gru(sequence.flatten(0, 1).unsqueeze(1))[0].squeeze(1).unflatten(0, sequence.shape[:2])


class MambaBackbone(nn.Module):
    """`mamba`: bidirectional state-space blocks over the frames; text + step scale and shift the frames of every block,
    and are added to the frames before the first. It is not of MDM's code."""

    undecayed: ClassVar[tuple[str, ...]] = ("norm.weight", "norm.bias")

    def __init__(self, config: MDMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StateSpaceBlock(
                config.latent_dim,
                config.d_state,
                config.ssm_decay,
                bidirectional=True,
                conditioned=True,
                dropout=config.dropout,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.latent_dim)

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
        """See the module's docstring."""
        condition = text.squeeze(1) + time
        sequence = dropout(frames + condition.unsqueeze(1) + positions[: frames.shape[1]])
        for layer in self.layers:
            sequence = layer(sequence, frame_mask, condition)
        return self.norm(sequence)


BACKBONES: dict[str, type[EncoderBackbone | DecoderBackbone | GRUBackbone | MambaBackbone]] = {
    "trans_enc": EncoderBackbone,
    "trans_dec": DecoderBackbone,
    "gru": GRUBackbone,
    "mamba": MambaBackbone,
}


def _after_visible(mask: Tensor | None) -> Tensor | None:
    """A mask [B, T] behind one position that is always visible: [B, 1 + T]."""
    return None if mask is None else torch.cat([mask.new_ones(mask.shape[0], 1), mask], dim=1)


def _key_mask(mask: Tensor | None) -> Tensor | None:
    """A mask [B, L] as attention takes it: [B, 1, 1, L]."""
    return None if mask is None else mask[:, None, None, :]
