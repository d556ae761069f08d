"""MotionSSM: a text-to-motion network of selective state-space layers, a conditional variational auto-encoder.

    posterior  q(z | x, c)   motion and text -> mean and log-variance of Z numbers at each of K knots (training only)
    decoder    x(z, c)       knots and text -> motion
    prior      p(z | c)      N(mu(c), I); mu is 0 until reinforcement learning moves it, so that the reference of GRPO
                             is the prior that the decoder was trained with, and KL(policy || prior) = |mu|^2 / 2
    length     log seconds of a motion of the text

With `latent_dim` 0 there is no latent: the network is a regressor, which gives every text one motion, the mean over all
that it was shown for it. Frames are read and written in patches: a patch of P frames is one place of the layers, and
the decoder's patches are 2 P long and fade into each other, so that no seam is to be seen. All layers scan in both
directions, since a frame depends on what comes after it too. Texts come from a text encoder as one vector; or, where
`num_words` is above 0, as numbers of words, whose embeddings are trained with the rest.

Sources: conditional VAEs of motion (ACTOR, Petrovich et al. 2021; TEMOS, 2022); Mamba-2 (Dao and Gu 2024).

Legend: N samples, T frames, D features, n = T / P places, K knots, Z numbers of a knot, d width, L words, E text width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motions.base.errors import UserError
from rollouts.gaussians import Gaussian
from rollouts.linear import Linear
from rollouts.one_action.knots import gathered, hat_weights, num_knots, spread
from rollouts.policy import PolicyNetwork
from rollouts.settings import Decay
from rollouts.ssm.layers import SelectiveScan, StateSpaceBlock

_CLOCK = 8
"""Waves that tell a place its time."""
_LOG_VARIANCES = (-8.0, 4.0)
_SCAN_LAYERS = ("in_proj", "x_proj", "out_proj")


@dataclass(frozen=True, slots=True)
class MotionSSMConfig:
    """Sizes of the network; widths and numbers of layers are the public project's.

    Example:
        MotionSSMConfig(d_model=128, d_state=16, n_layers=3, latent_dim=8, patch_frames=4, text_dim=384)
    """

    num_features: int = 263
    text_dim: int = 384
    """E; 1 where texts are numbers of words."""
    num_words: int = 0
    """Words of the network's own vocabulary; 0 where a text encoder gives vectors."""
    d_model: int = 256
    d_state: int = 32
    n_layers: int = 4
    """Layers of the decoder; the posterior has half as many."""
    ssm_decay: Decay = "head"
    latent_dim: int = 8
    """Z; 0 makes a regressor."""
    knot_frames: int = 10
    """Frames from one knot to the next."""
    patch_frames: int = 4
    """P: 1, or an even number."""
    max_frames: int = 200
    dropout: float = 0.0

    def __post_init__(self) -> None:
        smallest = {"d_state": 1, "n_layers": 1, "latent_dim": 0, "knot_frames": 1, "patch_frames": 1, "num_words": 0}
        for name, least in {**smallest, "d_model": 8, "max_frames": 2, "num_features": 1, "text_dim": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; legal: {least} or more")
        if self.patch_frames > 1 and self.patch_frames % 2:
            raise UserError(f"patch_frames is {self.patch_frames}; legal: 1 and even numbers")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is {self.dropout}; legal: from 0 to below 1")

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """The sizes among the entries of a checkpoint's `config.json`.

        Raises:
            UserError: one is missing, of another type or out of range.
        """
        values = {}
        for field in dataclasses.fields(cls):
            if field.name not in args:
                raise UserError(f"{field.name} is missing")
            value, usual = args[field.name], getattr(cls(), field.name)
            if type(value) is not type(usual) and not (type(usual) is float and type(value) is int):
                raise UserError(f"{field.name} is {value!r}; expected {type(usual).__name__}")
            values[field.name] = value
        if values["ssm_decay"] not in ("head", "channel", "shared"):
            raise UserError(f"ssm_decay is {values['ssm_decay']!r}; legal: head, channel, shared")
        return cls(**values)


class MotionSSM(PolicyNetwork):
    """The network; weights are a function of (config, seed), and global random state is neither read nor changed.

    Example:
        text = network.encode_text(features)                       # [N, d] of [N, L, E]
        q = network.posterior(x, text, mask)                       # Gaussian over [N, K, Z]
        x = network.decode(q.mu, text, num_frames, mask)           # [N, T, D]
    """

    def __init__(self, config: MotionSSMConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.num_features, self.text_dim = config.num_features, config.text_dim
        self.text_form = "tokens" if config.num_words else "pooled"
        width = config.d_model
        with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
            torch.manual_seed(seed)
            self.embed_text = (
                WordReader(config.num_words, width) if config.num_words else Linear(config.text_dim, width)
            )
            self.encoder = _Posterior(config) if config.latent_dim else None
            self.decoder = _Decoder(config)
            self.prior = _Prior(config) if config.latent_dim else None
            self.length = nn.Sequential(Linear(width, width), nn.SiLU(), Linear(width, 1))
        layers = [path for path, module in self.named_modules() if isinstance(module, Linear)]
        acting, decoding = (tuple(path for path in layers if path.startswith(part)) for part in ("prior.", "decoder."))
        self.adapter_targets = {
            "prior": acting,
            "decoder": decoding,
            "attn": tuple(path for path in decoding if path.rpartition(".")[2] in _SCAN_LAYERS),
            "all": acting + decoding,
        }
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, SelectiveScan):
                module.reset(generator)

    def args(self) -> dict[str, Any]:
        """The sizes, as plain values; `latent_dim` is the number of a knot's numbers."""
        return dataclasses.asdict(self.config)

    @property
    def hidden_size(self) -> int:
        """Numbers of a hidden vector, d."""
        return self.config.d_model

    def like(self) -> MotionSSM:
        """A new network of the same sizes, without adapters."""
        return MotionSSM(self.config)

    def action_shape(self, num_frames: int) -> tuple[int, int]:
        """Shape (K, Z) of the action of a motion."""
        return num_knots(num_frames, self.config.knot_frames), self.config.latent_dim

    @property
    def latent_dim(self) -> int:
        """Numbers of a knot, Z; 0 of a regressor."""
        return self.config.latent_dim

    @property
    def max_frames(self) -> int:
        """Most frames of a motion."""
        return self.config.max_frames

    def encode_text(self, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Texts [N, L, E] as vectors [N, d]; `text_mask` [N, L] is True for real words."""
        if text.ndim != 3 or text.shape[2] != self.text_dim or (self.text_form == "pooled" and text.shape[1] != 1):
            wanted = f"[samples, {'words' if self.config.num_words else 1}, {self.text_dim}]"
            raise ValueError(f"text has shape {tuple(text.shape)}; expected {wanted}")
        if isinstance(self.embed_text, WordReader):
            return self.embed_text(text.squeeze(2), text_mask)
        return self.embed_text(text.squeeze(1))

    def act(self, state: Tensor, text: Tensor) -> Tensor:
        """Mean [N, K, Z] of the action; of `state` [N, K, Z] only the shape counts."""
        if self.prior is None:
            return state
        return self.prior(text, state.shape[1])

    def decode(self, action: Tensor, text: Tensor, num_frames: int, frame_mask: Tensor | None = None) -> Tensor:
        """Motions [N, T, D], normalised, of actions [N, K, Z]; `frame_mask` [N, T] bool is True for real frames, None
        = all are."""
        return self.decoder(action, text, num_frames, frame_mask)

    def posterior(self, x: Tensor, text: Tensor, frame_mask: Tensor) -> Gaussian:
        """Mean and log-variance, each [N, K, Z], of the latent of motions x [N, T, D]."""
        assert self.encoder is not None, "a regressor has no latent"
        return self.encoder(x, text, frame_mask)

    def log_seconds(self, text: Tensor) -> Tensor:
        """Expected logarithm of a motion's seconds [N]."""
        return self.length(text).squeeze(1)


class WordReader(nn.Module):
    """Numbers of words [N, L] to vectors [N, d]: embeddings, two transformer layers, mean over the real words."""

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width, padding_idx=0)
        heads = math.gcd(width, 4)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.output_proj = Linear(width, width)

    def forward(self, numbers: Tensor, mask: Tensor | None) -> Tensor:
        """Padding is neither attended to nor averaged over."""
        real = torch.ones_like(numbers, dtype=torch.bool) if mask is None else mask
        x = self.words(numbers.long())
        x = x + clock(x.shape[1], 1.0, x, self.words.embedding_dim // 2)
        x = self.layers(x, src_key_padding_mask=None if mask is None else ~mask)
        shares = real.to(x.dtype).unsqueeze(2)
        return self.output_proj((x * shares).sum(dim=1) / shares.sum(dim=1))


class _Posterior(nn.Module):
    """Motion and text to a Gaussian over the latent at each knot."""

    def __init__(self, config: MotionSSMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.input_proj = Linear(config.patch_frames * config.num_features, width)
        self.text_proj = Linear(width, width)
        self.clock_proj = Linear(2 * _CLOCK, width, bias=False)
        self.blocks = nn.ModuleList(_block(config) for _ in range(max(1, config.n_layers // 2)))
        self.norm = nn.LayerNorm(width)
        self.latent_proj = Linear(width, 2 * config.latent_dim)

    def forward(self, x: Tensor, text: Tensor, frame_mask: Tensor) -> Gaussian:
        size, places = self.config.patch_frames, _num_places(self.config, x.shape[1])
        x = F.pad(x * frame_mask.unsqueeze(2), (0, 0, 0, places * size - x.shape[1]))
        mask = _place_mask(frame_mask, places, size)
        times = clock(places, size, text, _CLOCK)
        h = self.input_proj(x.view(len(x), places, -1)) + self.text_proj(text).unsqueeze(1) + self.clock_proj(times)
        for block in self.blocks:
            h = block(h, mask, text)
        knots = num_knots(frame_mask.shape[1], self.config.knot_frames)
        weights = _weights(self.config, places, knots, frame_mask.sum(dim=1), h.dtype)
        mean, log_variance = self.latent_proj(gathered(self.norm(h), weights, mask)).chunk(2, dim=2)
        return Gaussian(mean, log_variance.clamp(*_LOG_VARIANCES))


class _Decoder(nn.Module):
    """Latent at the knots, and text, to a motion."""

    def __init__(self, config: MotionSSMConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.d_model, config.patch_frames
        self.latent_proj = Linear(config.latent_dim, width, bias=False) if config.latent_dim else None
        self.text_proj = Linear(width, width)
        self.clock_proj = Linear(2 * _CLOCK, width, bias=False)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(width)
        self.output_proj = Linear(width, config.num_features * (1 if size == 1 else 2 * size))

    def forward(self, action: Tensor, text: Tensor, num_frames: int, frame_mask: Tensor | None) -> Tensor:
        config = self.config
        size, places = config.patch_frames, _num_places(config, num_frames)
        dtype = self.output_proj.weight.dtype
        text, action = text.to(dtype), action.to(dtype)
        mask = None if frame_mask is None else _place_mask(frame_mask, places, size)
        h = self.text_proj(text).unsqueeze(1) + self.clock_proj(clock(places, size, text, _CLOCK))
        if self.latent_proj is not None:
            lengths = action.new_full((len(action),), num_frames) if frame_mask is None else frame_mask.sum(dim=1)
            weights = _weights(config, places, action.shape[1], lengths, dtype)
            h = h + self.latent_proj(spread(action, weights))
        for block in self.blocks:
            h = block(h, mask, text)
        out = self.output_proj(self.norm(h))
        if size == 1:
            return out
        return faded(out.unflatten(2, (2 * size, -1)), mask)[:, :num_frames]


class _Prior(nn.Module):
    """Mean of the latent at each knot by text and time; 0 until it is trained."""

    def __init__(self, config: MotionSSMConfig) -> None:
        super().__init__()
        self.spacing = config.knot_frames
        self.hidden = Linear(config.d_model, config.d_model)
        self.clock = Linear(2 * _CLOCK, config.d_model, bias=False)
        self.mean = Linear(config.d_model, config.latent_dim)
        nn.init.zeros_(self.mean.weight)
        nn.init.zeros_(self.mean.bias)

    def forward(self, text: Tensor, knots: int) -> Tensor:
        text = text.to(self.mean.weight.dtype)
        times = clock(knots, self.spacing, text, _CLOCK)
        return self.mean(torch.tanh(self.hidden(text).unsqueeze(1) + self.clock(times)))


def clock(num_places: int, step: float, like: Tensor, waves: int) -> Tensor:
    """Sines and cosines [T, 2 waves] of the time of each place, with periods from 8 to 2048 frames.

    Args:
        step: frames from one place to the next.
        like: gives device and type.
    """
    frames = step * torch.arange(num_places, device=like.device, dtype=torch.float32)
    periods = 8.0 * 256.0 ** (torch.arange(waves, device=like.device, dtype=torch.float32) / max(1, waves - 1))
    angles = 2.0 * math.pi * frames[:, None] / periods
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)


def faded(patches: Tensor, mask: Tensor | None = None) -> Tensor:
    """Patches [N, n, 2 P, D], each of which begins P / 2 frames before its own P and ends P / 2 behind them, faded
    linearly into their neighbours: [N, n P, D].

    Args:
        mask: [N, n] bool, True = real patch, the first ones; others fade into none. None = all are real.
    """
    size = patches.shape[2] // 2
    places = torch.arange(2 * size, device=patches.device, dtype=torch.float32) + 0.5
    weights = (1.0 - (places - size).abs() / size).view(1, 1, -1, 1).expand(*patches.shape[:2], -1, 1)
    if mask is not None:
        weights = weights * mask.unsqueeze(2).unsqueeze(3)
    shares = _overlapped(weights).clamp(min=0.5 / size)
    return _overlapped(patches * weights.to(patches.dtype)) / shares.to(patches.dtype)


def _overlapped(patches: Tensor) -> Tensor:
    """Sum [N, n P, D] of patches [N, n, 2 P, D] where they lie over each other."""
    size = patches.shape[2] // 2
    half = size // 2
    before, first, second, behind = patches.split([half, size - half, half, size - half], dim=2)
    first = first + F.pad(behind[:, :-1], (0, 0, 0, 0, 1, 0))
    second = second + F.pad(before[:, 1:], (0, 0, 0, 0, 0, 1))
    return torch.cat([first, second], dim=2).flatten(1, 2)


def _block(config: MotionSSMConfig) -> StateSpaceBlock:
    return StateSpaceBlock(
        config.d_model,
        config.d_state,
        config.ssm_decay,
        bidirectional=True,
        conditioned=True,
        dropout=config.dropout,
    )


def _num_places(config: MotionSSMConfig, num_frames: int) -> int:
    return -(-num_frames // config.patch_frames)


def _weights(config: MotionSSMConfig, places: int, knots: int, lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of the knots at the middle of every patch."""
    size = config.patch_frames
    return hat_weights(places, (size - 1) / 2, size, knots, config.knot_frames, lengths, dtype)


def _place_mask(frame_mask: Tensor, places: int, size: int) -> Tensor:
    """Patches [N, n] with at least one real frame."""
    padded = F.pad(frame_mask, (0, places * size - frame_mask.shape[1]))
    return padded.view(len(frame_mask), places, size).any(dim=2)
