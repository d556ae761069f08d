"""The network of PhysicsSSM: what it adds to a motion.

    x' = x + decode(PhysicsSSM(MotionSSM(encode(x)), p(x)))

MotionSSM is a stack of state-space blocks and a projection. PhysicsSSM is one more, f -> f + o, whose output is a
mixture of what the scan says (s) and of constraints (k), by a gate of every frame and channel:

    o = g * s + (1 - g) * k,    g = sigmoid(W [s ; e]),    e = encoding of the physics state p

Two kinds of constraints: `state`, an embedding of p, which is a function of x, that the scan sees anyway; `projected`,
an embedding of what changes in x if feet are planted and the floor is respected (`rollouts.refining.projection`), which
the scan would have to learn. Two ways without a gate, to compare it with: `concat`, o = W [s ; e ; k], and `none`,
o = s, which has no physics input at all.

The last layer begins at 0: an untrained network changes nothing. Frames are scanned in both directions, since what is
wrong with a frame shows in those after it too; the public project that this comes from scans forwards only, and returns
decode(...) itself, an auto-encoder's reconstruction. Both are forms of this network (`bidirectional`, `residual`).

Legend: B motions, T frames, D features, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from motions.humanoid.physics_state import NUM_CHANNELS
from rollouts.settings import Decay, RefinerConstraints, RefinerGate
from rollouts.ssm.layers import StateSpaceBlock, StateSpaceMixer


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Sizes and form of a network; all are plain values."""

    num_features: int
    d_model: int = 256
    d_state: int = 32
    n_layers: int = 4
    gate: RefinerGate = "sigmoid"
    constraints: RefinerConstraints = "state"
    ssm_decay: Decay = "head"
    bidirectional: bool = True
    residual: bool = True
    """Whether the network's output is added to the motion, or is the motion."""

    @property
    def needs_projection(self) -> bool:
        """Whether the network reads what planting changes."""
        return self.constraints == "projected" and self.gate != "none"


@dataclass(frozen=True, slots=True)
class Refined:
    """What the network makes of B motions."""

    motion: Tensor
    """[B, T, D], normalised."""
    gate: Tensor | None
    """The gate [B, T, d], in 0..1: 1 means the scan alone, 0 the constraints alone. None without a gate."""


class MotionSSM(nn.Module):
    """Frames [B, T, d] -> [B, T, d]: state-space blocks, and a projection."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StateSpaceBlock(config.d_model, config.d_state, config.ssm_decay, bidirectional=config.bidirectional)
            for _ in range(config.n_layers)
        )
        self.output_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Maps x [B, T, d]; `mask` [B, T] bool is True for real frames."""
        for layer in self.layers:
            x = layer(x, mask)
        return self.output_proj(x)


class PhysicsSSM(nn.Module):
    """Frames [B, T, d] and their physics state -> [B, T, d]; see the module's docstring."""

    undecayed: ClassVar[tuple[str, ...]] = ("norm.weight", "norm.bias")

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.norm = nn.LayerNorm(width)
        self.ssm = StateSpaceMixer(width, config.d_state, config.ssm_decay, config.bidirectional)
        self.gate: RefinerGate = config.gate
        if self.gate == "none":
            return
        self.physics_encoder = nn.Sequential(nn.Linear(NUM_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.constraint_proj = nn.Linear(config.num_features if config.needs_projection else NUM_CHANNELS, width)
        if self.gate == "sigmoid":
            self.physics_gate = nn.Linear(2 * width, width)
        else:
            self.mixture = nn.Linear(3 * width, width)

    def forward(
        self, f: Tensor, state: Tensor, constraints: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Frames [B, T, d], and the gate if there is one.

        Args:
            f: frames [B, T, d].
            state: normalised physics state [B, T, 64].
            constraints: what k embeds: the state again, or [B, T, D].
            mask: [B, T] bool, True = real frame.
        """
        s = self.ssm(self.norm(f), mask)
        if self.gate == "none":
            return f + s, None
        e, k = self.physics_encoder(state), self.constraint_proj(constraints)
        if self.gate == "concat":
            return f + self.mixture(torch.cat((s, e, k), dim=2)), None
        gate = torch.sigmoid(self.physics_gate(torch.cat((s, e), dim=2)))
        return f + gate * s + (1.0 - gate) * k, gate


class RefinerNetwork(nn.Module):
    """The whole network, on normalised features.

    Example:
        network = RefinerNetwork(RefinerConfig(num_features=263), seed=0)
        better = network(features, state, None, mask).motion
    """

    def __init__(self, config: RefinerConfig, seed: int = 0) -> None:
        """Draws the weights from a generator of the seed."""
        super().__init__()
        self.config = config
        width = config.d_model
        with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(nn.Linear(config.num_features, width), nn.SiLU(), nn.Linear(width, width))
            self.motion_ssm = MotionSSM(config)
            self.physics_ssm = PhysicsSSM(config)
            self.decoder = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, config.num_features))
        if config.residual:
            last = self.decoder[2]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, state: Tensor, planted: Tensor | None, mask: Tensor | None = None) -> Refined:
        """Refines motions.

        Args:
            x: normalised features [B, T, D].
            state: normalised physics state of x [B, T, 64].
            planted: for constraints `projected`, what planting changes in x [B, T, D], normalised.
            mask: [B, T] bool, True = real frame; they come first. None: all are.

        Raises ValueError where `planted` is needed and is None.
        """
        constraints = state
        if self.config.needs_projection:
            if planted is None:
                raise ValueError("constraints are projected: planted is needed")
            constraints = planted
        frames, gate = self.physics_ssm(self.motion_ssm(self.encoder(x), mask), state, constraints, mask)
        change = self.decoder(frames)
        if mask is not None:
            change = change * mask.unsqueeze(2)
        return Refined(x + change if self.config.residual else change, gate)
