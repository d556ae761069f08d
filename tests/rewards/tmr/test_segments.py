"""The dense reward's formulas by hand, and the cutting of segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.data.prompts import Prompt, Segment
from rewards.declared.semantic import SemanticSettings
from rewards.tmr.segments import cut, dense_reward, pad, segment_ranges
from rewards.tmr.similarity import cosine, distance_reward, euclidean, similarity

PROMPT = Prompt("walks, then kicks", (Segment("walks", 6), Segment("kicks", 5)))


def test_dense_reward_by_hand() -> None:
    scores = np.array([[[0.9, 0.6], [0.1, 0.3]], [[0.2, 0.5], [0.7, 0.4]]])
    texts = np.array([[1.0, 0.4], [0.4, 1.0]])
    dense = dense_reward(scores, texts, alpha=0.5)
    np.testing.assert_allclose(dense.r_pos, [0.6, 0.3])
    # Sample 0: segment 0 exceeds the margin by 0.2, segment 1 by nothing. Sample 1: by 0.1 and 0.3.
    np.testing.assert_allclose(dense.r_neg, [0.1, 0.2])
    np.testing.assert_allclose(dense.semantic, [0.55, 0.2])
    np.testing.assert_allclose(dense.margin_active, [0.5, 1.0])
    np.testing.assert_allclose(dense.logic_accuracy, [1.0, 0.0])
    np.testing.assert_allclose(dense_reward(scores, texts, alpha=0.0).semantic, dense.r_pos)


def test_r_neg_takes_the_worst_other_text_of_each_segment() -> None:
    scores = np.array([[[0.5, 0.6, 0.9], [0.0, 0.5, 0.0], [0.3, 0.2, 0.1]]])
    texts = np.where(np.eye(3) > 0, 1.0, 0.2)
    dense = dense_reward(scores, texts, alpha=1.0)
    np.testing.assert_allclose(dense.r_neg, [(0.7 + 0.0 + 0.1) / 3])
    np.testing.assert_allclose(dense.logic_accuracy, [1 / 3])
    np.testing.assert_allclose(dense.margin_active, [3 / 6])


def test_one_segment_has_no_penalty() -> None:
    dense = dense_reward(np.array([[[0.3]], [[-0.2]]]), np.array([[1.0 - 1e-7]]), alpha=0.5)
    np.testing.assert_array_equal(dense.semantic, [0.3, -0.2])
    assert not dense.r_neg.any() and not dense.margin_active.any()
    with pytest.raises(ValueError, match=r"need \[N,K,K\]"):
        dense_reward(np.zeros((2, 2, 2)), np.eye(3), alpha=0.5)


def test_own_text_never_counts_as_another() -> None:
    """An s_kk above B_kk, as sigmoid distances and rounding make it, is no penalty."""
    assert dense_reward(np.full((1, 2, 2), 0.6), np.full((2, 2), 0.5), 1.0).r_neg[0] == pytest.approx(0.1)
    assert dense_reward(np.array([[[0.9, 0.0], [0.0, 0.9]]]), np.full((2, 2), 0.5), 1.0).r_neg[0] == 0.0


def test_segments_end_with_the_motion() -> None:
    ranges = segment_ranges(PROMPT, np.array([11, 10, 40]), max_frames=196)
    assert ranges.tolist() == [[[0, 6], [6, 11]], [[0, 6], [6, 10]], [[0, 6], [6, 11]]]
    assert segment_ranges(PROMPT, np.array([11]), max_frames=10).tolist() == [[[0, 6], [6, 10]]]


@pytest.mark.parametrize(("lengths", "max_frames", "frames"), [((11, 9), 196, 3), ((11, 6), 196, 0), ((4, 11), 9, 0)])
def test_short_segments_are_errors(lengths: tuple[int, int], max_frames: int, frames: int) -> None:
    with pytest.raises(ValueError, match=rf"segment 1 \('kicks'\) has {frames} frames"):
        segment_ranges(PROMPT, np.array(lengths), max_frames)
    with pytest.raises(ValueError, match=f"sample {int(np.argmin(np.minimum(lengths, max_frames)))}:"):
        segment_ranges(PROMPT, np.array(lengths), max_frames)


def test_a_prompt_needs_segments() -> None:
    with pytest.raises(ValueError, match="no segments"):
        segment_ranges(Prompt("x", ()), np.array([11]), 196)


def test_cut_and_pad_keep_order_and_lengths() -> None:
    features = np.arange(2 * 12 * 1, dtype=np.float32).reshape(2, 12, 1)
    clips = cut(features, segment_ranges(PROMPT, np.array([11, 10]), 196))
    assert [clip[:, 0].tolist() for clip in clips] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [12, 13, 14, 15, 16, 17],
        [18, 19, 20, 21],
    ]
    padded, lengths = pad(clips)
    assert padded.shape == (4, 6, 1) and lengths.tolist() == [6, 5, 6, 4]
    assert padded[3, :, 0].tolist() == [18, 19, 20, 21, 0, 0]


def test_similarities_by_hand() -> None:
    left, right = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 4.0], [4.0, -3.0], [-3.0, -4.0]])
    np.testing.assert_allclose(cosine(left, right), [[1, 0, -1], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(euclidean(left, right), [[0, np.sqrt(50), 10], [5, 5, 5]])
    distance = np.array([0.0, 2.0, 20.0])
    for normalization, expected in {
        "linear": [1.0, 0.75, 0.0],
        "exponential": np.exp([0.0, -0.5, -5.0]),
        "sigmoid": 1 / (1 + np.exp([0.0, 0.5, 5.0])),
    }.items():
        settings = SemanticSettings.model_validate(
            {
                "reward_type": "matching",
                "tmr_similarity_type": "euclidean",
                "tmr_normalization": normalization,
                "tmr_max_distance": 8.0,
                "tmr_scale": 4.0,
            }
        )
        np.testing.assert_allclose(distance_reward(torch.from_numpy(distance), settings), expected)
        np.testing.assert_allclose(
            similarity(left, right, settings), distance_reward(torch.from_numpy(euclidean(left, right)), settings)
        )
    np.testing.assert_allclose(similarity(left, right, SemanticSettings()), cosine(left, right))
