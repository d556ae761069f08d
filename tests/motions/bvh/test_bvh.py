"""The BVH reader: every channel order, forward kinematics, resampling, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motions.bvh.hierarchy import BvhError
from motions.bvh.reader import parse_bvh, read_bvh
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.bvh_files import MIXAMO, Rig, animate, bvh_text, write_bvh
from tests.toys.characters.mocap_files import JOINT_OF, Recording

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


def test_one_row_more_or_fewer_than_promised_is_taken_with_a_note() -> None:
    assert parse_bvh(SMALL, "clip.bvh").notes == ()
    for promised in (1, 3):
        bvh = parse_bvh(SMALL.replace("Frames: 2", f"Frames: {promised}"), "clip.bvh")
        assert bvh.num_frames == 2 and f"'Frames:' says {promised}, but there are 2 rows" in bvh.notes[0]


@pytest.mark.parametrize("positions", ["absolute", "relative"])
@pytest.mark.parametrize("rest", ["t_pose", "along_x"])
def test_position_channels_of_joints_replace_their_offset_or_are_added_to_it(positions: str, rest: str) -> None:
    recording = Recording(seconds=1.0, positions=positions, rest=rest, unit=1.0)
    bvh = parse_bvh(recording.text(), "walk")
    nodes = bvh.positions(np.arange(bvh.num_frames) * bvh.frame_time)
    for joint, path in recording.joints().items():
        body = next(body for body, name in JOINT_OF.items() if name == joint)
        np.testing.assert_allclose(nodes[:, bvh.index(recording.names[body])], path, atol=1e-4)
    assert bool(bvh.notes) == (positions == "relative")


def test_small_movements_of_joints_are_added_to_their_offset() -> None:
    """Stretching rigs: position channels that are near zero and change."""
    text = SMALL.replace("CHANNELS 1 Xrotation", "CHANNELS 4 Xposition Yposition Zposition Xrotation")
    text = text.replace("1 2 3 0 0 0 0", "1 2 3 0 0 0 0 0.1 0 0").replace("1 2 3 90 0 0 90", "1 2 3 0 0 0 0 0.2 0 0")
    np.testing.assert_allclose(parse_bvh(text, "clip").positions(np.zeros(1))[0, 1], [1.0, 3.1, 3.0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_in_other_encodings_of_unicode_are_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "clip.bvh").write_bytes(SMALL.replace("Hips", "Hüfte").encode(encoding))
    assert read_bvh(tmp_path / "clip.bvh").joint_names[0] == "Hüfte"


@pytest.mark.parametrize(("name", "encoding"), [("センター", "cp932"), ("Hüfte", "latin-1")])
def test_names_in_encodings_of_one_language_are_read(name: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "clip.bvh").write_bytes(SMALL.replace("Hips", name).encode(encoding))
    assert read_bvh(tmp_path / "clip.bvh").joint_names[0] == name


def test_several_roots_are_read_and_equal_names_told_apart() -> None:
    head, motion = SMALL.split("MOTION\n")
    body = head.split("HIERARCHY\n")[1]
    rows = "Frames: 1\nFrame Time: 0.5\n" + "1 2 3 0 0 0 0 4 5 6 0 0 0 0\n"
    bvh = parse_bvh(f"{head}{body}MOTION\n{rows}", "two")
    assert bvh.joint_names == ("Hips", "Bip01 L Thigh", "2:Hips", "2:Bip01 L Thigh")
    np.testing.assert_allclose(bvh.positions(np.zeros(1))[0, bvh.index("2:Hips")], [4, 5, 6])
    assert motion


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
        ("}\nMOTION", "}\nROOT Other\n{\n}\nMOTION", "clip.bvh:18: expected OFFSET"),
        (
            "    End Site",
            "".join(f"JOINT {n}\n{{\nOFFSET 0 1 0\n" for n in range(199)) + "End Site",
            "clip.bvh:604: more than 200 joints below",
        ),
        ("JOINT Bip01 L Thigh", "JOINT Hips", "clip.bvh:6: a second joint 'Hips'"),
        ("JOINT Bip01 L Thigh", "JOINT", "a joint without a name"),
        ("    End Site", "    Ende", "clip.bvh:10: expected JOINT, End Site or }"),
        ("Frames: 2", "Frames: 0", "clip.bvh:17: Frames is '0', expected a positive number"),
        ("Frames: 2", "Frame: 2", "clip.bvh:17: expected 'Frames:', found 'Frame: 2'"),
        ("Frame Time: 0.5", "Frame Time: fast", "clip.bvh:18: Frame Time is 'fast'"),
        ("Frames: 2", "Frames: 4", "clip.bvh:20: 2 frames, but 'Frames:' promises 4"),
        ("1 2 3 0 0 0 0\n1 2 3 90 0 0 90\n", "", "clip.bvh:18: no frames: the file is cut off"),
        ("1 2 3 90 0 0 90", "1 2 3 90 0 0", "clip.bvh:20: 6 values, the hierarchy has 7 channels"),
        ("1 2 3 90 0 0 90", "1 2 3 90 0 0 x", "clip.bvh:20: could not convert"),
        ("1 2 3 90 0 0 90", "1 2 3 nan 0 0 90", "clip.bvh:20: value 4 is not finite"),
        ("1 2 3 90 0 0 90", "1 2 3 90 0 -1e30 90", "clip.bvh:20: value 6 is -1e+30, beyond 1e+09"),
        ("OFFSET 0 1 0\n    CHANNELS", "OFFSET 0 1e300 0\n    CHANNELS", "clip.bvh:8: OFFSET 1e+300 is beyond 1e+09"),
        ("CHANNELS 1 Xrotation", "CHANNELS 2 Xrotation Xrotation", "clip.bvh:9: Xrotation stands twice"),
        ("CHANNELS 1 Xrotation", "CHANNELS 3 Xposition Yposition Xposition", "clip.bvh:9: Xposition stands twice"),
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
    for content, what in (
        (bytes(range(1, 256)), r":\d+: no MOTION section"),
        (b"", r" is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", " is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", " is a web page"),
        (b"PK\x03\x04rest", " is a zip archive"),
        (b"Kaydara FBX Binary  \x00", " is an FBX file"),
    ):
        (tmp_path / "noise.bvh").write_bytes(content)
        with pytest.raises(BvhError, match=f"noise.bvh{what}"):
            read_bvh(tmp_path / "noise.bvh")
