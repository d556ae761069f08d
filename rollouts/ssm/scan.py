"""The scan of a selective state-space layer, exact, in several ways of computing it.

Every head of P channels has a state H [P, N], which decays, takes in a frame and is read out:

    H_t = exp(delta_t A) * H_(t-1) + delta_t u_t B_t^T,    y_t = H_t C_t,    H_(-1) = 0

A < 0 and delta >= 0, so no exponent is above 0. A frame with delta = 0 leaves the state as it is: decay 1, no input.
That is how padding is passed over, in both directions.

Two forms are in use. In Mamba-2 (Dao and Gu 2024) A is one number for each head. Then the scan is a sum of products of
matrices, and is computed in chunks of frames (`ssd`, their "state-space dual"). In Mamba-1 (Gu and Dao 2023) A is a
number for every channel and state (heads of one channel), or, in some later code, for every state alone. Then nothing
but a loop over time is left (`loop`). A tree of log T depth would do on a GPU; on a CPU it takes several times as long
as the loop, since it moves B T H P N numbers log T times.

Legend: B clips, T frames, H heads, P channels of a head, N states, Q frames of a chunk.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from motions.base.errors import UserError
from rollouts.settings import ScanBackend

CHUNK = 32
"""Frames of a chunk: on a CPU 25 to 32 are fastest. Wider chunks mean more work in fewer, larger products."""


def scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, backend: ScanBackend = "auto", chunk: int = CHUNK
) -> Tensor:
    """Output y [B, T, H, P] of the scan, in the type of `u`; computed in float32, in float64 for that type.

    Args:
        u: inputs [B, T, H, P].
        delta: step sizes [B, T, H], at least 0.
        a: rates [H, N], below 0; with one column (the form of Mamba-2), or one row for all heads.
        b: input weights [B, T, N].
        c: output weights [B, T, N].
        backend: `ssd`, in chunks; `loop`, frame by frame, with a backward that keeps only the states; `mamba_ssm`, the
            CUDA kernels of the package of that name, whose gradients may differ in their last bits from call to call;
            `auto`: mamba_ssm where it is installed and the tensors are on a GPU, else ssd where `a` has one column,
            else loop.
        chunk: Q, of `ssd` and of the kernels.

    Raises:
        UserError: the backend cannot compute this form, or not on this device, or is not installed.
    """
    chosen = choose_backend(backend, per_state=a.shape[1] > 1, device=u.device)
    wide = u.dtype if u.dtype == torch.float64 else torch.float32
    operands = tuple(part.to(wide) for part in (u, delta, a, b, c))
    if chosen == "ssd":
        y = ssd_scan(*operands, chunk=chunk)
    elif chosen == "loop":
        y = loop_scan(*operands)
    else:
        y = _kernel_scan(*operands, chunk=chunk)
    return y.to(u.dtype)


def choose_backend(backend: ScanBackend, per_state: bool, device: torch.device) -> Literal["ssd", "loop", "mamba_ssm"]:
    """The backend that `auto` stands for; another is checked.

    Args:
        per_state: whether A differs from state to state, as in Mamba-1.

    Raises:
        UserError: see `scan`.
    """
    on_gpu = device.type == "cuda"
    if backend == "auto":
        return "mamba_ssm" if on_gpu and has_kernels() else "loop" if per_state else "ssd"
    if backend == "ssd" and per_state:
        raise UserError(
            "scan_backend is ssd, which needs one decay for each head (--ssm_decay head); this network's decay differs "
            "from state to state: legal are auto, loop and, on a GPU, mamba_ssm"
        )
    if backend == "mamba_ssm" and not has_kernels():
        raise UserError(
            "scan_backend is mamba_ssm, and that package is not installed (it needs an NVIDIA GPU and nvcc to build); "
            "legal are auto, ssd and loop"
        )
    if backend == "mamba_ssm" and not on_gpu:
        raise UserError(f"scan_backend is mamba_ssm, whose kernels need a GPU, and the network is on {device.type}")
    return backend


@functools.cache
def has_kernels() -> bool:
    """Whether the package mamba_ssm is installed."""
    return importlib.util.find_spec("mamba_ssm") is not None


def ssd_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int = CHUNK) -> Tensor:
    """The scan in chunks, for `a` [H, 1] or [1, 1]; arguments and result as those of `scan`.

    Within a chunk it is attention without a softmax: y_i = sum_(j <= i) (C_i . B_j) exp(s_i - s_j) delta_j u_j, with s
    the running sum of delta A. Between chunks only states are handed on. See Dao and Gu (2024), section 6.
    """
    num_frames, heads, width = u.shape[1:]
    chunk = min(chunk, num_frames)
    missing = -num_frames % chunk
    if missing:
        u, delta = F.pad(u, (0, 0, 0, 0, 0, missing)), F.pad(delta, (0, 0, 0, missing))
        b, c = F.pad(b, (0, 0, 0, missing)), F.pad(c, (0, 0, 0, missing))
    u, delta, b, c = (part.unflatten(1, (-1, chunk)) for part in (u, delta, b, c))
    # [Q, Q], 1 where j <= i. A product, since running sums have no deterministic kernel on a GPU.
    earlier = torch.ones(chunk, chunk, dtype=u.dtype, device=u.device).tril()
    sums = torch.matmul(earlier, delta * a[:, 0])  # [B, n, Q, H]
    total = sums[:, :, -1:]

    by_head = sums.transpose(2, 3)  # [B, n, H, Q]
    exponents = (by_head.unsqueeze(4) - by_head.unsqueeze(3)).masked_fill(earlier == 0, -torch.inf)
    similar = torch.matmul(c, b.transpose(2, 3)).unsqueeze(2)  # [B, n, 1, Q, Q]
    weights = similar * exponents.exp() * delta.transpose(2, 3).unsqueeze(3)
    inner = torch.matmul(weights, u.transpose(2, 3)).transpose(2, 3)  # [B, n, Q, H, P]

    left = u * ((total - sums).exp() * delta).unsqueeze(4)  # what each frame leaves at the chunk's end
    states = torch.matmul(b.transpose(2, 3), left.flatten(3)).unflatten(3, (heads, width))  # [B, n, N, H, P]
    decay = total.squeeze(2).exp()[:, :, None, :, None]
    state, before = torch.zeros_like(states[:, 0]), []
    for place in range(states.shape[1]):
        before.append(state)
        state = decay[:, place] * state + states[:, place]
    handed = torch.matmul(c, torch.stack(before, dim=1).flatten(3)).unflatten(3, (heads, width))
    return (inner + sums.exp().unsqueeze(4) * handed).flatten(1, 2)[:, :num_frames]


def loop_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan frame by frame, for every `a`; arguments and result as those of `scan`."""
    return _Loop.apply(u, delta, a, b, c)


