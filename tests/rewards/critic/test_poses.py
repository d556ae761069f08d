"""Conversions into a critic's poses are pure, smooth, and the inverse of one another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from rewards.critic.poses import poses_of_joints, poses_of_rotations, rotations_of_poses, upright
from tests.toys.small_critic import joints_batch, small_critic


def vectors(*shape: int, largest: float = 3.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator, dtype=torch.float64), dim=-1)
    return axis * torch.rand(*shape, 1, generator=generator, dtype=torch.float64) * largest


def test_six_numbers_are_the_first_two_rows_of_the_matrix() -> None:
    poses = vectors(1, 2, 25)
    matrices = Rotation.from_rotvec(poses[0, :, :24].reshape(-1, 3).numpy()).as_matrix().reshape(2, 24, 3, 3)
    six = rotations_of_poses(poses)[0, :24].permute(2, 0, 1).numpy()
    np.testing.assert_allclose(six, matrices[:, :, :2].reshape(2, 24, 6), atol=1e-12)


def test_back_and_forth_gives_the_same_poses_down_to_tiny_angles_and_up_to_half_a_turn() -> None:
    for largest in (1e-7, 1e-3, 0.1, 3.0, math.pi - 1e-6):
        poses = vectors(2, 5, 25, largest=largest)
        back = poses_of_rotations(rotations_of_poses(poses))
        np.testing.assert_allclose(back, poses, atol=1e-9 if largest < 3.1 else 1e-6)
        single = poses_of_rotations(rotations_of_poses(poses.float()))
        np.testing.assert_allclose(single, poses, atol=2e-6 if largest < 3.1 else 2e-3)


def test_nothing_is_written_into_the_argument() -> None:
    motion = rotations_of_poses(vectors(2, 7, 25).float())
    kept = motion.clone()
    once = upright(motion)
    assert torch.equal(motion, kept)
    torch.testing.assert_close(upright(once), motion)
    assert torch.equal(once[:, -1, 1:3], -motion[:, -1, 1:3]) and torch.equal(once[:, -1, 0], motion[:, -1, 0])
    poses_of_rotations(motion)
    assert torch.equal(motion, kept)


def test_the_gradient_does_not_vanish_at_the_identity_and_agrees_with_differences() -> None:
    motion = rotations_of_poses(torch.zeros(1, 1, 25, 3, dtype=torch.float64)).requires_grad_()
    # The first number of the second row of a rotation about z is its sine, and the vector's third number its angle.
    poses = poses_of_rotations(motion)
    (gradient,) = torch.autograd.grad(poses[0, 0, 3, 2], motion)
    assert gradient[0, 3].abs().sum() == pytest.approx(1.0, abs=1e-6)
    for largest in (1e-5, 1e-2, 3.0):
        given = rotations_of_poses(vectors(1, 2, 25, largest=largest, seed=4)).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: poses_of_rotations(upright(x))[:, :, :24], given, atol=1e-6)


def test_a_path_through_the_identity_is_smooth_in_single_precision() -> None:
    angles = torch.linspace(-1e-3, 1e-3, 201)
    poses = torch.zeros(1, 201, 25, 3)
    poses[0, :, 5, 0] = angles
    seen = poses_of_rotations(rotations_of_poses(poses))[0, :, 5, 0]
    assert (seen - angles).abs().max() < 1e-7 and (seen.diff() > 0).all()


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
def test_joints_become_poses_with_a_gradient(skeleton: Skeleton) -> None:
    joints = joints_batch(20, skeleton).requires_grad_()
    poses = poses_of_joints(joints, skeleton)
    assert poses.shape == (2, 20, 25, 3) and not poses[:, :, 22:24].any() and not poses[:, 0, 24].any()
    torch.testing.assert_close(poses[:, :, 24], (joints[:, :, 0] - joints[:, :1, 0]).float())
    (gradient,) = torch.autograd.grad(small_critic()(poses).sum(), joints)
    assert gradient.isfinite().all() and (gradient.abs().amax(dim=(0, 1, 3)) > 0).sum() > 15


def test_turning_the_whole_body_turns_the_root_alone() -> None:
    joints = joints_batch(10)
    turn = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    before, after = poses_of_joints(joints, HUMANML3D), poses_of_joints(joints @ turn.mT, HUMANML3D)
    torch.testing.assert_close(after[:, :, 1:24], before[:, :, 1:24], atol=1e-5, rtol=0.0)
    turned = Rotation.from_matrix(turn.numpy()) * Rotation.from_rotvec(before[:, :, 0].reshape(-1, 3).numpy())
    np.testing.assert_allclose(after[:, :, 0].reshape(-1, 3), turned.as_rotvec(), atol=1e-5)
    torch.testing.assert_close(after[:, :, 24], (before[:, :, 24].double() @ turn.mT).float())


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(1, 24, 6, 5\), expected \[B, 25, 6, T\]"):
        upright(torch.zeros(1, 24, 6, 5))
