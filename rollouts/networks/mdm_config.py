"""Sizes of an MDM, and their names in args.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motions.base.errors import UserError

ARCHITECTURES = ("trans_enc",)
FILE_KIND = "an MDM of architecture trans_enc"
"""What its files are called in messages."""

_ARGS = {
    "arch": "arch",
    "num_layers": "layers",
    "latent_dim": "latent_dim",
    "ff_size": "ff_size",
    "num_heads": "num_heads",
    "dropout": "dropout",
    "text_dim": "text_dim",
    "max_positions": "pos_embed_max_len",
    "mask_frames": "mask_frames",
    "cond_mask_prob": "cond_mask_prob",
}
"""Entry of args.json by field."""


@dataclass(frozen=True, slots=True)
class MDMConfig:
    """Sizes of the network; the defaults are the official HumanML3D model's.

    Example:
        MDMConfig(num_features=263, latent_dim=128, ff_size=256, num_layers=4, text_dim=384, mask_frames=True)
    """

    arch: str = "trans_enc"
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
        if self.arch not in ARCHITECTURES:
            raise UserError(f"arch is {self.arch!r}; built architectures: {', '.join(ARCHITECTURES)}")
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

    @classmethod
    def from_args(cls, args: Mapping[str, Any], num_features: int, text_dim: int) -> MDMConfig:
        """Sizes of entries of args.json, all of which have to be there; UserError where they do not fit each other."""
        given: dict[str, Any] = {ours: args[theirs] for ours, theirs in _ARGS.items()}
        given |= {"num_features": num_features, "text_dim": text_dim}
        return cls(**given)

    def args(self) -> dict[str, Any]:
        """Entries of args.json."""
        return {theirs: getattr(self, ours) for ours, theirs in _ARGS.items()}
