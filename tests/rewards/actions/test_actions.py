"""The action classifier's files, and measures that are the same each time they are asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from rewards.actions.classifier import ActionClassifier, ActionFileError, load_action_classifier
from rewards.actions.measures import action_features, block_fids, measure_actions, score_blocks


def classifier(seed: int = 0) -> ActionClassifier:
    torch.manual_seed(seed)
    return ActionClassifier().eval()


def joints(num: int, seed: int = 0, frames: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, 24, 3, frames)).astype(np.float32)


def test_files_in_every_shape(tmp_path: Path) -> None:
    made = classifier()
    state = made.state_dict()
    torch.save({"model": state, "optimizer": {}, "iteration": 3}, tmp_path / "a.tar")
    torch.save(state, tmp_path / "b.tar", _use_new_zipfile_serialization=False)
    lengths = torch.tensor([12, 5])
    expected = made(torch.from_numpy(joints(2)), lengths)[0]
    for name in ("a.tar", "b.tar"):
        torch.testing.assert_close(
            load_action_classifier(tmp_path / name)(torch.from_numpy(joints(2)), lengths)[0], expected
        )
    wrong = {name: value for name, value in state.items() if name != "linear1.bias"}
    torch.save(wrong, tmp_path / "c.tar")
    with pytest.raises(ActionFileError, match=r"c\.tar: missing, unexpected or of another shape: linear1\.bias"):
        load_action_classifier(tmp_path / "c.tar")
    torch.save({"x": torch.zeros(1)}, tmp_path / "d.tar")
    with pytest.raises(ActionFileError, match="unknown state dict"):
        load_action_classifier(tmp_path / "d.tar")
    with pytest.raises(ActionFileError, match="no such file"):
        load_action_classifier(tmp_path / "e.tar")


def test_features_are_those_of_the_last_frame_and_do_not_depend_on_the_call() -> None:
    made, motions = classifier(), joints(3)
    lengths, actions = np.array([12, 7, 12]), np.array([0, 1, 2])
    first = action_features(made, motions, lengths, actions)
    changed = motions.copy()
    changed[1, ..., 7:] = 99.0
    np.testing.assert_array_equal(action_features(made, changed, lengths, actions).features, first.features)
    noisy = [action_features(made, motions, lengths, actions, np.random.default_rng(seed)).features for seed in (0, 1)]
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-3, "the public code's random first state changes the features"


def test_measures() -> None:
    made, lengths, actions = classifier(), np.full(80, 12), np.arange(80) % 12
    real = action_features(made, joints(80), lengths, actions)
    same = measure_actions(real, real)
    assert same["fid"] == pytest.approx(0, abs=1e-6) and same == measure_actions(real, real)
    worse = measure_actions(real, action_features(made, 1.5 * joints(80, seed=1), lengths, actions))
    assert worse["fid"] > same["fid"] and worse["fid_low"] < worse["fid_high"]
    assert worse["num_real"] == worse["num_made"] == 80 and worse["diversity"] > 0 and worse["multimodality"] > 0
    right = action_features(made, joints(80), lengths, real.predicted)
    assert measure_actions(real, right)["accuracy"] == 1


def test_blocks_by_score_of_any_number_of_motions() -> None:
    scores = np.array([0.0, 5.0, -3.0, 2.0, 1.0, 9.0, -1.0])
    blocks = score_blocks(scores, 3)
    assert [block.tolist() for block in blocks] == [[5, 1, 3], [4, 0], [6, 2]]
    features = np.random.default_rng(0).standard_normal((40, 30))
    assert block_fids(features, [np.arange(40)])[0] == pytest.approx(0, abs=1e-6)


def test_bad_input_is_named() -> None:
    made, lengths = classifier(), np.array([12, 12])
    with pytest.raises(UserError, match="action 12: the classifier knows 0 to 11"):
        action_features(made, joints(2), lengths, np.array([0, 12]))
    broken = joints(2)
    broken[1, 3] = np.nan
    with pytest.raises(UserError, match="motion 1 has joints that are not finite"):
        action_features(made, broken, lengths, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"expected \[B, 24, 3, T\]"):
        made(torch.zeros(2, 22, 3, 5), torch.tensor([5, 5]))
    with pytest.raises(ValueError, match=r"lengths are \[6, 5\]"):
        made(torch.zeros(2, 24, 3, 5), torch.tensor([6, 5]))
    one = action_features(made, joints(1), np.array([12]), np.array([0]))
    with pytest.raises(UserError, match="1 real motions: FID needs at least 2"):
        measure_actions(one, one)
