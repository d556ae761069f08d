"""MDM in a straightforward implementation: torch's own transformer modules, sequence first. Baseline of `sampling.py`.

It has the same weights and results as `rollouts.networks.mdm.MDM` (a test compares them) without its optimisations:
embeddings are computed in every forward, and guidance takes two forwards.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rollouts.networks.mdm import MDMConfig, positional_table


class PlainMDM(nn.Module):
    """The architecture `trans_enc`, built from `nn.TransformerEncoderLayer`."""

    positions: Tensor

    def __init__(self, config: MDMConfig) -> None:
        super().__init__()
        width = config.latent_dim
        self.input = nn.Linear(config.num_features, width)
        self.text = nn.Linear(config.text_dim, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(
            width, config.num_heads, config.ff_size, dropout=config.dropout, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.output = nn.Linear(width, config.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", positional_table(config.max_positions, width), persistent=False)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """Loads the weights of a state dict with MDM's parameter names."""
        prefixes = {
            "input": "input_process.poseEmbedding",
            "text": "embed_text",
            "time": "embed_timestep.time_embed",
            "encoder": "seqTransEncoder",
            "output": "output_process.poseFinal",
        }
        for name, prefix in prefixes.items():
            part = {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(prefix + ".")}
            self.get_submodule(name).load_state_dict(part)

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """x [B, T, D], timesteps [B], text [B, E] (zeros: null condition), frame_mask [B, T] or None -> [B, T, D]."""
        token = self.text(text) + self.time(self.positions[timesteps])
        sequence = torch.cat([token.unsqueeze(0), self.input(x.transpose(0, 1))])
        sequence = self.dropout(sequence + self.positions[: len(sequence)].unsqueeze(1))
        hidden = None
        if frame_mask is not None:
            hidden = torch.cat([frame_mask.new_zeros(len(x), 1), ~frame_mask], dim=1)
        encoded = self.encoder(sequence, src_key_padding_mask=hidden)
        return self.output(encoded[1:]).transpose(0, 1)
