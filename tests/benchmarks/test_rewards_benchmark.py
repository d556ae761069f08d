"""The benchmark of the dense reward: both ways give the same rewards, and targets are told by name."""

from __future__ import annotations

import pytest

from benchmarks import rewards
from tests.toys.small_tmr import CONFIG


def test_pair_by_pair_gives_the_same_rewards() -> None:
    found = rewards.measure(3, 2, 1, CONFIG)
    assert found["difference"] < 1e-5
    assert found["gain"] == pytest.approx(found["pairs_s"] / found["reward_s"])
    assert found["overhead"] == pytest.approx(found["reward_s"] / found["encoder_s"])


def test_missed_targets_are_named() -> None:
    assert not rewards.missed({"gain": 5.0, "overhead": 1.3, "difference": 0.0})
    lines = rewards.missed({"gain": 2.0, "overhead": 1.5, "difference": 0.1})
    assert len(lines) == 3 and "2.0 times as fast" in lines[0] and "1.50 of the encoder" in lines[1]
