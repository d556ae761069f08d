"""Joints to features and back, with the original's quirks, on made-up motion and on the published reference clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from motions.skeleton import features
from motions.skeleton.features import FeatureLayout, extract_features, recover_joints, recover_joints_from_rotations
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton, get_skeleton
from tests.toys.synthetic_motion import walking_joints


@pytest.fixture(scope="session")
def humanml3d_dir(parity_dir: Path) -> Path:
    folder = parity_dir.parent / "data" / "humanml3d"
    if not folder.is_dir():
        pytest.skip(f"no HumanML3D sample files in {folder}")
    return folder


@pytest.fixture(params=[HUMANML3D, KIT], ids=["humanml3d", "kit"])
def skeleton(request: pytest.FixtureRequest) -> Skeleton:
    return request.param


def test_layout_widths_and_slices() -> None:
    layout = FeatureLayout(22)
    slices = (layout.positions, layout.rotations, layout.velocities, layout.contacts)
    assert slices == (slice(4, 67), slice(67, 193), slice(193, 259), slice(259, 263))
    assert layout.width == HUMANML3D.num_features == 263
    assert FeatureLayout(21).width == KIT.num_features == 251
    assert [part.start for part in FeatureLayout(21).groups] == [0, 1, 3, 4, 64, 184, 247]


def test_every_number_of_the_vector_has_a_name(skeleton: Skeleton) -> None:
    layout = FeatureLayout(skeleton.num_joints)
    names = [layout.describe(index, skeleton.joint_names) for index in range(layout.width)]
    assert len(set(names)) == layout.width
    assert names[3] == "the root's height" and names[layout.contacts.start + 1] == "the contact of the left toe"
    assert names[layout.positions.start + 4] == f"y of {skeleton.joint_names[2]}'s position"
    assert names[layout.rotations.start] == f"number 1 of {skeleton.joint_names[1]}'s rotation"
    assert names[layout.velocities.stop - 1] == f"z of {skeleton.joint_names[-1]}'s velocity"


def test_skeleton_tables_are_consistent(skeleton: Skeleton) -> None:
    parents = skeleton.parents
    assert parents[0] == -1 and all(0 <= parent < skeleton.num_joints for parent in parents[1:])
    lengths = np.linalg.norm(skeleton.target_offsets, axis=1, keepdims=True)
    np.testing.assert_allclose(skeleton.raw_directions * lengths, skeleton.target_offsets)
    for left, right in skeleton.mirror_pairs:
        assert skeleton.joint_names[left].replace("left", "right") == skeleton.joint_names[right]
        np.testing.assert_allclose(skeleton.raw_directions[left] * [-1, 1, 1], skeleton.raw_directions[right])
    names = [skeleton.joint_names[joint] for joint in skeleton.face_joints]
    assert names == ["right_hip", "left_hip", "right_shoulder", "left_shoulder"]
    assert get_skeleton(skeleton.name) == skeleton
    with pytest.raises(ValueError, match="read-only"):
        skeleton.target_offsets[0] = 1.0
    with pytest.raises(ValueError, match=r"'nose'.*pelvis"):
        skeleton.index("nose")
    with pytest.raises(ValueError, match=r"'smplx'.*humanml3d, kit"):
        get_skeleton("smplx")


def test_recovery_undoes_extraction(skeleton: Skeleton) -> None:
    joints = walking_joints(skeleton, num_frames=50)
    vectors = extract_features(joints, skeleton)
    assert vectors.shape == (49, skeleton.num_features) and vectors.dtype == np.float32
    canonical = features.canonicalise(features.retarget_uniform(joints, skeleton), skeleton)
    scale = np.abs(canonical).max()
    from_positions = recover_joints(torch.from_numpy(vectors), skeleton).numpy()
    from_rotations = recover_joints_from_rotations(torch.from_numpy(vectors), skeleton).numpy()
    np.testing.assert_allclose(from_positions, canonical[:-1], atol=1e-5 * scale)
    np.testing.assert_allclose(from_rotations, canonical[:-1], atol=1e-5 * scale)


def test_a_clip_starts_on_the_floor_above_the_origin_and_faces_forward(skeleton: Skeleton) -> None:
    canonical = features.canonicalise(walking_joints(skeleton, num_frames=30), skeleton)
    assert abs(canonical[..., 1].min()) < 1e-9
    np.testing.assert_allclose(canonical[0, 0, [0, 2]], 0.0, atol=1e-9)
    right_hip, left_hip, right_shoulder, left_shoulder = canonical[0, list(skeleton.face_joints)]
    across = (right_hip - left_hip) + (right_shoulder - left_shoulder)
    forward = np.cross([0.0, 1.0, 0.0], across)
    np.testing.assert_allclose(forward / np.linalg.norm(forward), [0.0, 0.0, 1.0], atol=1e-9)


def test_retargeting_gives_the_target_bones_and_scales_the_path() -> None:
    small = walking_joints(HUMANML3D, num_frames=30) * 0.5
    uniform = features.retarget_uniform(small, HUMANML3D)
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            bones = np.linalg.norm(uniform[:, joint] - uniform[:, parent], axis=-1)
            np.testing.assert_allclose(bones, np.linalg.norm(HUMANML3D.target_offsets[joint]), rtol=1e-9)
    np.testing.assert_allclose(uniform[:, 0], small[:, 0] * 2.0, rtol=1e-9)
    longer = HUMANML3D.target_offsets * 1.2
    custom = extract_features(small, HUMANML3D, target_offsets=longer)
    assert custom[0, 3] == pytest.approx(1.2 * extract_features(small, HUMANML3D)[0, 3], rel=1e-5)


def test_yaw_velocity_is_half_the_turn_and_flips_its_sign_past_180_degrees() -> None:
    slow = extract_features(walking_joints(HUMANML3D, num_frames=100, turn=1.0, swing=0.0), HUMANML3D)
    # The heading is smoothed, so the middle of the clip turns at the full rate of 1 rad in 99 steps.
    assert abs(slow[50, 0]) == pytest.approx(0.5 / 99, rel=0.1)
    far = extract_features(walking_joints(HUMANML3D, num_frames=120, turn=5.0, swing=0.0), HUMANML3D)[1:, 0]
    against = np.sign(far) != np.sign(np.median(far))
    assert against.sum() == 1, "one frame has the wrong sign: where the heading passes 180 degrees"


def test_contacts_follow_the_displacement_threshold() -> None:
    joints = walking_joints(HUMANML3D, num_frames=20)
    still = np.repeat(joints[:1], 20, axis=0)
    layout = FeatureLayout(22)
    assert (extract_features(still, HUMANML3D)[:, layout.contacts] == 1.0).all()
    still[10:, 10, 1] += 0.06  # The left toe jumps by 6 cm once: 0.0036 m^2 > 0.002.
    contacts = extract_features(still, HUMANML3D, retarget=False)[:, layout.contacts]
    assert contacts[9].tolist() == [1.0, 0.0, 1.0, 1.0] and contacts.sum() == 4 * 19 - 1


def test_recovery_is_batched_and_differentiable(skeleton: Skeleton) -> None:
    vectors = torch.from_numpy(extract_features(walking_joints(skeleton, num_frames=12), skeleton))
    batch = torch.stack((vectors, vectors.flip(0)))[:, None].requires_grad_()
    joints = recover_joints(batch, skeleton)
    assert joints.shape == (2, 1, 11, skeleton.num_joints, 3)
    torch.testing.assert_close(joints[1, 0], recover_joints(vectors.flip(0), skeleton))
    joints[..., 5, :].sum().backward()
    layout = FeatureLayout(skeleton.num_joints)
    assert batch.grad is not None
    assert batch.grad[..., :-1, :4].abs().sum() > 0 and batch.grad[..., layout.rotations].abs().sum() == 0
    small = vectors[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: recover_joints(x, skeleton) / 100, small, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda joints: joints[:, :21], r"\[F, 22, 3\]"),
        (lambda joints: joints[:1], "1 frames"),
        (lambda joints: np.where(np.arange(len(joints))[:, None, None] == 3, np.nan, joints), "frame 3"),
        (lambda joints: joints * 0.0, "pelvis -> left_hip has zero length in frame 0"),
    ],
)
def test_bad_joints_are_named(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features(change(walking_joints(HUMANML3D, num_frames=8)), HUMANML3D)


def test_bad_widths_are_named() -> None:
    with pytest.raises(ValueError, match="263"):
        recover_joints(torch.zeros(4, 251), HUMANML3D)
    with pytest.raises(ValueError, match="target_offsets"):
        extract_features(walking_joints(KIT, num_frames=8), KIT, target_offsets=HUMANML3D.target_offsets)


def test_official_clip_recovers_exactly(humanml3d_dir: Path) -> None:
    clip = humanml3d_dir / "reference_clip"
    vectors = np.load(clip / "new_joint_vecs" / "012314.npy")
    joints = np.load(clip / "new_joints" / "012314.npy")
    recovered = recover_joints(torch.from_numpy(vectors), HUMANML3D).numpy()
    np.testing.assert_allclose(recovered, joints, atol=1e-5)
    # Its first frame is already canonical, so extraction differs only by the heading filter at the cut end.
    again = extract_features(joints, HUMANML3D, retarget=False)
    layout = FeatureLayout(22)
    np.testing.assert_array_equal(again[:, layout.contacts], vectors[:-1, layout.contacts])
    assert np.abs(again[:, :67] - vectors[:-1, :67]).max() < 1e-2
    assert np.abs(again[:100] - vectors[:100]).max() < 1e-3


def test_target_bones_are_those_of_the_reference_frame(humanml3d_dir: Path) -> None:
    frame = np.load(humanml3d_dir / "skeleton_example_h3d.npy")[:22]
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            length = np.linalg.norm(frame[joint] - frame[parent])
            assert np.linalg.norm(HUMANML3D.target_offsets[joint]) == pytest.approx(length, abs=1e-6)
