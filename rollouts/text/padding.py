"""Token embeddings of several texts as one tensor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pad_tokens(tokens: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Token embeddings, a list of [L_i, E], -> zero-padded [B, max L_i, E] and lengths [B]."""
    lengths = torch.tensor([len(rows) for rows in tokens], dtype=torch.int64)
    padded = torch.zeros(len(tokens), int(lengths.max()), tokens[0].shape[1])
    for row, values in zip(padded, tokens, strict=True):
        row[: len(values)] = torch.from_numpy(np.array(values, dtype=np.float32))
    return padded, lengths
