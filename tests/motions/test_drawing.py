"""Pictures of motions: left and right limbs, near and far, a camera that follows, and the duration of animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motions.drawing import (
    BACKGROUND,
    INK,
    LEFT,
    RIGHT,
    Camera,
    contact_sheet,
    draw_frames,
    fit_camera,
    save_gif,
)
from motions.skeleton.skeletons import HUMANML3D, KIT, Skeleton

SIZE = (160, 160)


def standing(skeleton: Skeleton, num_frames: int = 4, step_m: float = 0.0) -> np.ndarray:
    """A T-pose of the target bones, walking along z, in the skeleton's units."""
    joints = np.zeros((skeleton.num_joints, 3))
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            joints[joint] = joints[parent] + skeleton.target_offsets[joint]
    for left, right in skeleton.mirror_pairs:
        part = skeleton.joint_names[left].split("_")[1]
        if part in ("collar", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot"):
            joints[left, 0] = abs(joints[left, 0]) + 0.15 / skeleton.metres_per_unit
            joints[right, 0] = -joints[left, 0]
    joints[:, 1] -= joints[:, 1].min()
    path = np.arange(num_frames)[:, None, None] * np.array([0.0, 0.0, step_m / skeleton.metres_per_unit])
    return joints + path


def amount(picture: Image.Image, colour: tuple[int, int, int], box: tuple[int, int, int, int] | None = None) -> int:
    pixels = np.asarray(picture.crop(box) if box else picture).astype(int)
    return int((np.abs(pixels - np.array(colour)).sum(-1) < 30).sum())


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=["humanml3d", "kit"])
def test_seen_from_the_front_its_left_is_on_our_right(skeleton: Skeleton) -> None:
    (picture, *_) = draw_frames(standing(skeleton), skeleton, size=SIZE, azimuth=0.0)
    left_half, right_half = (0, 0, 80, 160), (80, 0, 160, 160)
    assert picture.size == SIZE
    assert amount(picture, LEFT, right_half) > 20 > 2 * amount(picture, LEFT, left_half)
    assert amount(picture, RIGHT, left_half) > 20 > 2 * amount(picture, RIGHT, right_half)
    assert amount(picture, INK) > 100


def test_the_camera_is_shared_and_everything_fits() -> None:
    joints = standing(HUMANML3D, 10, step_m=0.2)
    frames = draw_frames(joints, HUMANML3D, size=SIZE)
    assert len(frames) == 10
    # The body moves through a fixed picture.
    assert np.asarray(frames[0]).tobytes() != np.asarray(frames[9]).tobytes()
    camera = fit_camera(joints, SIZE)
    pixels, _ = camera.project(joints)
    assert pixels.min() > 0 and (pixels < SIZE).all()
    # One metre is as long in every frame and in both directions of the picture.
    front = Camera(0.0, 0.0, (0.0, 0.0, 0.0), 50.0, *SIZE)
    corners, depth = front.project(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(corners - corners[0], [[0, 0], [50, 0], [0, -50], [0, 0]], atol=1e-9)
    assert depth[3] > depth[0]


def test_a_following_camera_keeps_the_body_large() -> None:
    joints = standing(HUMANML3D, 16, step_m=0.8)
    fixed = draw_frames(joints, HUMANML3D, size=SIZE)[8]
    following = draw_frames(joints, HUMANML3D, size=SIZE, follow=True)[8]
    assert amount(following, INK) > 4 * amount(fixed, INK)


def test_a_given_camera_is_used() -> None:
    joints = standing(HUMANML3D)
    camera = Camera(0.0, 0.0, (100.0, 0.0, 0.0), 50.0, *SIZE)
    assert amount(draw_frames(joints, HUMANML3D, camera=camera)[0], INK) == 0


def test_captions_per_frame() -> None:
    joints = standing(HUMANML3D, 2)
    plain, other = draw_frames(joints, HUMANML3D, size=SIZE, captions=["", "a person stands and stands and stands"])
    bottom = (0, 120, 160, 160)
    assert amount(plain, BACKGROUND, bottom) > amount(other, BACKGROUND, bottom)
    same = draw_frames(joints, HUMANML3D, size=SIZE, caption="stands")
    assert amount(same[0], INK) == amount(same[1], INK) > amount(plain, INK)
    with pytest.raises(ValueError, match=r"captions has 1 entries for 2 frames"):
        draw_frames(joints, HUMANML3D, captions=["one"])


def test_contact_sheet() -> None:
    joints = standing(HUMANML3D, 30, step_m=0.05)
    sheet = contact_sheet(joints, HUMANML3D, num_poses=5, columns=3, size=(100, 90), caption="walk", follow=True)
    assert sheet.size == (300, 24 + 180)
    for place in range(5):
        x, y = place % 3 * 100, 24 + place // 3 * 90
        assert amount(sheet, INK, (x, y, x + 100, y + 90)) > 30
    assert amount(sheet, INK, (200, 114, 300, 204)) == 0
    assert contact_sheet(joints[:2], HUMANML3D, num_poses=9, columns=2, size=(80, 80)).size == (160, 80)
    with pytest.raises(ValueError, match=r"num_poses is 0, columns is 6"):
        contact_sheet(joints, HUMANML3D, num_poses=0)


@pytest.mark.parametrize("fps", [20.0, 12.5, 30.0])
def test_gif_lasts_as_long_as_the_motion(tmp_path: Path, fps: float) -> None:
    frames = draw_frames(standing(HUMANML3D, 12, step_m=0.1), HUMANML3D, size=(80, 80))
    path = tmp_path / "motion.gif"
    save_gif(frames, path, fps)
    with Image.open(path) as animation:
        assert (animation.format, getattr(animation, "n_frames", 0), animation.info["loop"]) == ("GIF", 12, 0)
        total = 0
        for index in range(12):
            animation.seek(index)
            total += animation.info["duration"]
        assert abs(total - 12000 / fps) <= 5
        first = np.asarray(animation.convert("RGB")).astype(int)
    assert np.abs(first - np.asarray(frames[11]).astype(int)).mean() < 12
    assert list(tmp_path.iterdir()) == [path]


def test_unusable_animations(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frames is empty"):
        save_gif([], tmp_path / "a.gif", 20.0)
    with pytest.raises(ValueError, match=r"fps is 90\.0; legal: above 0, at most 50"):
        save_gif([Image.new("RGB", (4, 4))], tmp_path / "a.gif", 90.0)


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (np.zeros((3, 21, 3)), r"joints have shape \(3, 21, 3\); expected \[T, 22, 3\]"),
        (np.zeros((0, 22, 3)), r"T at least 1"),
        (np.full((2, 22, 3), np.nan), r"not finite"),
    ],
)
def test_unusable_joints(joints: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_frames(joints, HUMANML3D)
