"""Mirrored joints, features and captions agree with one another."""

from __future__ import annotations

import numpy as np
import pytest

from motions.skeleton.features import FeatureLayout, extract_features
from motions.skeleton.mirroring import mirror_caption, mirror_features, mirror_joints
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton
from tests.toys.synthetic_motion import walking_joints


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=["humanml3d", "kit"])
def test_mirrored_features_are_the_features_of_mirrored_joints(skeleton: Skeleton) -> None:
    joints = walking_joints(skeleton, num_frames=40)
    mirrored = extract_features(mirror_joints(joints, skeleton), skeleton, retarget=False)
    ours = mirror_features(extract_features(joints, skeleton, retarget=False), skeleton)
    assert np.abs(mirrored - ours).max() < 1e-3 * np.abs(joints).max()
    layout = FeatureLayout(skeleton.num_joints)
    assert not np.allclose(ours[:, layout.positions], extract_features(joints, skeleton)[:, layout.positions])


def test_mirroring_twice_changes_nothing() -> None:
    joints = walking_joints(HUMANML3D, num_frames=20)
    features = extract_features(joints, HUMANML3D)
    np.testing.assert_array_equal(mirror_features(mirror_features(features, HUMANML3D), HUMANML3D), features)
    np.testing.assert_array_equal(mirror_joints(mirror_joints(joints, HUMANML3D), HUMANML3D), joints)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="251"):
        mirror_features(np.zeros((4, 251)), HUMANML3D)
    with pytest.raises(ValueError, match="22"):
        mirror_joints(np.zeros((4, 21, 3)), HUMANML3D)


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("a person kicks with the left leg", "a person kicks with the right leg"),
        ("Left, then RIGHT and left.", "Right, then LEFT and right."),
        ("turns clockwise", "turns counterclockwise"),
        ("turns Counter-clockwise, anti-clockwise, counter clockwise", "turns Clockwise, clockwise, clockwise"),
        (
            "a right-handed throw to the leftmost mark, rightwards",
            "a left-handed throw to the rightmost mark, leftwards",
        ),
        ("stands upright in bright light, cleft lip", "stands upright in bright light, cleft lip"),
        ("walks", "walks"),
    ],
)
def test_captions(caption: str, mirrored: str) -> None:
    assert mirror_caption(caption) == mirrored
