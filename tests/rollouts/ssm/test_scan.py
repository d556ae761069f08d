"""Every way to compute a scan against its definition, and which way is taken."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from benchmarks.scan import frame_loop, outputs_and_gradients, random_operands
from motions.base.errors import UserError
from rollouts.ssm import scan as scans
from rollouts.ssm.scan import choose_backend, loop_scan, scan, ssd_scan

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("frames", [1, 7, 50])
def test_chunks_and_loop_compute_the_definition(frames: int, rows: bool) -> None:
    """Outputs and all gradients, with frames of step size 0, for chunks that fit the frames and others."""
    for columns in (False, True):
        operands = random_operands(frames, frames, rows, columns)
        wanted = outputs_and_gradients(frame_loop, operands)
        found = {"loop": outputs_and_gradients(loop_scan, operands)}
        for chunk in () if columns else (1, 5, 10, 64):
            found[f"chunks of {chunk}"] = outputs_and_gradients(
                lambda *given, chunk=chunk: ssd_scan(*given, chunk=chunk), operands
            )
        for name, values in found.items():
            for one, other in zip(values, wanted, strict=True):
                assert (one - other).abs().max() < 1e-10, name


def test_the_loop_s_gradients_agree_with_finite_differences() -> None:
    operands = [part.requires_grad_() for part in random_operands(3, 5, True, True)]
    assert torch.autograd.gradcheck(loop_scan, operands)


def test_a_state_decays_as_the_closed_form_says() -> None:
    """One impulse: y_t = c exp(a (sum of later step sizes)) delta_0 b u_0."""
    delta = torch.tensor([0.5, 0.25, 0.0, 1.0]).view(1, 4, 1)
    u = torch.tensor([2.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)
    a, b, c = torch.tensor([[-1.5]]), torch.full((1, 4, 1), 3.0), torch.full((1, 4, 1), 0.5)
    expected = 0.5 * 0.5 * 3.0 * 2.0 * torch.exp(-1.5 * torch.tensor([0.0, 0.25, 0.25, 1.25]))
    for compute in (ssd_scan, loop_scan):
        torch.testing.assert_close(compute(u, delta, a, b, c).flatten(), expected)


def test_long_and_fast_decays_stay_finite() -> None:
    """exp(-sum) of a chunk underflows; nothing divides by it."""
    u, b, c = torch.ones(1, 64, 1, 2), torch.ones(1, 64, 3), torch.ones(1, 64, 3)
    y, *gradients = outputs_and_gradients(scan, (u, torch.full((1, 64, 1), 50.0), torch.tensor([[-16.0]]), b, c))
    torch.testing.assert_close(y, torch.full_like(y, 150.0))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_half_precision_is_computed_in_single() -> None:
    operands = [part.bfloat16() for part in random_operands(0, 40, True, False)]
    y = scan(*operands)  # pyright: ignore[reportArgumentType]
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, frame_loop(*(part.float() for part in operands)).bfloat16())


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [choose_backend("auto", per_state, CPU) for per_state in (False, True)] == ["ssd", "loop"]
    monkeypatch.setattr(scans, "has_kernels", lambda: True)
    assert [choose_backend("auto", False, device) for device in (CPU, GPU)] == ["ssd", "mamba_ssm"]
    with pytest.raises(UserError, match="whose kernels need a GPU, and the network is on cpu"):
        choose_backend("mamba_ssm", False, CPU)


def test_a_backend_that_cannot_compute_the_form_is_refused() -> None:
    with pytest.raises(UserError, match="scan_backend is ssd, which needs one decay for each head"):
        choose_backend("ssd", True, CPU)
    with pytest.raises(UserError, match="scan_backend is mamba_ssm, and that package is not installed"):
        choose_backend("mamba_ssm", False, GPU)
    assert choose_backend("loop", False, CPU) == "loop"


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("rows", [True, False])
def test_the_kernels_get_their_own_shapes(columns: bool, rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """mamba_ssm cannot be installed here; what stands in for its two functions has their documented arguments."""

    def combined(x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor, chunk_size: int) -> Tensor:
        assert rates.shape == (x.shape[2],) and b.shape[2] == c.shape[2] == 1 and chunk_size == 32
        return frame_loop(x, dt, rates[:, None], b[:, :, 0], c[:, :, 0])

    def selective(u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """u, delta [B, D, L], rates [D, N], b, c [B, N, L]."""
        assert u.shape == delta.shape and rates.shape == (u.shape[1], b.shape[1])
        frames = (part.transpose(1, 2) for part in (u, delta, b, c))
        u, delta, b, c = frames
        return frame_loop(u.unsqueeze(3), delta, rates, b, c).squeeze(3).transpose(1, 2)

    triton = ModuleType("mamba_ssm.ops.triton.ssd_combined")
    triton.mamba_chunk_scan_combined = combined  # pyright: ignore[reportAttributeAccessIssue]
    cuda = ModuleType("mamba_ssm.ops.selective_scan_interface")
    cuda.selective_scan_fn = selective  # pyright: ignore[reportAttributeAccessIssue]
    for module in (triton, cuda):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(scans, "choose_backend", lambda backend, per_state, device: backend)
    operands = random_operands(1, 9, rows, columns)
    torch.testing.assert_close(scan(*operands, backend="mamba_ssm"), frame_loop(*operands))
