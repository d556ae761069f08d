"""Motions that are kept as SMPL's rotations: every form of array and file gives the same body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from motions.base.errors import UserError
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.files.smpl import smpl_poses
from motions.files.smpl_rotations import are_rotations, read_rotations
from motions.skeleton.rotations import quat_from_rotation_vector, quat_to_matrix
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.synthetic_motion import walking_joints

WALK = walking_joints(HUMANML3D, 24).astype(np.float32)


def vectors() -> np.ndarray:
    """The walk as [T, 25, 3], y up: rotations of an AMASS file, turned from z up."""
    smpl = smpl_poses(Motion("walk", WALK, HUMANML3D, 20.0))
    turn = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    poses = np.zeros((len(WALK), 25, 3))
    poses[:, :22] = smpl.poses[:, :66].reshape(-1, 22, 3)
    poses[:, 0] = (Rotation.from_matrix(turn.T) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    poses[:, 24] = WALK[:, 0] - WALK[0, 0]
    return poses


def rows(poses: np.ndarray) -> np.ndarray:
    """The same as [25, 6, T]."""
    matrices = quat_to_matrix(quat_from_rotation_vector(torch.from_numpy(poses[:, :24]))).numpy()
    six = matrices[:, :, :2].reshape(len(poses), 24, 6)
    last = np.concatenate((poses[:, 24:], np.zeros_like(poses[:, 24:])), axis=2)
    return np.concatenate((six, last), axis=1).transpose(1, 2, 0)


def one(content: Any, **options: Any) -> Motion:
    [motion] = read_rotations(content, "a", **options)
    return motion


def test_both_forms_give_the_body_on_the_floor() -> None:
    motion, other = one(vectors()), one(torch.from_numpy(rows(vectors())).float())
    np.testing.assert_allclose(other.joints, motion.joints, atol=1e-5)
    assert motion.joints[..., 1].min() == pytest.approx(0.0, abs=1e-6)
    assert motion.turns is not None and motion.turns.shape == (24, 22, 4)
    expected = smpl_poses(Motion("walk", WALK, HUMANML3D, 20.0)).joints()
    seen = motion.joints - motion.joints[:1, :1]
    np.testing.assert_allclose(seen, expected - expected[:1, :1], atol=1e-5)


def test_other_axes_may_point_up() -> None:
    upright = one(vectors())
    flipped = rows(vectors())
    matrices = quat_to_matrix(quat_from_rotation_vector(torch.from_numpy(vectors()[:, 0]))).numpy()
    turned = np.diag([1.0, -1.0, -1.0]) @ matrices
    flipped[0] = turned[:, :2].reshape(-1, 6).T
    flipped[24, 1:3] *= -1.0
    np.testing.assert_allclose(one(flipped, up_axis="-y").joints, upright.joints, atol=1e-5)
    assert np.abs(one(flipped).joints - upright.joints).max() > 0.5
    with pytest.raises(UserError, match=r"up_axis is x; of files of SMPL's rotations it is one of auto, y, z, -y"):
        one(vectors(), up_axis="x")


def test_files_of_every_kind(tmp_path: Path) -> None:
    motion = torch.from_numpy(rows(vectors())).float()
    torch.save({"motion": torch.stack((motion, motion)), "comment": ["walks", "strolls"]}, tmp_path / "two.pth")
    torch.save([{"motion_better": motion, "motion_worse": motion}], tmp_path / "pairs.pt")
    np.save(tmp_path / "plain.npy", motion.numpy())
    reader = MotionReader()
    found = {one.name: one for one in reader.read(tmp_path)}
    assert sorted(found) == ["pairs_0000_better", "pairs_0000_worse", "plain", "two_000", "two_001"]
    assert [found[f"two_00{row}"].title for row in (0, 1)] == ["walks", "strolls"]
    assert found["plain"].fps == 20.0 and found["plain"].turns is not None and reader.notes == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.ones(1)}, "a holds a dict without a motion"),
        ({"motion": torch.ones(3, 25, 4)}, r"an array \[3, 25, 4\]"),
        ({"motion": torch.ones(25, 6, 0)}, r"an array \[25, 6, 0\]"),
        (torch.ones(4, 25, 3, dtype=torch.int64), r"of torch\.int64"),
        ({"motion": torch.full((4, 25, 3), torch.nan)}, "a: motion 0 has values that are not finite"),
        ([], "a holds a list without a motion"),
    ],
)
def test_what_holds_no_motion_is_one_clear_error(content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_rotations(content, "a"))


def test_shapes_are_told_from_joints() -> None:
    assert are_rotations((25, 6, 60)) and are_rotations((60, 25, 3)) and are_rotations((4, 25, 6, 60))
    assert not are_rotations((60, 22, 3)) and not are_rotations((60, 263)) and not are_rotations((25, 3))


def test_amass_files_keep_their_rotations(tmp_path: Path) -> None:
    smpl = smpl_poses(Motion("walk", WALK, HUMANML3D, 20.0))
    np.savez(tmp_path / "walk.npz", allow_pickle=False, **smpl.arrays())
    [motion] = MotionReader().read(tmp_path / "walk.npz")
    expected = one(vectors())
    assert motion.turns is not None and expected.turns is not None
    agreement = np.abs((motion.turns * expected.turns).sum(-1))
    np.testing.assert_allclose(agreement, 1.0, atol=1e-9)