class _Loop(torch.autograd.Function):
    """Keeps the states of all frames and nothing else of size N; autograd would keep several such tensors a frame."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        size, num_frames, heads, width = u.shape
        taken = delta.unsqueeze(3) * u
        states = u.new_zeros(num_frames + 1, size, heads, width, b.shape[2])
        y = torch.empty_like(u)
        for t in range(num_frames):
            state = torch.mul(_decay(delta, a, t), states[t], out=states[t + 1])
            state.addcmul_(taken[:, t].unsqueeze(3), b[:, t, None, None, :])
            y[:, t] = _product(state, c[:, t])
        ctx.save_for_backward(u, delta, a, b, c, states)
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, ...]:
        (grad_y,) = grads
        u, delta, a, b, c, states = ctx.saved_tensors
        taken = delta.unsqueeze(3) * u
        grad_u, grad_delta, grad_a = torch.empty_like(u), torch.empty_like(delta), torch.zeros_like(a)
        grad_b, grad_c, grad_state = torch.empty_like(b), torch.empty_like(c), torch.zeros_like(states[0])
        for t in reversed(range(u.shape[1])):
            grad_c[:, t] = _sum_over_channels(grad_y[:, t], states[t + 1])
            grad_state.addcmul_(grad_y[:, t].unsqueeze(3), c[:, t, None, None, :])
            grad_taken = _product(grad_state, b[:, t])
            grad_b[:, t] = _sum_over_channels(taken[:, t], grad_state)
            grad_u[:, t] = grad_taken * delta[:, t].unsqueeze(2)
            grad_state *= _decay(delta, a, t)
            # Of the exponent, [B, H, N] or [B, H, 1], as wide as `a` is.
            exponent = (grad_state * states[t]).sum(2).sum_to_size(u.shape[0], u.shape[2], a.shape[1])
            grad_delta[:, t] = (grad_taken * u[:, t]).sum(2) + (exponent * a).sum(2)
            grad_a += (exponent * delta[:, t].unsqueeze(2)).sum(0).sum_to_size(a.shape)
        return grad_u, grad_delta, grad_a, grad_b, grad_c


def _decay(delta: Tensor, a: Tensor, t: int) -> Tensor:
    """exp(delta_t A) as a factor of a state [B, H, P, N]."""
    return torch.exp(delta[:, t].unsqueeze(2) * a).unsqueeze(2)


def _product(state: Tensor, weights: Tensor) -> Tensor:
    """[B, H, P, N] times [B, N]: [B, H, P]."""
    return torch.matmul(state.flatten(1, 2), weights.unsqueeze(2)).view(state.shape[:3])


def _sum_over_channels(values: Tensor, state: Tensor) -> Tensor:
    """[B, H, P] times [B, H, P, N], summed over channels: [B, N]."""
    return torch.matmul(values.flatten(1).unsqueeze(1), state.flatten(1, 2)).squeeze(1)


def _kernel_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """The scan by mamba_ssm: of Mamba-2 with one decay for each head, of Mamba-1 otherwise."""
    heads, width = u.shape[2:]
    if a.shape[1] == 1:
        combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
        rates = a[:, 0].expand(heads).contiguous()
        return combined.mamba_chunk_scan_combined(u, delta, rates, b.unsqueeze(2), c.unsqueeze(2), chunk_size=chunk)
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    channels = u.flatten(2).transpose(1, 2).contiguous()
    steps = delta.repeat_interleave(width, dim=2).transpose(1, 2).contiguous()
    rates = a.expand(heads, -1).repeat_interleave(width, dim=0).contiguous()
    read = interface.selective_scan_fn(channels, steps, rates, b.transpose(1, 2), c.transpose(1, 2))
    return read.transpose(1, 2).unflatten(2, (heads, width))
