"""Post-norm transformer layers that compute the same numbers in train and eval mode, apart from dropout.

torch's `nn.TransformerEncoder` uses another kernel in eval mode, and its fused attention reads the projection weights
without calling the projections: a policy ratio would not start at 1, and a LoRA adapter on `out_proj` would have no
effect. Here query, key, value and output are four Linear layers whose forward is called in every mode, around
`scaled_dot_product_attention`.

With `packed` a layer has the parameters of `nn.TransformerEncoderLayer` under their names, as TMR's files do, with the
one matrix [3 d, d] for query, key and value: three products, and oneDNN's in the place of torch's, round differently,
and published models are to give their published numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rollouts.linear import Linear

_CUDA_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Attention(nn.Module):
    """Multi-head attention with separate projections (`q_proj`, `k_proj`, `v_proj`), which adapters can wrap, or with
    the packed ones of `nn.MultiheadAttention` (`in_proj_weight`, `in_proj_bias`)."""

    def __init__(self, width: int, num_heads: int, dropout: float, packed: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.packed = packed
        if packed:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
            self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
            self.out_proj: nn.Linear = nn.Linear(width, width)
            nn.init.xavier_uniform_(self.in_proj_weight)
            nn.init.zeros_(self.out_proj.bias)
        else:
            self.q_proj = Linear(width, width)
            self.k_proj = Linear(width, width)
            self.v_proj = Linear(width, width)
            self.out_proj = Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor | None) -> Tensor:
        """queries [B, Q, d] attend to keys [B, K, d]; key_mask [B, 1, 1, K] bool, True = may be attended to."""
        q, k, v = (self._heads(part) for part in self._project(queries, keys))
        attended = attend(q, k, v, key_mask, self.dropout if self.training else 0.0)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _project(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, Q, d], keys and values [B, K, d]."""
        if not self.packed:
            return self.q_proj(queries), self.k_proj(keys), self.v_proj(keys)
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, queries.shape[-1]
        if queries is keys:
            q, k, v = F.linear(queries, weight, bias).chunk(3, dim=-1)
        else:
            q = F.linear(queries, weight[:width], bias[:width])
            k, v = F.linear(keys, weight[width:], bias[width:]).chunk(2, dim=-1)
        return q, k, v

    def _heads(self, x: Tensor) -> Tensor:
        """Splits [B, L, d] into heads [B, heads, L, d / heads]."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V. queries [B, heads, Q, d], keys and values [B, heads, K, d], key_mask [B, 1, 1, K].

    The choice of kernel depends only on device and type, so it is the same with and without gradients. On the CPU
    torch's fused kernel is no faster in bfloat16 than in float32; three plain products take half its time. On a GPU
    cuDNN's kernel is not used: if kernels must be deterministic, torch uses it only without gradients.
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
    """Self-attention and feed-forward, each followed by dropout, residual sum and LayerNorm (Vaswani et al. 2017).

    Args:
        packed: parameters of `nn.TransformerEncoderLayer`; see `Attention`.
    """

    def __init__(self, width: int, ff_size: int, num_heads: int, dropout: float, packed: bool = False) -> None:
        super().__init__()
        self.packed = packed
        linear = nn.Linear if packed else Linear
        attention = Attention(width, num_heads, dropout, packed)
        if packed:
            self.self_attn = attention
        else:
            self.attention = attention
        self.linear1 = linear(width, ff_size)
        self.linear2 = linear(ff_size, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_mask: Tensor | None) -> Tensor:
        """Maps x [B, L, d] to [B, L, d]; `key_mask` [B, 1, 1, L] bool is True where a position may be attended to."""
        attention = self.self_attn if self.packed else self.attention
        x = self.norm1(x + self.dropout(attention(x, x, key_mask)))
        hidden = self.dropout(F.gelu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """Self-attention, attention to a memory, and feed-forward, each followed by dropout, residual sum and LayerNorm
    (Vaswani et al. 2017)."""

    def __init__(self, width: int, ff_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads, dropout)
        self.cross_attention = Attention(width, num_heads, dropout)
        self.linear1 = Linear(width, ff_size)
        self.linear2 = Linear(ff_size, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, key_mask: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """Maps x [B, L, d] to [B, L, d] under a memory [B, M, d]; the masks [B, 1, 1, L] and [B, 1, 1, M] bool are True
        where a position may be attended to."""
        x = self.norm1(x + self.dropout(self.attention(x, x, key_mask)))
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory, memory_mask)))
        hidden = self.dropout(F.gelu(self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))


def positional_table(num_rows: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoids [num_rows, width] float32: channel 2k sin(p w_k), channel 2k + 1 cos(p w_k), w_k =
    10000^(-2k/width)."""
    rows = torch.arange(num_rows, dtype=torch.float32, device=device).unsqueeze(1)
    # In float32 and as exp(log): bit for bit the table that official checkpoints store.
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(rows * rates), torch.cos(rows * rates)], dim=2).flatten(1)
