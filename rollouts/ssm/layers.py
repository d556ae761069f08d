"""Selective state-space layers (Mamba) over [B, T, d].

A mixer projects the frames to twice the width and a gate, runs a short causal convolution and a scan over time
(`scan.py`), multiplies by the gate and projects back. A bidirectional one scans the frames backwards too, with weights
of its own between the shared projections (Zhu et al. 2024), so that a frame depends on the whole motion. Differences to
the published blocks: in Mamba-2's form the convolution is on the inputs alone, B, C and the step sizes are a projection
of its result, as in Mamba-1, and there is no norm before the last projection.

Frames outside the mask have step size 0 and are 0 in the convolution: a backward scan does not begin in padding, and
real frames are what they are without it.

Legend: B clips, T frames, d width, E = 2 d inner channels, H heads of the scan, N states.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from motions.base.errors import UserError
from rollouts.linear import Linear
from rollouts.settings import Decay, ScanBackend
from rollouts.ssm.scan import choose_backend, scan

KERNEL = 4
"""Frames of the convolution: a frame and those before it."""
_EXPANSION = 2
_HEAD_WIDTH = 64
_DT_RANK = 16
"""The step sizes of Mamba-1 come from a vector of d / 16 numbers."""
_STEP_SIZES = (1e-3, 1e-1)
"""Range of the first step sizes, uniform in the logarithm."""
_RATES = (1.0, 16.0)
"""Range of the first rates of heads."""


class SelectiveScan(nn.Module):
    """Convolution and scan over E channels in one direction; inputs and outputs are [B, T, E].

    Attributes:
        undecayed: parameters that weight decay must not touch: it would pull rates, step sizes and the skip connection
            to values that mean something else than "small".
        backend: how the scan is computed.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("A_log", "D", "dt_bias", "dt_proj.bias")

    def __init__(self, inner: int, num_states: int, decay: Decay) -> None:
        super().__init__()
        self.num_states = num_states
        self.decay: Decay = decay
        self.backend: ScanBackend = "auto"
        self.conv1d = nn.Conv1d(inner, inner, KERNEL, groups=inner, padding=KERNEL - 1)
        if decay == "head":
            self.num_heads = inner // math.gcd(inner, _HEAD_WIDTH)
            self.x_proj = Linear(inner, 2 * num_states + self.num_heads, bias=False)
            self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
            self.A_log = nn.Parameter(torch.empty(self.num_heads))
        else:
            self.num_heads = inner
            rank = math.ceil(inner / (_EXPANSION * _DT_RANK))
            self.x_proj = Linear(inner, rank + 2 * num_states, bias=False)
            self.dt_proj = Linear(rank, inner)
            self.A_log = nn.Parameter(torch.empty((inner, num_states) if decay == "channel" else (num_states,)))
        self.D = nn.Parameter(torch.empty(self.num_heads))
        self.reset(torch.Generator().manual_seed(0))

    @property
    def per_state(self) -> bool:
        """Whether rates differ from state to state."""
        return self.decay != "head"

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draws what is this layer's own: step sizes, rates, skip connection, and Mamba-1's projection of step sizes.
        The other weights keep torch's initial distribution."""
        low, high = (math.log(bound) for bound in _STEP_SIZES)
        sizes = torch.empty(self.num_heads).uniform_(low, high, generator=generator).exp()
        bias = sizes + torch.log(-torch.expm1(-sizes))  # its softplus is the step size
        if self.decay == "head":
            self.dt_bias.copy_(bias)
            self.A_log.copy_(torch.linspace(*_RATES, self.num_heads).log())
        else:
            bound = self.dt_proj.in_features**-0.5
            self.dt_proj.weight.uniform_(-bound, bound, generator=generator)
            self.dt_proj.bias.copy_(bias)
            self.A_log.copy_(torch.arange(1.0, self.num_states + 1).log().expand_as(self.A_log))
        self.D.fill_(1.0)

    def forward(self, u: Tensor, mask: Tensor | None) -> Tensor:
        """Maps u [B, T, E], which is 0 outside `mask` [B, T] (True = real frame; None = all are), to [B, T, E]."""
        num_frames = u.shape[1]
        # Contiguous: of other layouts torch takes another product, with other rounding, where a weight has a gradient.
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., :num_frames].transpose(1, 2).contiguous())
        if self.decay == "head":
            b, c, raw = self.x_proj(u).split([self.num_states, self.num_states, self.num_heads], dim=2)
            delta = F.softplus(raw + self.dt_bias)
        else:
            rank = self.dt_proj.in_features
            raw, b, c = self.x_proj(u).split([rank, self.num_states, self.num_states], dim=2)
            delta = F.softplus(self.dt_proj(raw.contiguous()))
        if mask is not None:
            delta = delta.masked_fill(~mask.unsqueeze(2), 0.0)
        rates = -torch.exp(self.A_log)
        a = {"head": rates.unsqueeze(-1), "channel": rates, "shared": rates.unsqueeze(0)}[self.decay]
        heads = u.unflatten(2, (self.num_heads, -1))
        y = scan(heads, delta, a, b, c, self.backend)
        return (y + self.D.unsqueeze(1) * heads).flatten(2)


class StateSpaceMixer(nn.Module):
    """Gated scan of frames [B, T, d] in one direction or in both; see the module's docstring."""

    def __init__(self, width: int, num_states: int, decay: Decay, bidirectional: bool) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.in_proj = Linear(width, 2 * inner, bias=False)
        self.scans = nn.ModuleList(SelectiveScan(inner, num_states, decay) for _ in range(2 if bidirectional else 1))
        self.out_proj = Linear(inner, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x [B, T, d] to [B, T, d]; `mask` [B, T] bool is True for real frames, None = all are."""
        u, gate = self.in_proj(x).chunk(2, dim=2)
        if mask is not None:
            u = u.masked_fill(~mask.unsqueeze(2), 0.0)
        y = self.scans[0](u, mask)
        for backward in self.scans[1:]:
            y = y + backward(u.flip(1), None if mask is None else mask.flip(1)).flip(1)
        return self.out_proj(y * F.silu(gate))


class StateSpaceBlock(nn.Module):
    """x + dropout(mixer(norm(x))); a conditioned block scales and shifts the normed frames by a vector.

    Attributes:
        undecayed: see `SelectiveScan`.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("norm.weight", "norm.bias")

    def __init__(
        self,
        width: int,
        num_states: int,
        decay: Decay = "head",
        *,
        bidirectional: bool = False,
        conditioned: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        if conditioned:
            self.condition_proj = Linear(width, 2 * width)
        self.mixer = StateSpaceMixer(width, num_states, decay, bidirectional)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Maps x [B, T, d] to [B, T, d]; `mask` [B, T] as in the mixer, `condition` [B, d] of a conditioned block."""
        normed = self.norm(x)
        if condition is not None:
            scale, shift = self.condition_proj(F.silu(condition)).unsqueeze(1).chunk(2, dim=2)
            normed = normed * (1.0 + scale) + shift
        return x + self.dropout(self.mixer(normed, mask))


def set_scan_backend(network: nn.Module, backend: ScanBackend, device: torch.device) -> None:
    """Chooses how all scans of a network are computed on a device.

    Raises:
        UserError: the network has no scan and the backend is not `auto`, or the backend cannot compute its form, is not
            installed, or not for this device.
    """
    scans = [module for module in network.modules() if isinstance(module, SelectiveScan)]
    if backend != "auto" and not scans:
        raise UserError(f"scan_backend is {backend}, and this network has no scan; only arch mamba has")
    for each in scans:
        choose_backend(backend, each.per_state, device)
        each.backend = backend
