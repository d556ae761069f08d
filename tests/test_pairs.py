"""Micro-batches of (sample, step) pairs: complete, in order, and never of mixed shapes."""

from __future__ import annotations

import numpy as np
import pytest

from learners.pairs import PairBatch, micro_batches, num_pairs, split_groups
from rollouts.messages import TextCondition, Trajectory


def trajectory(group: int, num_steps: int, num_frames: int, num_tokens: int = 1) -> Trajectory:
    """Three samples whose numbers tell where they come from."""
    steps = np.arange(num_steps, dtype=np.int64) + 2
    label = 100.0 * group + 10 * steps[:, None] + np.arange(3)
    states = np.broadcast_to(label[:, :, None, None], (num_steps, 3, num_frames, 2)).astype(np.float32)
    return Trajectory(
        states=states,
        next_states=states + 0.5,
        steps=steps,
        log_probs=label.astype(np.float32),
        lengths=np.array([num_frames, num_frames - 1, num_frames]),
        condition=TextCondition(np.full((num_tokens, 4), float(group), np.float32)),
        policy_version=0,
    )


TRAJECTORIES = [trajectory(0, 2, 5), trajectory(1, 1, 5), trajectory(2, 2, 7), trajectory(3, 1, 5, num_tokens=2)]
ADVANTAGES = np.arange(12, dtype=np.float64).reshape(4, 3)


def batches(groups: list[int], size: int) -> list[PairBatch]:
    return list(micro_batches(TRAJECTORIES, ADVANTAGES, groups, size))


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_every_pair_comes_once_in_the_fixed_order(size: int) -> None:
    found = batches([0, 1, 2, 3], size)
    labels = np.concatenate([batch.old_log_probs for batch in found])
    expected = [20, 21, 22, 30, 31, 32, 120, 121, 122, 220, 221, 222, 230, 231, 232, 320, 321, 322]
    assert labels.tolist() == expected
    assert max(len(batch) for batch in found) <= size
    assert num_pairs(TRAJECTORIES, [0, 1, 2, 3]) == len(expected)


def test_rows_belong_together() -> None:
    for batch in batches([0, 1, 2, 3], 4):
        label = 100 * batch.groups + 10 * batch.positions + batch.samples
        np.testing.assert_array_equal(batch.old_log_probs, label)
        np.testing.assert_array_equal(batch.states[:, 0, 0], label)
        np.testing.assert_array_equal(batch.next_states[:, -1, -1], label + 0.5)
        np.testing.assert_array_equal(batch.text[:, 0, 0], batch.groups)
        np.testing.assert_array_equal(batch.advantages, ADVANTAGES[batch.groups, batch.samples])
        np.testing.assert_array_equal(batch.lengths, batch.states.shape[1] - (batch.samples == 1))


def test_groups_share_a_batch_only_with_equal_shapes() -> None:
    shapes = [(batch.states.shape[:2], batch.text.shape[1]) for batch in batches([0, 1, 2, 3], 100)]
    assert shapes == [((9, 5), 1), ((6, 7), 1), ((3, 5), 2)]


def test_left_out_groups_do_not_appear() -> None:
    assert {int(group) for batch in batches([1, 3], 2) for group in batch.groups} == {1, 3}
    assert batches([], 2) == []


def test_windows_of_groups() -> None:
    assert split_groups([0, 1, 2, 4, 5], 2) == [[0, 1], [2, 4], [5]]
    assert split_groups([0, 1, 2], 0) == [[0, 1, 2]]
    assert split_groups([], 0) == split_groups([], 3) == []


def test_a_pair_says_where_it_comes_from() -> None:
    assert batches([2], 4)[1].described(1) == "group 2, sample 2, denoising position 3"
