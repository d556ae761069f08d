"""Micro-batches of (sample, step) pairs: complete, in order, and never of mixed shapes."""

from __future__ import annotations

import numpy as np
import pytest

from learners.grpo.pair_batches import PairBatch, micro_batches, num_pairs, split_groups
from rollouts.messages import Boundaries, TextCondition, Trajectory


def trajectory(
    group: int, num_steps: int, num_frames: int, num_tokens: int = 1, boundaries: Boundaries = ()
) -> Trajectory:
    """Three samples whose numbers tell where they come from."""
    steps = np.arange(num_steps, dtype=np.int64) + 2
    label = 100.0 * group + 10 * steps[:, None] + np.arange(3)
    states = np.broadcast_to(label[:, :, None, None], (num_steps, 3, num_frames, 2)).astype(np.float32)
    # The last step's samples are in one state, as behind a shared initial noise.
    states[-1] = states[-1, :1]
    return Trajectory(
        states=states,
        next_states=np.broadcast_to(label[:, :, None, None] + 0.5, states.shape).astype(np.float32),
        steps=steps,
        log_probs=label.astype(np.float32),
        lengths=np.array([num_frames, num_frames - (group == 1), num_frames]),
        condition=TextCondition(
            np.full((*([len(boundaries)] if boundaries else []), num_tokens, 4), float(group), np.float32),
            boundaries=boundaries,
        ),
        policy_version=0,
    )


TRAJECTORIES = [trajectory(0, 2, 5), trajectory(1, 1, 5), trajectory(2, 2, 7), trajectory(3, 1, 5, num_tokens=2)]
ADVANTAGES = np.arange(12, dtype=np.float64).reshape(4, 3)


def batches(groups: list[int], size: int) -> list[PairBatch]:
    return [batch for _, batch in micro_batches(TRAJECTORIES, ADVANTAGES, groups, size)]


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_every_pair_comes_once_in_the_fixed_order(size: int) -> None:
    found = batches([0, 1, 2, 3], size)
    labels = np.concatenate([batch.old_log_probs for batch in found])
    expected = [20, 21, 22, 30, 31, 32, 120, 121, 122, 220, 221, 222, 230, 231, 232, 320, 321, 322]
    assert labels.tolist() == expected
    assert max(len(batch) for batch in found) <= size
    assert num_pairs(TRAJECTORIES, [0, 1, 2, 3]) == len(expected)


@pytest.mark.parametrize("size", [2, 4, 100])
def test_rows_belong_together(size: int) -> None:
    for batch in batches([0, 1, 2, 3], size):
        groups, samples, positions = batch.origins.groups, batch.origins.samples, batch.origins.positions
        label = 100 * groups + 10 * positions + samples
        np.testing.assert_array_equal(batch.old_log_probs, label)
        np.testing.assert_array_equal(batch.next_states[:, -1, -1], label + 0.5)
        np.testing.assert_array_equal(batch.text[batch.rows, 0, 0], groups)
        np.testing.assert_array_equal(batch.advantages, ADVANTAGES[groups, samples])
        for pair, (group, sample) in enumerate(zip(groups, samples, strict=True)):
            source, row = TRAJECTORIES[group], batch.rows[pair]
            step = list(source.steps).index(positions[pair])
            np.testing.assert_array_equal(batch.states[row], source.states[step, sample])
            assert batch.state_lengths[row] == source.lengths[sample]


def test_pairs_in_one_state_share_a_row() -> None:
    """Group 0: three states at its first step, one at its last. Group 1: unequal lengths keep the rows apart."""
    (first,) = batches([0], 100)
    assert first.rows.tolist() == [0, 1, 2, 3, 3, 3]
    assert len(first.states) == 4
    (second,) = batches([1], 100)
    assert second.rows.tolist() == [0, 1, 2]
    (both,) = batches([0, 1], 100)
    assert both.rows.tolist() == [0, 1, 2, 3, 3, 3, 4, 5, 6]


def test_groups_share_a_batch_only_with_equal_shapes() -> None:
    shapes = [(batch.next_states.shape[:2], batch.text.shape[1]) for batch in batches([0, 1, 2, 3], 100)]
    assert shapes == [((9, 5), 1), ((6, 7), 1), ((3, 5), 2)]


def test_groups_share_a_batch_only_with_equal_segments() -> None:
    layouts: list[Boundaries] = [((0, 2), (2, 5)), ((0, 2), (2, 5)), ((0, 3), (3, 5)), ()]
    groups = [trajectory(group, 1, 5, boundaries=layout) for group, layout in enumerate(layouts)]
    found = [batch for _, batch in micro_batches(groups, ADVANTAGES, [0, 1, 2, 3], 100)]
    assert [batch.boundaries for batch in found] == [layouts[0], layouts[2], ()]
    assert [batch.text.shape[1:] for batch in found] == [(2, 1, 4), (2, 1, 4), (1, 4)]
    assert found[0].origins.groups.tolist() == [0, 0, 0, 1, 1, 1]


def test_left_out_groups_do_not_appear() -> None:
    assert {int(group) for batch in batches([1, 3], 2) for group in batch.origins.groups} == {1, 3}
    assert batches([], 2) == []


@pytest.mark.parametrize("num_learners", [2, 3, 20])
def test_learners_share_the_batches_of_one(num_learners: int) -> None:
    whole = list(micro_batches(TRAJECTORIES, ADVANTAGES, [0, 1, 2, 3], 2))
    dealt = [
        list(micro_batches(TRAJECTORIES, ADVANTAGES, [0, 1, 2, 3], 2, rank, num_learners))
        for rank in range(num_learners)
    ]
    assert {number for number, _ in whole} == set(range(len(whole)))
    for rank, share in enumerate(dealt):
        assert [number for number, _ in share] == list(range(rank, len(whole), num_learners))
        for number, batch in share:
            np.testing.assert_array_equal(batch.old_log_probs, whole[number][1].old_log_probs)


def test_windows_of_groups() -> None:
    assert split_groups([0, 1, 2, 4, 5], 2) == [[0, 1], [2, 4], [5]]
    assert split_groups([0, 1, 2], 0) == [[0, 1, 2]]
    assert split_groups([], 0) == split_groups([], 3) == []


def test_a_pair_says_where_it_comes_from() -> None:
    assert batches([2], 4)[1].origins.described(1) == "group 2, sample 2, denoising position 3"
