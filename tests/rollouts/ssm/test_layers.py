"""State-space blocks: what a frame depends on, padding, and which weights decay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from learners.optimizer import Optimizer, OptimizerOptions, undecayed_names
from motions.base.errors import UserError
from rollouts.settings import Decay
from rollouts.ssm.layers import SelectiveScan, StateSpaceBlock, StateSpaceMixer, set_scan_backend

DECAYS: tuple[Decay, ...] = ("head", "channel", "shared")
BATCH, FRAMES, WIDTH = 3, 11, 16
MASK = torch.arange(FRAMES) < torch.tensor([[11], [6], [1]])


def frames(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, FRAMES, WIDTH, generator=torch.Generator().manual_seed(seed))


def block(decay: Decay, bidirectional: bool, **more: bool) -> StateSpaceBlock:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return StateSpaceBlock(WIDTH, 5, decay, bidirectional=bidirectional, **more)


@pytest.mark.parametrize("decay", DECAYS)
def test_one_direction_sees_the_past_and_two_see_all(decay: Decay) -> None:
    x = frames()
    moved = x.clone()
    moved[:, 6] = -moved[:, 6]
    for bidirectional in (False, True):
        layer = block(decay, bidirectional)
        changed = (layer(moved) - layer(x)).detach().abs().amax(dim=(0, 2)) > 0
        assert changed[6:].all()
        assert changed[:6].all() if bidirectional else not changed[:6].any()


@pytest.mark.parametrize("decay", DECAYS)
def test_padding_changes_no_real_frame(decay: Decay) -> None:
    layer, x = block(decay, bidirectional=True), frames()
    out = layer(x, MASK)
    again = layer(torch.where(MASK[:, :, None], x, 50.0), MASK)
    torch.testing.assert_close(again[MASK], out[MASK], rtol=0, atol=1e-6)
    torch.testing.assert_close(layer(x[1:2, :6]), out[1:2, :6], rtol=0, atol=1e-6)


def test_the_second_scan_is_the_first_in_reversed_time() -> None:
    mixer = StateSpaceMixer(WIDTH, 5, "head", bidirectional=True)
    first, second = mixer.scans
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(mixer(frames().flip(1)), mixer(frames()).flip(1), rtol=0, atol=1e-6)


def test_a_condition_scales_and_shifts() -> None:
    layer, x = block("head", bidirectional=True, conditioned=True), frames()
    nn.init.zeros_(layer.condition_proj.weight)
    nn.init.zeros_(layer.condition_proj.bias)
    vector = torch.ones(BATCH, WIDTH)
    torch.testing.assert_close(layer(x, None, vector), layer(x))
    nn.init.constant_(layer.condition_proj.bias[:WIDTH], -1.0)
    expected = x + layer.mixer(torch.zeros_like(x))
    torch.testing.assert_close(layer(x, None, vector), expected)


@pytest.mark.parametrize("decay", DECAYS)
def test_first_step_sizes_and_rates(decay: Decay) -> None:
    """Softplus of the bias is between .001 and .1; rates of Mamba-1 are 1 to N, of heads 1 to 16."""
    scan = SelectiveScan(4 * 64, 5, decay)
    bias = scan.dt_bias if decay == "head" else scan.dt_proj.bias
    sizes, rates = nn.functional.softplus(bias), scan.A_log.exp().detach()
    assert 1e-3 <= sizes.min() < sizes.max() <= 0.1
    wanted = torch.linspace(1, 16, 4) if decay == "head" else torch.arange(1.0, 6.0).expand_as(rates)
    torch.testing.assert_close(rates, wanted)
    other = SelectiveScan(4 * 64, 5, decay)
    other.reset(torch.Generator().manual_seed(7))
    assert not torch.equal(bias, other.dt_bias if decay == "head" else other.dt_proj.bias)


@pytest.mark.parametrize("decay", DECAYS)
def test_weight_decay_leaves_rates_step_sizes_and_norms_alone(decay: Decay) -> None:
    layer = block(decay, bidirectional=True)
    spared = undecayed_names(layer)
    named = dict(layer.named_parameters())
    kinds = {
        name.rpartition("scans.")[2].partition(".")[2] if "scans" in name else name for name in spared & set(named)
    }
    step = "dt_bias" if decay == "head" else "dt_proj.bias"
    assert kinds == {"A_log", "D", step, "norm.weight", "norm.bias"}
    before = {name: value.detach().clone() for name, value in named.items()}
    optimizer = Optimizer(named, OptimizerOptions(learning_rate=0.1, weight_decay=0.5), undecayed=spared)
    for value in named.values():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    for name, value in named.items():
        torch.testing.assert_close(value, before[name] * (1.0 if name in spared else 0.95))
    again = Optimizer(named, OptimizerOptions(learning_rate=0.1, weight_decay=0.5), undecayed=spared)
    again.load(optimizer.state())
    assert again.state()["moments"].keys() == optimizer.state()["moments"].keys() == named.keys()


def test_backends_of_a_network_agree_and_are_checked() -> None:
    layer, x = block("head", bidirectional=True), frames()
    for scan in layer.mixer.scans:
        assert isinstance(scan, SelectiveScan)
        nn.init.zeros_(scan.D)  # the skip connection would hide differences of the last bit
    chunks = layer.mixer(x, MASK)
    set_scan_backend(layer, "loop", x.device)
    assert all(scan.backend == "loop" for scan in layer.mixer.scans)
    looped = layer.mixer(x, MASK)
    assert not torch.equal(looped, chunks)
    torch.testing.assert_close(looped, chunks, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="scan_backend is ssd, which needs one decay for each head"):
        set_scan_backend(block("shared", bidirectional=False), "ssd", x.device)
    with pytest.raises(UserError, match="scan_backend is loop, and this network has no scan"):
        set_scan_backend(nn.Linear(2, 2), "loop", x.device)
    set_scan_backend(nn.Linear(2, 2), "auto", x.device)
