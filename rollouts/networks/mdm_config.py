"""Sizes of an MDM, and their names in args.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from motions.base.errors import UserError
from rollouts.settings import Decay

ARCHITECTURES = ("trans_enc", "trans_dec", "gru", "mamba")
FILE_KIND = "an MDM that reads text"
"""What its files are called in messages."""

Recurrence = Literal["time", "none"]
"""What a GRU carries from frame to frame: its state, or nothing."""

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
_OWN_ARGS = {
    "trans_enc": (),
    "trans_dec": ("text_by_token", "emb_trans_dec"),
    "gru": ("gru_recurrence",),
    "mamba": ("d_state", "ssm_decay"),
}
"""Further fields of an architecture, which are entries of the same names."""


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
    text_by_token: bool = False
    """trans_dec: the memory holds a row for each token of the text, as MDM's DistilBERT models have it, and not one
    vector, as its CLIP models do."""
    emb_trans_dec: bool = False
    """trans_dec: a token of the diffusion step stands before the frames."""
    gru_recurrence: Recurrence = "time"
    """gru: `time` carries the state from frame to frame. `none` is what MDM's own code computes for a motion that is
    alone in its batch: there the state goes from motion to motion of a batch, so each frame begins without one."""
    d_state: int = 32
    """mamba: numbers of a channel's state."""
    ssm_decay: Decay = "head"
    """mamba: where the rates of decay differ."""

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise UserError(f"arch is {self.arch!r}; built architectures: {', '.join(ARCHITECTURES)}")
        for name in _OWN_ARGS["trans_dec"]:
            if getattr(self, name) and self.arch != "trans_dec":
                raise UserError(f"{name} is set and arch is {self.arch}; it belongs to trans_dec")
        sizes = (
            "num_features",
            "latent_dim",
            "ff_size",
            "num_layers",
            "num_heads",
            "text_dim",
            "max_positions",
            "d_state",
        )
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

    @property
    def hides_padding(self) -> bool:
        """Whether real frames are predicted alike whatever stands in the frames after them."""
        return self.mask_frames or self.arch == "gru"

    @classmethod
    def from_args(cls, args: Mapping[str, Any], num_features: int, text_dim: int) -> MDMConfig:
        """Sizes of entries of args.json; UserError where they do not fit each other.

        Args:
            args: has all entries that every architecture has; those of one architecture may be absent, and those of the
                others are ignored.
        """
        given: dict[str, Any] = {ours: args[theirs] for ours, theirs in _ARGS.items()}
        given |= {"num_features": num_features, "text_dim": text_dim}
        own = {name: args[name] for name in _OWN_ARGS.get(args["arch"], ()) if args.get(name) is not None}
        return cls(**given, **own)

    def args(self) -> dict[str, Any]:
        """Entries of args.json."""
        own = {name: getattr(self, name) for name in _OWN_ARGS[self.arch]}
        return {theirs: getattr(self, ours) for ours, theirs in _ARGS.items()} | own
