"""Post-norm transformer layers whose train and eval numbers are the same, apart from dropout.

torch's `nn.TransformerEncoder` switches to another kernel in eval mode, and its fused attention reads the projection
weights without calling the projections: a policy ratio would not start at 1, and a LoRA adapter on `out_proj` would be
dead. Here query, key, value and output are four Linear layers with a real forward each, around
`scaled_dot_product_attention`, in every mode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rollouts.networks.linear import Linear

_CUDA_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Attention(nn.Module):
    """Multi-head attention with separate projections. Weights correspond to `nn.MultiheadAttention`'s packed ones."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor | None) -> Tensor:
        """queries [B, Q, d] attend to keys [B, K, d]; key_mask [B, 1, 1, K] bool, True = may be attended to."""
        attended = attend(
            self._heads(self.q_proj(queries)),
            self._heads(self.k_proj(keys)),
            self._heads(self.v_proj(keys)),
            key_mask,
            self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, L, d] to [B, heads, L, d / heads]."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V. queries [B, heads, Q, d], keys and values [B, heads, K, d], key_mask [B, 1, 1, K].

    The choice of kernel depends on device and type alone, so that it is the same with and without gradients. On the CPU
    torch's fused kernel is no faster in bfloat16 than in float32; three plain products take half its time. On a GPU
    cuDNN's kernel is left out: torch takes it without gradients only, if kernels have to be deterministic.
    """
    if queries.device.type == "cuda":
        with sdpa_kernel(_CUDA_KERNELS):
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=key_mask, dropout_p=dropout)
    if queries.device.type != "cpu" or queries.dtype == torch.float32:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=key_mask, dropout_p=dropout)
    scores = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-2, -1))
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask, -torch.inf)
    shares = F.dropout(torch.softmax(scores, dim=-1), dropout)
    return torch.matmul(shares, values)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by dropout, residual sum and LayerNorm (Vaswani et al. 2017)."""

    def __init__(self, width: int, ff_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads, dropout)
        self.linear1 = Linear(width, ff_size)
        self.linear2 = Linear(ff_size, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_mask: Tensor | None) -> Tensor:
        """x [B, L, d] -> [B, L, d]."""
        x = self.norm1(x + self.dropout(self.attention(x, x, key_mask)))
        hidden = self.dropout(F.gelu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))
