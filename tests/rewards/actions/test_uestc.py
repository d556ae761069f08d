"""UESTC's reader: what is taken, how videos are turned to the front, and files that do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from motions.base.errors import UserError
from rewards.actions.humanact12 import mdm_of_features
from rewards.actions.uestc import TRAINING_PERSONS, read_uestc
from rewards.critic.poses import poses_of_rotations
from tests.toys.humanact12 import write_uestc


def content_of(folder: Path) -> dict[str, Any]:
    return pickle.loads((folder / "vibe_cache_refined.pkl").read_bytes())


def poses(features: np.ndarray) -> np.ndarray:
    return poses_of_rotations(mdm_of_features(torch.from_numpy(features)[None]))[0].numpy()


def test_persons_part_the_clips_and_the_walk_around_is_left_out(tmp_path: Path) -> None:
    folder = write_uestc(tmp_path)
    assert len(TRAINING_PERSONS) == 51
    train, test = read_uestc(folder, "train", 60), read_uestc(folder, "test", 60)
    # Of the videos 7, 15 and 23 of view 8 the first is of the test, the second of side 1.
    assert train.actions.tolist() == [clip for clip in range(24) if clip % 3 != 1 and clip != 23]
    assert test.actions.tolist() == [clip for clip in range(24) if clip % 3 == 1 and clip != 7]
    assert len(train.features[0]) == 48 and train.names[3] == "action 3" and len(train.names) == 40
    assert len(read_uestc(folder, "test", 200).actions) == len(test.actions), "the test is as it is"
    with pytest.raises(UserError, match="no clip of the train part"):
        read_uestc(folder, "train", 200)


def test_bodies_are_turned_to_the_front_with_their_path(tmp_path: Path) -> None:
    folder = write_uestc(tmp_path, places=True)
    content, moved = content_of(folder), pickle.loads((folder / "globtrans_usez.pkl").read_bytes())
    clips = read_uestc(folder, "train", 60)
    for place, row, view in ((0, 0, 0), (1, 2, 2)):
        length = len(clips.features[place])
        front = Rotation.from_rotvec([0.0, -view * np.pi / 4, 0.0])
        turned = (front * Rotation.from_rotvec(content["pose"][row][:length, :3])).as_rotvec()
        found = poses(clips.features[place])
        np.testing.assert_allclose(found[:, 0], turned, atol=1e-5)
        np.testing.assert_allclose(found[:, 1:24].reshape(length, 69), content["pose"][row][:length, 3:], atol=1e-5)
        hips = (content["joints3d"][row][:, 8] + moved[row])[:length]
        np.testing.assert_allclose(found[:, 24], front.apply(hips - hips[0]), atol=1e-5)


def test_without_places_they_are_those_at_which_the_camera_sees_the_body_as_large(tmp_path: Path) -> None:
    content = content_of(write_uestc(tmp_path))
    found = poses(read_uestc(tmp_path, "train", 60).features[0])
    camera = content["orig_cam"][0][:48]
    where = np.stack((camera[:, 2], camera[:, 3], 500.0 / (270.0 * camera[:, 0])), axis=1)
    hips = content["joints3d"][0][:48, 8] + where
    np.testing.assert_allclose(found[:, 24], hips - hips[0], atol=1e-5)


def _change(name: str, row: int, value: object) -> Callable[[Path], object]:
    def apply(folder: Path) -> object:
        content = content_of(folder)
        content[name][row] = value
        return (folder / "vibe_cache_refined.pkl").write_bytes(pickle.dumps(content))

    return apply


def _line(file: str, row: int, text: str) -> Callable[[Path], object]:
    def apply(folder: Path) -> object:
        path = folder / "info" / file
        lines = path.read_text().splitlines()
        return path.write_text("\n".join([*lines[:row], text, *lines[row + 1 :]]))

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "info" / "names.txt").unlink(), "names.txt: no such file"),
        (lambda folder: (folder / "vibe_cache_refined.pkl").unlink(), "vibe_cache_refined.pkl: no such file"),
        (_line("names.txt", 2, "walk.avi"), "line 3 is 'walk.avi'; expected a name such as a0_d1_p001_c1_color.avi"),
        (_line("names.txt", 2, "a40_d1_p001_c1_color.avi"), "line 3 has action 40; actions are 0 to 39"),
        (_line("names.txt", 2, "a4_d1_p119_c1_color.avi"), "line 3 has person 119; persons are 1 to 118"),
        (_line("num_frames_min.txt", 0, "many"), "line 1 is 'many'; expected a number"),
        (_line("num_frames_min.txt", 0, "50\n50"), "num_frames_min has 25 entries; info/names.txt has 24 videos"),
        (_line("action_classes.txt", 0, "a\nb"), "41 actions; expected 40"),
        (
            _change("pose", 0, np.full((50, 72), np.nan)),
            "clip 0 (a0_d0_p001_c1_color.avi): pose holds numbers that are",
        ),
        (_change("pose", 2, np.zeros((50, 66))), "pose has shape (50, 66); expected [frames, 72]"),
        (_change("joints3d", 0, np.zeros((4, 49, 3))), "50 pose, 4 joints3d and 50 places; not as many"),
    ],
)
def test_files_that_do_not_fit_are_named(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = write_uestc(tmp_path)
    spoil(folder)
    with pytest.raises(UserError) as error:
        read_uestc(folder, "train", 60)
    assert message in str(error.value)
