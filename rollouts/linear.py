"""A Linear layer that uses oneDNN's matrix product on CPUs with AVX-512, where torch itself would use MKL's.

On AMD CPUs with AVX-512 MKL's float32 product reaches five sixths of oneDNN's speed (94 against 112 GFLOP/s on one core
of Zen 4); without AVX-512 it is the faster one (86 against 79 on Zen 3). A denoiser spends most of its time there.
`mkldnn::_linear_pointwise` is the operator that torch.compile emits for the same reason; if it does not exist, or does
not support a type, this is `F.linear`. Forward and gradient are the same with and without autograd, so scoring computes
what a rollout computes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _onednn_dtypes() -> frozenset[torch.dtype]:
    """Types that the oneDNN operator of this machine computes at least as fast as `F.linear`."""
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not available or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return frozenset()
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return frozenset({torch.float32, torch.bfloat16})
    return frozenset({torch.float32})


ONEDNN_DTYPES = _onednn_dtypes()
_MIN_WEIGHTS = 2**17
"""Smaller matrices lose more to the operator's fixed cost than they gain. The batch size must not affect the choice."""


class Linear(nn.Linear):
    """`nn.Linear` with the same parameters and initialisation; inputs [..., in_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        fits = self.weight.numel() >= _MIN_WEIGHTS and self.weight.dtype == input.dtype
        if not fits or input.device.type != "cpu" or input.dtype not in ONEDNN_DTYPES:
            return F.linear(input, self.weight, self.bias)
        if torch.is_grad_enabled():
            return _OneDNNLinear.apply(input, self.weight, self.bias)
        return _product(input, self.weight, self.bias)


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


class _OneDNNLinear(torch.autograd.Function):
    """Autograd function for the operator, which has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        (grad,) = grads
        rows = grad.flatten(0, -2)
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t().contiguous(), None) if needs_input else None,
            rows.t() @ input.flatten(0, -2) if needs_weight else None,
            rows.sum(dim=0) if needs_bias else None,
        )
