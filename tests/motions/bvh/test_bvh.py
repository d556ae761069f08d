"""The BVH reader: every channel order, forward kinematics, resampling, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motions.bvh.reader import BvhError, parse_bvh, read_bvh
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.bvh_files import MIXAMO, Rig, animate, bvh_text, write_bvh

RIG = Rig(MIXAMO)
SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Bip01 L Thigh
  {
    OFFSET 0 1 0
    CHANNELS 1 Xrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.5
1 2 3 0 0 0 0
1 2 3 90 0 0 90
"""


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_joints_survive_a_file_in_any_channel_order(order: str, tmp_path: Path) -> None:
    animation = animate(RIG, 12)
    bvh = read_bvh(write_bvh(tmp_path / "walk.bvh", animation, order=order, unit=1.0))
    nodes = bvh.positions(np.arange(12) * bvh.frame_time)
    expected = animation.positions()
    for joint in RIG.joints:
        index = bvh.index(RIG.names[joint])
        np.testing.assert_allclose(nodes[:, index], expected[:, HUMANML3D.index(joint)], atol=1e-5)


def test_position_channels_replace_offsets() -> None:
    animation = animate(RIG, 5)
    bvh = parse_bvh(bvh_text(animation, unit=1.0, positions_everywhere=True), "walk")
    nodes = bvh.positions(np.arange(5) * bvh.frame_time)
    for joint in RIG.joints:
        expected = animation.positions()[:, HUMANML3D.index(joint)]
        np.testing.assert_allclose(nodes[:, bvh.index(RIG.names[joint])], expected, atol=1e-5)


def test_names_with_spaces_single_rotations_and_end_sites() -> None:
    bvh = parse_bvh(SMALL, "small")
    assert bvh.joint_names == ("Hips", "Bip01 L Thigh")
    assert [node.name for node in bvh.nodes] == ["Hips", "Bip01 L Thigh", "Bip01 L Thigh/End"]
    assert bvh.num_frames == 2 and bvh.duration == 0.5
    first, last = bvh.positions(np.array([0.0, 0.5]))
    np.testing.assert_allclose(first, [[1, 2, 3], [1, 3, 3], [1, 4, 3]], atol=1e-12)
    # The root turns 90 degrees about z, y becomes -x; then the thigh turns about its own x axis, y becomes z.
    np.testing.assert_allclose(last, [[1, 2, 3], [0, 2, 3], [0, 2, 4]], atol=1e-12)


def test_spelling_that_other_programs_use_is_read() -> None:
    loose = SMALL.replace("CHANNELS 1 Xrotation\n", "CHANNELS 1 XROTATION\n").replace("ROOT Hips\n{", "ROOT Hips {")
    loose = loose.replace("Frames: 2", "\nFrames:\t2\n").replace("\n", "\r\n").replace("OFFSET 0 0 0", "offset 0 0 0")
    bvh = parse_bvh(loose, "loose")
    np.testing.assert_array_equal(bvh.positions(np.array([0.5])), parse_bvh(SMALL, "small").positions(np.array([0.5])))


def test_resampling_slerps_and_keeps_bone_lengths() -> None:
    bvh = parse_bvh(SMALL, "small")
    middle = bvh.positions(np.array([0.25]))[0]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(middle[1] - middle[0], [-half, half, 0.0], atol=1e-12)
    times = np.linspace(-1.0, 2.0, 50)
    nodes = bvh.positions(times)
    np.testing.assert_allclose(np.linalg.norm(nodes[:, 2] - nodes[:, 1], axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(nodes[0], bvh.positions(np.array([0.0]))[0])
    np.testing.assert_allclose(nodes[-1], bvh.positions(np.array([0.5]))[0])


def test_resampling_a_fine_recording_gives_the_coarse_one() -> None:
    fine = animate(RIG, 121, fps=120.0)
    bvh = parse_bvh(bvh_text(fine, unit=1.0, fps=120.0), "fine")
    coarse = bvh.positions(np.arange(0, 21) / 20)
    np.testing.assert_allclose(coarse[:, bvh.index("mixamorig:Head")], fine.positions()[::6, 15], atol=1e-4)


def test_a_first_frame_in_rest_pose_is_noticed() -> None:
    assert parse_bvh(SMALL, "small").starts_in_rest_pose
    assert not parse_bvh(SMALL.replace("1 2 3 0 0 0 0", "1 2 3 0 0 0 1"), "small").starts_in_rest_pose
    assert not parse_bvh(SMALL.replace("1 2 3 90 0 0 90", "1 2 4 0 0 0 0"), "small").starts_in_rest_pose


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HIRARCHY", "clip.bvh:1: expected HIERARCHY, found 'HIRARCHY'"),
        ("MOTION\n", "", "no MOTION section"),
        ("OFFSET 0 1 0\n    CHANNELS", "OFFSET 0 one 0\n    CHANNELS", "clip.bvh:8: expected a number, found 'one'"),
        ("CHANNELS 1 Xrotation", "CHANNELS 1 Wrotation", "clip.bvh:9: expected 1 channels"),
        ("CHANNELS 1 Xrotation", "CHANNELS 2 Xrotation", "clip.bvh:10: expected 2 channels"),
        ("  }\n}\nMOTION", "  }\nMOTION", "clip.bvh:15: a } is missing before MOTION"),
        ("}\nMOTION", "}\n}\nMOTION", "clip.bvh:16: expected MOTION, found '}'"),
        ("}\nMOTION", "}\nROOT Other\n{\n}\nMOTION", "clip.bvh:16: a second ROOT"),
        ("JOINT Bip01 L Thigh", "JOINT Hips", "clip.bvh:6: a second joint 'Hips'"),
        ("JOINT Bip01 L Thigh", "JOINT", "a joint without a name"),
        ("    End Site", "    Ende", "clip.bvh:10: expected JOINT, End Site or }"),
        ("Frames: 2", "Frames: 0", "clip.bvh:17: Frames is '0', expected a positive number"),
        ("Frames: 2", "Frame: 2", "clip.bvh:17: expected 'Frames:', found 'Frame: 2'"),
        ("Frame Time: 0.5", "Frame Time: fast", "clip.bvh:18: Frame Time is 'fast'"),
        ("Frames: 2", "Frames: 3", "clip.bvh:20: 2 frames, but 'Frames:' promises 3"),
        ("1 2 3 90 0 0 90", "1 2 3 90 0 0", "clip.bvh:20: 6 values, the hierarchy has 7 channels"),
        ("1 2 3 90 0 0 90", "1 2 3 90 0 0 x", "clip.bvh:20: could not convert"),
        ("1 2 3 90 0 0 90", "1 2 3 nan 0 0 90", "clip.bvh:20: value 4 is not finite"),
    ],
)
def test_malformed_files_name_the_line(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(BvhError) as error:
        parse_bvh(SMALL.replace(old, new), "clip.bvh")
    assert message in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BvhError, match=r"absent.bvh: No such file"):
        read_bvh(tmp_path / "absent.bvh")
    (tmp_path / "noise.bvh").write_bytes(bytes(range(256)))
    with pytest.raises(BvhError, match=r"noise.bvh:\d+: no MOTION section"):
        read_bvh(tmp_path / "noise.bvh")
