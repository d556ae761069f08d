"""Figures of a recording, and what they say against it: nothing for real motions, and each fault by its figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motions.bvh.plausibility import Check, Finding, findings, frame_rate_fault, root_unit_misfit
from motions.humanoid.mocap import CLIP_NAMES, load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.figures import Figures, measure
from motions.skeleton.mirroring import mirror_joints
from motions.skeleton.skeletons import HUMANML3D

SIDES = ("right", "left")


def played(name: str, speed: float = 1.0, seconds: float = 5.0) -> np.ndarray:
    """A built-in clip at 20 frames per second."""
    clip = load_clip(name)
    length = seconds * speed if clip.cyclic else clip.duration
    return retarget(clip.pose(torch.arange(0.0, length, speed / 20.0, dtype=torch.float64))).numpy()


def figures_of(joints: np.ndarray, degrees: float = 90.0) -> Figures:
    return measure(joints, source_fps=30.0, rotation_degrees=degrees)


def against(joints: np.ndarray, degrees: float = 90.0) -> dict[Check, Finding]:
    """The worst finding of each check."""
    return {finding.check: finding for finding in reversed(findings(figures_of(joints, degrees)))}


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_nothing_is_said_against_captured_motion(name: str) -> None:
    joints = played(name)
    assert against(joints) == {} and root_unit_misfit(joints) is None
    assert against(mirror_joints(joints, HUMANML3D)) == {}


def test_figures_of_a_walk() -> None:
    figures = figures_of(played("walk"))
    assert figures.seconds == pytest.approx(4.95) and figures.upright and not figures.still and not figures.flies
    assert figures.speed_mps == pytest.approx(0.97, abs=0.05) and figures.path_m == pytest.approx(4.8, abs=0.2)
    assert figures.pelvis_height_m == pytest.approx(0.93, abs=0.03)
    assert min(figures.knees, figures.elbows, figures.feet) > 0.8 and figures.slide_mps < 0.25
    assert figures.gait is not None and figures.gait.step_s == pytest.approx(0.63, abs=0.05)
    assert figures.gait.step_m == pytest.approx(0.58, abs=0.05) and figures.gait.speed_mps == pytest.approx(
        0.9, abs=0.1
    )
    for part in ("4.95 s from 30 fps", "pelvis 0.9", "path 4.", "knees +0.9", "rotations to 90", "steps of 0."):
        assert part in str(figures)


@pytest.mark.parametrize("name", ["walk", "run"])
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.2])
def test_a_root_that_is_scaled_against_the_bones_is_told_by_the_feet(name: str, scale: float) -> None:
    joints = played(name)
    way = (joints[:, :1] - joints[:1, :1]) * [1.0, 0.0, 1.0]
    finding = against(joints + (scale - 1.0) * way)["root_motion"]
    share = figures_of(joints).carried
    assert share is not None and 0.95 < share < 1.15
    assert not finding.refuses and f"moves {scale * share:.2f} times as fast as its standing feet" in finding.text


@pytest.mark.parametrize("name", ["walk", "run"])
@pytest.mark.parametrize(
    ("done", "turn"), [("exchanged", [[0.0, 1.0], [1.0, 0.0]]), ("reversed", [[-1.0, 0.0], [0.0, -1.0]])]
)
def test_axes_of_the_root_that_are_not_those_of_the_bones_are_told_by_the_feet(
    name: str, done: str, turn: list[list[float]]
) -> None:
    joints = played(name)
    moved = joints.copy()
    way = (joints[:, :1] - joints[:1, :1])[..., [0, 2]]
    moved[..., [0, 2]] += way @ np.array(turn) - way
    finding = against(moved)["root_motion"]
    assert not finding.refuses and f"the two axes of the ground are {done}:" in finding.text


def test_an_arm_that_is_read_one_joint_off_is_told_by_its_collar() -> None:
    """Some rigs call the elbow an arm and the wrist a forearm, and name no hand."""
    joints = played("walk")
    for side in ("left", "right"):
        collar, shoulder, elbow, wrist = (
            HUMANML3D.index(f"{side}_{part}") for part in ("collar", "shoulder", "elbow", "wrist")
        )
        hand = joints[:, wrist] + 0.5 * (joints[:, wrist] - joints[:, elbow])
        joints[:, [collar, shoulder, elbow, wrist]] = np.stack(
            [joints[:, shoulder], joints[:, elbow], joints[:, wrist], hand], axis=1
        )
    finding = against(joints)["bones"]
    assert finding.text.startswith("the collars measure 0.9") and "--mapping" in finding.text


def test_one_pose_for_all_frames_is_said() -> None:
    found = against(np.repeat(played("walk")[:1], 60, axis=0))
    assert found["frozen"].text == "no joint ever moves: every frame holds the same pose"
    assert "in_place" not in found


def test_turning_and_moving_a_motion_changes_no_figure() -> None:
    joints = played("dance_a")
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    one, other = figures_of(joints), figures_of(joints @ turn.T + [3.0, 1.0, -2.0])
    assert str(one) == str(other)


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_exchanged_sides_are_told_by_knees_and_feet(name: str) -> None:
    finding = against(played(name) * [-1.0, 1.0, 1.0])["sides"]
    for words in ("feet point backwards (cosine -", " and the knees bend backwards (cosine -", "--negate_x true"):
        assert finding.refuses and words in finding.text


def test_without_toes_the_knees_tell_sides() -> None:
    joints = played("walk") * [-1.0, 1.0, 1.0]
    for side in SIDES:
        ankle = joints[:, HUMANML3D.index(f"{side}_ankle")]
        joints[:, HUMANML3D.index(f"{side}_foot")] = ankle - [0.0, 0.05, 0.0]
    finding = against(joints)["sides"]
    assert finding.refuses and "knees bend backwards (cosine -0.99, elbows -0." in finding.text


def test_arms_exchanged_against_legs_are_told() -> None:
    joints = played("walk")
    arms = [HUMANML3D.index(f"{side}_{part}") for side in SIDES for part in ("collar", "shoulder", "elbow", "wrist")]
    joints[:, arms] = joints[:, [*arms[4:], *arms[:4]]]
    assert "shoulder are exchanged against left and right hip" in against(joints)["sides"].text


def test_a_bone_that_changes_its_length_is_told() -> None:
    joints = played("walk")
    joints[:, 0] = joints[0, 0]
    finding = against(joints)["bones"]
    assert finding.refuses and "pelvis to " in finding.text and "--root" in finding.text


@pytest.mark.parametrize(
    ("part", "moved", "by", "other"),
    [
        ("hips", ("hip", "knee", "ankle", "foot"), (0.25, 0.0, 0.0), "legs"),
        ("shoulders", ("shoulder", "elbow", "wrist"), (0.4, 0.0, 0.0), "legs"),
        ("arms", ("elbow", "wrist"), (1.0, 0.0, 0.0), "legs"),
        ("forearms", ("wrist",), (0.8, 0.0, 0.0), "upper arms"),
        ("feet", ("foot",), (0.0, 0.0, 1.0), "legs"),
    ],
)
def test_limbs_that_no_person_has_are_warned_of(
    part: str, moved: tuple[str, ...], by: tuple[float, float, float], other: str
) -> None:
    """A standing body, each side of which is moved outwards by so many metres from one joint on."""
    joints = played("walk")[:1].repeat(60, axis=0)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for joint in moved:
            across = joints[0, HUMANML3D.index(f"{side}_hip")] - joints[0, HUMANML3D.index("pelvis")]
            outward = across * [1.0, 0.0, 1.0] / np.linalg.norm(across * [1.0, 0.0, 1.0])
            forward = np.cross(outward * sign, [0.0, 1.0, 0.0])
            joints[:, HUMANML3D.index(f"{side}_{joint}")] += by[0] * outward + by[2] * forward
    (finding,) = [one for one in findings(figures_of(joints)) if one.text.startswith(f"the {part} measure")]
    assert finding.check == "bones" and not finding.refuses
    assert f"times the {other}" in finding.text and "--mapping" in finding.text


def test_radians_are_told_by_the_range_of_rotations() -> None:
    assert against(played("walk"), 3.1)["rotations"].refuses
    assert "no rotation exceeds 3.10" in against(played("walk"), 3.1)["rotations"].text
    assert against(played("walk"), 6.5) == {}


@pytest.mark.parametrize(
    ("name", "speed", "refuses", "words"),
    [
        ("walk", 0.5, False, "about 2 times slower"),
        ("walk", 0.2, True, "about 5 times slower"),
        ("run", 0.25, True, "about 4 times slower"),
        ("run", 2.0, False, "faster than a sprinter's"),
        ("run", 3.0, True, "faster than a sprinter's"),
        ("walk", 2.0, False, "with a foot always on the ground"),
        ("jump", 0.5, False, "in the air it falls at 2.3 m/s^2, as if at 0.49 times the true speed"),
        ("jump", 0.25, True, "in the air it falls at 0.58 m/s^2, as if at 0.24 times the true speed"),
    ],
)
def test_a_wrong_frame_rate_is_told_by_steps_and_falls(name: str, speed: float, refuses: bool, words: str) -> None:
    finding = against(played(name, speed, 4.0 / speed))["pace"]
    assert finding.refuses == refuses and words in finding.text and "--fps" in finding.text


def test_a_speed_that_nobody_has_is_refused() -> None:
    joints = played("run")
    finding = against(joints + joints[:, :1] * [4.0, 0.0, 4.0])["speed"]
    assert finding.refuses and "the pelvis reaches 1" in finding.text


def test_two_takes_in_one_file_are_told_with_the_time() -> None:
    walk = played("walk")
    for metres, refuses in ((0.4, False), (2.0, True)):
        takes = np.concatenate([walk[:40], walk[40:80] + np.array([metres, 0.0, 0.0])])
        finding = against(takes)["jump"]
        assert finding.refuses == refuses and "at 1.95 s within one frame" in finding.text


def test_a_motion_without_its_translation_is_told() -> None:
    for name in ("walk", "run", "dance_a"):
        joints = played(name)
        on_the_spot = joints - joints[:, :1] * [1.0, 0.0, 1.0]
        finding = against(on_the_spot)["in_place"]
        assert not finding.refuses and "walks on the spot" in finding.text
    assert "the pelvis never moves" in against(played("punch") - played("punch")[:, :1])["in_place"].text


def test_a_figure_that_only_glides_is_told() -> None:
    pose = played("walk")[:1]
    path = np.zeros((60, 1, 3))
    path[:, 0, 2] = np.arange(60) / 20
    assert "the pelvis moves at 1.00 m/s, the feet at 0.00 m/s" in against(pose + path)["glide"].text


def test_a_body_far_above_its_lowest_point_is_told() -> None:
    joints = played("walk")
    joints[:10, :, 1] -= 2.0
    assert "above the lowest point" in against(joints)["height"].text


@pytest.mark.parametrize("name", ["walk", "run", "jump", "punch", "getup_faceup", "cartwheel"])
@pytest.mark.parametrize("ratio", [1000.0, 100.0, 0.01])
def test_a_root_in_another_unit_is_told_by_height_and_feet(name: str, ratio: float) -> None:
    joints = played(name)
    found = root_unit_misfit(joints + joints[:, :1] * (1.0 / ratio - 1.0))
    assert found is not None and found[0] == ratio
    assert f"in a unit {ratio:g} times that of the bones" in found[1] and "m above the origin" in found[1]


@pytest.mark.parametrize(
    ("frame_time", "words"),
    [
        (1 / 30, None),
        (1 / 240, None),
        (0.1, None),
        (33.333, "0.03 frames per second, which no recording has (it would be 30 if it is in milliseconds"),
        (8.333, "it would be 120 if it is in milliseconds"),
        (120.0, "(it would be 120 if it is in frames per second)"),
        (16667.0, "it would be 60 if it is in microseconds"),
        (1e-5, "1e+05 frames per second"),
    ],
)
def test_impossible_frame_times_are_told_with_what_they_could_mean(frame_time: float, words: str | None) -> None:
    fault = frame_rate_fault(frame_time)
    assert (fault is None) == (words is None)
    assert words is None or (fault is not None and words in fault and "--fps" in fault)


def test_the_worst_comes_first() -> None:
    walk = played("walk")
    found = findings(figures_of((walk - walk[:, :1] * [1.0, 0.0, 1.0]) * [-1.0, 1.0, 1.0], 3.0))
    assert [finding.refuses for finding in found] == sorted((f.refuses for f in found), reverse=True)
    assert {finding.check for finding in found} == {"rotations", "sides", "in_place"}
