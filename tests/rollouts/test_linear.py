"""The Linear layer on oneDNN: the numbers and gradients of `F.linear`, and one path with and without autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rollouts.linear import Linear
from rollouts.networks.attention import attend

WIDE, NARROW = (512, 300), (24, 16)


@pytest.mark.parametrize("sizes", [WIDE, NARROW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_and_gradients_are_those_of_f_linear(sizes: tuple[int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Linear(*sizes).to(dtype)
    x = torch.randn(3, 7, sizes[0], dtype=dtype, requires_grad=True)
    upstream = torch.randn(3, 7, sizes[1], dtype=dtype)
    ours, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    inputs = (x, layer.weight, layer.bias)
    tolerance = 1e-5 if dtype == torch.float32 else 0.25  # sums of 512 terms of order 1 in bfloat16
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=10 * tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_grad_and_inference_give_the_same_bits(dtype: torch.dtype) -> None:
    layer = Linear(*WIDE).to(dtype)
    x = torch.randn(3, 7, WIDE[0], dtype=dtype)
    scored = layer(x)
    with torch.no_grad():
        rolled = layer(x)
    with torch.inference_mode():
        inferred = layer(x)
    assert scored.requires_grad and torch.equal(scored, rolled) and torch.equal(rolled, inferred)


def test_frozen_weights_pass_gradients_through() -> None:
    layer = Linear(*WIDE).requires_grad_(False)
    x = torch.randn(2, WIDE[0], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(dim=0).expand(2, -1), atol=1e-5, rtol=0)


def test_a_layer_without_bias_and_other_types() -> None:
    layer = Linear(*WIDE, bias=False)
    x = torch.randn(5, WIDE[0])
    torch.testing.assert_close(layer(x), x @ layer.weight.t(), atol=1e-5, rtol=0)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.double()(x.double()), F.linear(x.double(), layer.weight))


@pytest.mark.parametrize("masked", [False, True])
def test_explicit_attention_is_the_fused_one(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 11, 8, generator=generator) for _ in range(3))
    mask = (torch.arange(11) < torch.tensor([[11], [4]]))[:, None, None, :] if masked else None
    fused = attend(q, k, v, mask, 0.0)
    explicit = attend(q.double(), k.double(), v.double(), mask, 0.0)
    torch.testing.assert_close(explicit.float(), fused, atol=1e-6, rtol=0)
    low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask, 0.0)
    torch.testing.assert_close(low.float(), fused, atol=3e-2, rtol=0)
    assert not torch.equal(attend(q.double(), k.double(), v.double(), mask, 0.5), explicit)
