"""Rotation algebra against SciPy and against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from motions.skeleton import rotations


def random_rotations(count: int = 64) -> tuple[Rotation, torch.Tensor]:
    reference = Rotation.random(count, rng=np.random.default_rng(0))
    return reference, torch.from_numpy(reference.as_quat(scalar_first=True))


def test_products_and_rotations_agree_with_scipy() -> None:
    left, left_quat = random_rotations()
    right, right_quat = left[::-1], left_quat.flip(0)
    vectors = np.random.default_rng(1).normal(size=(64, 3))
    product = rotations.quat_multiply(left_quat, right_quat)
    np.testing.assert_allclose(rotations.quat_to_matrix(product).numpy(), (left * right).as_matrix(), atol=1e-12)
    rotated = rotations.quat_rotate(left_quat, torch.from_numpy(vectors))
    np.testing.assert_allclose(rotated.numpy(), left.apply(vectors), atol=1e-12)
    back = rotations.quat_rotate(rotations.quat_inverse(left_quat), rotated)
    np.testing.assert_allclose(back.numpy(), vectors, atol=1e-12)


def test_between_takes_source_to_target_with_positive_scalar() -> None:
    rng = np.random.default_rng(2)
    source, target = (torch.from_numpy(rng.normal(size=(50, 3))) for _ in range(2))
    quat = rotations.quat_between(source, target)
    turned = rotations.quat_rotate(quat, source / source.norm(dim=-1, keepdim=True))
    np.testing.assert_allclose(turned.numpy(), (target / target.norm(dim=-1, keepdim=True)).numpy(), atol=1e-9)
    assert (quat[:, 0] >= 0).all()


def test_matrix_round_trips_including_half_turns() -> None:
    _, quat = random_rotations()
    half_turns = torch.eye(4, dtype=torch.float64)
    quat = torch.cat((quat, half_turns))
    matrix = rotations.quat_to_matrix(quat)
    again = rotations.matrix_to_quat(matrix)
    np.testing.assert_allclose(rotations.quat_to_matrix(again).numpy(), matrix.numpy(), atol=1e-12)
    assert (again[:, 0] >= 0).all()
    np.testing.assert_allclose(rotations.six_to_matrix(rotations.matrix_to_six(matrix)), matrix, atol=1e-12)


def test_six_numbers_are_columns_and_are_orthonormalised() -> None:
    matrix = rotations.quat_to_matrix(random_rotations(1)[1])[0]
    six = rotations.matrix_to_six(matrix)
    np.testing.assert_array_equal(six[:3], matrix[:, 0])
    np.testing.assert_array_equal(six[3:], matrix[:, 1])
    distorted = torch.cat((2.0 * six[:3], 3.0 * six[3:] + 0.5 * six[:3]))
    np.testing.assert_allclose(rotations.six_to_matrix(distorted), matrix, atol=1e-12)


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "YXZ", "ZYX", "YZY", "X"])
def test_euler_angles_agree_with_scipy(order: str) -> None:
    degrees = np.random.default_rng(3).uniform(-180, 180, size=(20, len(order)))
    ours = rotations.euler_to_quat(torch.from_numpy(degrees), order)
    theirs = Rotation.from_euler(order, degrees, degrees=True)
    np.testing.assert_allclose(rotations.quat_to_matrix(ours).numpy(), theirs.as_matrix(), atol=1e-12)


def test_euler_order_is_checked() -> None:
    with pytest.raises(ValueError, match="XYW"):
        rotations.euler_to_quat(torch.zeros(3), "XYW")


def test_slerp_agrees_with_scipy_and_takes_the_short_way() -> None:
    reference, quat = random_rotations(2)
    fractions = np.linspace(0.0, 1.0, 7)
    for sign in (1.0, -1.0):
        ours = rotations.quat_slerp(quat[0], sign * quat[1], torch.from_numpy(fractions))
        theirs = Slerp([0.0, 1.0], reference)(fractions).as_matrix()
        np.testing.assert_allclose(rotations.quat_to_matrix(ours).numpy(), theirs, atol=1e-12)
    same = rotations.quat_slerp(quat[0], quat[0], torch.tensor(0.3, dtype=torch.float64))
    np.testing.assert_allclose(same, quat[0], atol=1e-12)
