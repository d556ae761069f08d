"""The moving average against its recurrence, and its strict loading."""

from __future__ import annotations

import pytest
import torch

from learners.ema import EMA


def tiny() -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(3, requires_grad=True), "b": torch.ones(2, 2, requires_grad=True)}


@torch.no_grad()
def set_all(parameters: dict[str, torch.Tensor], value: float) -> None:
    for parameter in parameters.values():
        parameter.fill_(value)


def test_average_follows_the_recurrence_from_step_zero() -> None:
    parameters = tiny()
    ema = EMA(parameters, decay=0.9)
    expected = 0.0
    for value in (1.0, 2.0, -1.0):
        set_all(parameters, value)
        ema.update()
        expected = 0.9 * expected + 0.1 * value
    torch.testing.assert_close(ema.weights()["a"], torch.full((3,), expected))
    assert ema.num_updates == 3


def test_warmup_forgets_the_start() -> None:
    parameters = tiny()
    slow, quick = EMA(parameters, decay=0.9999), EMA(parameters, decay=0.9999, warmup=True)
    set_all(parameters, 1.0)
    slow.update()
    quick.update()
    torch.testing.assert_close(quick.weights()["a"], torch.full((3,), 0.9))
    for _ in range(99):
        slow.update()
        quick.update()
    assert slow.weights()["a"].max() < 0.02
    assert quick.weights()["a"].min() > 0.999


def test_warmup_never_exceeds_the_decay() -> None:
    parameters = tiny()
    ema = EMA(parameters, decay=0.05, warmup=True)
    set_all(parameters, 1.0)
    ema.update()
    torch.testing.assert_close(ema.weights()["a"], torch.full((3,), 0.95))


def test_swapped_gives_the_weights_back_after_an_error() -> None:
    parameters = tiny()
    ema = EMA(parameters, decay=0.5)
    set_all(parameters, 4.0)
    ema.update()
    with pytest.raises(RuntimeError, match="stop"), ema.swapped():
        assert parameters["a"].tolist() == [2.0, 2.0, 2.0]
        raise RuntimeError("stop")
    assert parameters["a"].tolist() == [4.0, 4.0, 4.0]
    assert ema.weights()["a"].tolist() == [2.0, 2.0, 2.0]


def test_state_round_trip_and_copies() -> None:
    parameters = tiny()
    ema = EMA(parameters, decay=0.5, warmup=True)
    set_all(parameters, 3.0)
    ema.update()
    state = ema.state()
    other = EMA(tiny(), decay=0.5, warmup=True)
    other.load(state)
    state["average"]["a"].fill_(99)
    for name, value in ema.weights().items():
        assert torch.equal(other.weights()[name], value)
    assert other.num_updates == 1


def test_foreign_state_is_an_error_and_changes_nothing() -> None:
    ema = EMA(tiny(), decay=0.5)
    state = ema.state()
    state["average"]["a"] += 1
    del state["average"]["b"]
    with pytest.raises(ValueError, match=r"1 of 2 tensors missing \['b'\]"):
        ema.load(state)
    state["average"]["b"] = torch.zeros(5)
    with pytest.raises(ValueError, match="b has shape"):
        ema.load(state)
    assert ema.weights()["a"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(tiny(), decay=1.0)
