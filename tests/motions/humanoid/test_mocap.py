"""The DeepMimic clips: layout, the traps of the stored files, interpolation, velocities, endless cycles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.humanoid.kinematics import BALL_BODIES, BODIES, BODY_INDEX, HINGE_BODIES, forward_kinematics
from motions.humanoid.mocap import CLIP_NAMES, ClipError, clips_folder, load_clip, read_clip
from motions.skeleton.rotations import quat_from_rotation_vector, quat_inverse, quat_multiply, quat_to_rotation_vector

# name: cyclic, frames, usual dt, duration, root travel, smallest and largest stored quaternion norm, largest joint gap
# between last and first frame (root apart)
TABLE: dict[str, tuple[bool, int, float, float, tuple[float, float, float] | None, float, float, float | None]] = {
    "walk": (True, 39, 0.033332, 1.2666, (1.239, 0, 0), 1, 1, 0.50),
    "run": (True, 25, 0.033332, 0.8000, (2.845, 0, 0), 1, 1, 0.39),
    "jump": (True, 107, 0.016666, 1.7666, (1.066, 0, 0.055), 0.983, 1.005, 0.36),
    "backflip": (True, 29, 0.0625, 1.7500, (-1.079, 0, 0), 0.926, 1.118, 0.10),
    "cartwheel": (True, 164, 0.016666, 2.7166, (-0.227, 0, -2.127), 0.966, 1, 0.47),
    "crawl": (True, 177, 0.016666, 2.9332, (0.771, 0, 0.031), 1, 1, 0.61),
    "dance_a": (True, 98, 0.016666, 1.6166, (0.198, 0, -1.154), 1, 1, 0.30),
    "dance_b": (True, 153, 0.016666, 2.5332, (0.141, 0, 0.057), 1, 1, 0.34),
    "roll": (True, 121, 0.016666, 2.0159, (0.902, 0, 0), 0.806, 1.006, 0.20),
    "spin": (True, 107, 0.041667, 4.4167, (-0.117, 0, -2.443), 0.903, 1.015, 0),
    "spinkick": (True, 78, 0.016666, 1.2833, (0.469, 0, 0.125), 1, 1, 1.01),
    "getup_facedown": (False, 183, 0.016666, 3.0332, None, 0.977, 1.014, None),
    "getup_faceup": (False, 227, 0.016666, 3.7665, None, 1, 1, None),
    "kick": (False, 47, 0.033333, 1.5333, None, 0.583, 1.059, None),
    "punch": (False, 65, 0.033333, 2.1333, None, 0.917, 1, None),
}
BALL_COLUMNS = (4, 8, 12, 16, 21, 25, 30, 35, 39)


def stored_rows(name: str) -> np.ndarray:
    return np.array(json.loads((clips_folder() / f"humanoid3d_{name}.txt").read_text())["Frames"])


def stored_quaternions(name: str) -> np.ndarray:
    return np.stack([stored_rows(name)[:, column : column + 4] for column in BALL_COLUMNS], axis=1)


def write_clip(folder: Path, rows: list[list[Any]], **keys: object) -> Path:
    path = folder / "clip.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": rows, **keys}))
    return path


def frame(duration: float = 0.1, x: float = 0.0) -> list[Any]:
    """A row in which nothing is turned."""
    row = [0.0] * 44
    row[0], row[1] = duration, x
    for column in BALL_COLUMNS:
        row[column] = 1.0
    return row


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_clips_are_those_of_the_table(name: str) -> None:
    cyclic, frames, dt, duration, travel, smallest, largest, gap = TABLE[name]
    clip = load_clip(name)
    assert (clip.cyclic, clip.num_frames) == (cyclic, frames)
    assert clip.duration == pytest.approx(duration, abs=6e-5)
    assert float(clip.times.diff().median()) == pytest.approx(dt, abs=1e-6)
    norms = np.linalg.norm(stored_quaternions(name), axis=-1)
    assert (norms.min(), norms.max()) == (pytest.approx(smallest, abs=6e-4), pytest.approx(largest, abs=6e-4))
    if travel is not None:
        np.testing.assert_allclose(clip.cycle_offset.numpy(), travel, atol=6e-4)
    if gap is not None:
        assert float(clip.seam_gaps()[1:].max()) == pytest.approx(gap, abs=0.011)


def test_trap_a_every_quaternion_is_normalised() -> None:
    for name in CLIP_NAMES:
        norms = load_clip(name).ball_rotations.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-12, rtol=0)


def test_trap_b_neighbours_are_on_one_side_of_the_sphere() -> None:
    flips = 0
    for name in CLIP_NAMES:
        stored = stored_quaternions(name)
        flips += int(((stored[1:] * stored[:-1]).sum(-1) < 0).sum())
        loaded = load_clip(name).ball_rotations
        assert bool(((loaded[1:] * loaded[:-1]).sum(-1) >= 0).all())
        # Flipping a sign does not change the rotation.
        same = (loaded.numpy() * stored).sum(-1) / np.linalg.norm(stored, axis=-1)
        np.testing.assert_allclose(np.abs(same), 1.0, atol=1e-9)
    assert flips == 16


def test_trap_c_times_are_cumulative() -> None:
    clip = load_clip("roll")
    steps = clip.times.diff()
    assert float(steps.max()) == pytest.approx(0.032666, abs=1e-6)
    assert clip.duration == pytest.approx(2.0159, abs=5e-5)  # 120 * dt would be 1.9999
    long = int(steps.argmax())
    middle = clip.pose((clip.times[long] + clip.times[long + 1]) / 2)
    expected = (clip.root_positions[long] + clip.root_positions[long + 1]) / 2
    torch.testing.assert_close(middle.root_positions, expected)


@pytest.mark.parametrize("last_duration", [0.0, 0.1, 7.0])
def test_trap_d_the_last_duration_means_nothing(tmp_path: Path, last_duration: float) -> None:
    clip = read_clip(write_clip(tmp_path, [frame(0.1), frame(0.3, x=1.0), frame(last_duration, x=2.5)]))
    assert clip.duration == pytest.approx(0.4)
    velocity = clip.frame_velocities.root_linear[:, 0]
    assert velocity.tolist() == pytest.approx([10.0, 5.0, 5.0])


def test_trap_e_the_getups_are_two_clips() -> None:
    assert len(CLIP_NAMES) == len(set(CLIP_NAMES)) == 15
    assert {"getup_facedown", "getup_faceup"} <= set(CLIP_NAMES)


def test_columns() -> None:
    row = stored_rows("walk")[5]
    clip = load_clip("walk")
    assert (
        *("root", "chest", "neck", "right_hip", "right_ankle", "right_shoulder", "left_hip", "left_ankle"),
        "left_shoulder",
    ) == BALL_BODIES
    assert HINGE_BODIES == ("right_knee", "right_elbow", "left_knee", "left_elbow")
    assert clip.hinge_angles[5].tolist() == [row[20], row[29], row[34], row[43]]
    assert clip.root_positions[5].tolist() == row[1:4].tolist()
    # Knees bend backwards, elbows forwards.
    assert float(clip.hinge_angles[:, [0, 2]].max()) <= 0 <= float(clip.hinge_angles[:, [1, 3]].min())


def test_unknown_keys_are_ignored_and_a_missing_loop_means_once(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path, [frame(), frame()], RightJoints=[3], CycleSyncRootRot=True), "mine")
    assert (clip.name, clip.cyclic) == ("mine", False)


def test_pose_interpolates(tmp_path: Path) -> None:
    bent = frame(0.0, x=2.0)
    bent[20] = -1.0
    bent[8:12] = [math.cos(0.6), 0.0, 0.0, math.sin(0.6)]  # chest turned by 1.2 about z
    pose = read_clip(write_clip(tmp_path, [frame(0.4), bent])).pose(torch.tensor([0.1, 0.3]))
    assert pose.root_positions[:, 0].tolist() == pytest.approx([0.5, 1.5])
    assert pose.hinge_angles[:, 0].tolist() == pytest.approx([-0.25, -0.75])
    torch.testing.assert_close(
        quat_to_rotation_vector(pose.ball_rotations[:, 1])[:, 2], torch.tensor([0.3, 0.9]).double()
    )


def test_velocities_have_their_frames(tmp_path: Path) -> None:
    """Root: world frame; joints: frame of the joint at the start of the interval; the short way round."""
    quarter = [math.cos(math.pi / 4), 0.0, 0.0, math.sin(math.pi / 4)]
    first, second = frame(0.5), frame(0.0)
    turn = quat_from_rotation_vector(torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64))
    for column in (4, 8):
        first[column : column + 4] = quarter
        after = quat_multiply(torch.tensor(quarter, dtype=torch.float64), turn)
        second[column : column + 4] = (-after).tolist()
    clip = read_clip(write_clip(tmp_path, [first, second]))
    speeds = clip.frame_velocities.ball_angular[0]
    # 0.2 rad in half a second about the body's x axis, which is the world's y axis after the quarter turn.
    torch.testing.assert_close(speeds[0], torch.tensor([0.0, 0.4, 0.0]).double())
    torch.testing.assert_close(speeds[1], torch.tensor([0.4, 0.0, 0.0]).double())


def test_query_velocity_blends_key_velocities_and_stops_at_the_end(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path, [frame(0.1), frame(0.1, x=1.0), frame(0.1, x=3.0), frame(0.0, x=3.0)]))
    speed = clip.velocity(torch.tensor([0.0, 0.05, 0.1, 0.15, 0.3, 0.31, 5.0, -0.1])).root_linear[:, 0]
    assert speed.tolist() == pytest.approx([10.0, 15.0, 20.0, 10.0, 0.0, 0.0, 0.0, 0.0])
    still = clip.pose(torch.tensor([-1.0, 9.0])).root_positions[:, 0]
    assert still.tolist() == [0.0, 3.0]


def test_cycles_go_on_in_both_directions() -> None:
    clip = load_clip("jump")
    times = torch.tensor([0.3], dtype=torch.float64)
    offset = clip.cycle_offset
    for count in (-2, 1, 3):
        moved = clip.pose(times + count * clip.duration)
        here = clip.pose(times)
        expected = here.root_positions + count * offset * torch.tensor([1.0, 0.0, 1.0])
        torch.testing.assert_close(moved.root_positions, expected)
        torch.testing.assert_close(moved.ball_rotations, here.ball_rotations)


def test_cycle_height_and_heading_are_kept_on_request() -> None:
    clip = load_clip("spin")
    rising = clip.pose(torch.tensor([clip.duration * 1.5]), keep_height=True).root_positions[0, 1]
    flat = clip.pose(torch.tensor([clip.duration * 1.5])).root_positions[0, 1]
    assert float(rising - flat) == pytest.approx(float(clip.cycle_offset[1]), abs=1e-12)
    # With the heading kept, the end of one cycle is the start of the next: position and root rotation.
    for count in (-1, 1, 2):
        eps = 1e-9
        before, after = (count * clip.duration + sign * eps for sign in (-1, 1))
        pose = clip.pose(torch.tensor([before, after], dtype=torch.float64), keep_heading=True)
        assert float(pose.root_positions.diff(dim=0)[:, [0, 2]].abs().max()) < 1e-6
        turn = quat_multiply(quat_inverse(pose.ball_rotations[0, 0]), pose.ball_rotations[1, 0])
        gap = float(quat_to_rotation_vector(turn).norm())
        assert gap == pytest.approx(float(clip.seam_gaps(keep_heading=True)[0]), abs=1e-5) and gap < 0.15
    assert float(clip.seam_gaps()[0]) > 0.3


def test_phase_of_any_time() -> None:
    clip = load_clip("walk")
    times = torch.tensor([0.0, 0.25, 1.0, 2.75, -0.25, -1e-20], dtype=torch.float64) * clip.duration
    phase = clip.phase(times)
    torch.testing.assert_close(phase[:5], torch.tensor([0.0, 0.25, 0.0, 0.75, 0.75]).double(), atol=1e-12, rtol=0)
    assert bool((phase >= 0).all()) and bool((phase < 1).all())
    assert load_clip("kick").phase(torch.tensor([-1.0, 99.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["spinkick", "crawl", "walk"])
def test_blended_seam_has_no_velocity_spike(name: str) -> None:
    clip = load_clip(name)
    blended = clip.with_blended_seam(0.3)
    assert float(blended.seam_gaps().max()) < 1e-9 < 0.3 < float(clip.seam_gaps().max())
    torch.testing.assert_close(blended.cycle_offset[[0, 2]], clip.cycle_offset[[0, 2]])
    middle = (clip.times > 0.3) & (clip.times < clip.duration - 0.3)
    torch.testing.assert_close(blended.ball_rotations[middle], clip.ball_rotations[middle])

    def spike(played: Any) -> float:
        around = torch.arange(clip.duration - 0.1, clip.duration + 0.1, 1 / 60, dtype=torch.float64)
        balls = played.pose(around).ball_rotations
        return float(quat_to_rotation_vector(quat_multiply(quat_inverse(balls[:-1]), balls[1:])).norm(dim=-1).max())

    assert spike(blended) < 0.5 * spike(clip)


def test_blended_seam_bounds() -> None:
    with pytest.raises(ValueError, match=r"kick does not repeat"):
        load_clip("kick").with_blended_seam(0.2)
    with pytest.raises(ValueError, match=r"seconds is 0\.9; legal for walk"):
        load_clip("walk").with_blended_seam(0.9)


def test_rotation_vectors_take_the_short_way() -> None:
    vectors = torch.tensor([[0.0, 0.0, 0.0], [1e-9, 0.0, 0.0], [0.3, -0.2, 3.0]], dtype=torch.float64)
    quats = quat_from_rotation_vector(vectors)
    torch.testing.assert_close(quat_to_rotation_vector(quats), vectors, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(quat_to_rotation_vector(-quats), vectors, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("clip_name", ["walk", "run"])
def test_agrees_with_pybullet(parity_dir: Path, clip_name: str) -> None:
    """Poses and key-frame velocities of the engine, which interpolates as stored: clips with unit quaternions only."""
    data = np.load(parity_dir / "deepmimic_pybullet.npz", allow_pickle=False)
    clip = load_clip(clip_name)
    times = torch.from_numpy(data[f"{clip_name}_ref_time_phase"][:, 0])
    stored = torch.from_numpy(data[f"{clip_name}_ref_pose"])
    pose = clip.pose(times, keep_height=True)
    torch.testing.assert_close(pose.root_positions, stored[:, :3], atol=1e-6, rtol=0)
    torch.testing.assert_close(clip.phase(times), torch.from_numpy(data[f"{clip_name}_ref_time_phase"][:, 1]))
    # x, y, z, w in the order root, then file order; knees and elbows are single numbers.
    ball_columns, hinge_columns, column = [3], [], 7
    for body in BODIES[1:]:
        if body.joint == "ball":
            ball_columns.append(column)
        elif body.joint == "hinge":
            hinge_columns.append(column)
        column += {"ball": 4, "hinge": 1, "fixed": 0, "free": 0}[body.joint]
    balls = torch.stack([stored[:, [c + 3, c, c + 1, c + 2]] for c in ball_columns], dim=1)
    assert float((balls * pose.ball_rotations).sum(-1).abs().min()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(stored[:, hinge_columns], pose.hinge_angles, atol=1e-6, rtol=0)
    frames = data[f"{clip_name}_ref_frame"][:, 1].astype(int)
    velocity = torch.from_numpy(data[f"{clip_name}_ref_vel"])
    inside = frames < clip.num_frames - 1
    torch.testing.assert_close(
        clip.frame_velocities.root_linear[frames[inside]], velocity[inside, :3], atol=1e-4, rtol=1e-4
    )


def test_forward_kinematics_of_the_standing_pose() -> None:
    still = torch.zeros(9, 4, dtype=torch.float64)
    still[:, 0] = 1.0
    root = torch.tensor([0.0, 0.9, 0.0], dtype=torch.float64)
    positions, turns = forward_kinematics(root, still, torch.zeros(4, dtype=torch.float64))
    ankle = positions[BODY_INDEX["right_ankle"]]
    torch.testing.assert_close(ankle, torch.tensor([0.0, 0.9 - 0.421546 - 0.40987, 0.084887]).double())
    wrist = positions[BODY_INDEX["left_wrist"]]
    expected = [-0.02405, 0.9 + 0.236151 + 0.2435 - 0.274788 - 0.258947, -0.18311]
    assert wrist.tolist() == pytest.approx(expected)
    assert turns.shape == (15, 4)
    # An elbow bent by a quarter turn points the forearm forward, a knee the shin backward.
    bent = torch.tensor([-math.pi / 2, math.pi / 2, 0.0, 0.0], dtype=torch.float64)
    positions, _ = forward_kinematics(root, still, bent)
    assert float(positions[BODY_INDEX["right_wrist"], 0] - positions[BODY_INDEX["right_elbow"], 0]) > 0.25
    assert float(positions[BODY_INDEX["right_ankle"], 0] - positions[BODY_INDEX["right_knee"], 0]) < -0.4


def test_unknown_clip_suggests_the_nearest() -> None:
    with pytest.raises(ClipError, match=r"unknown clip 'backfilp'\. Did you mean 'backflip'\?"):
        load_clip("backfilp")
    with pytest.raises(ClipError, match=r"unknown clip 'xyz'\. Built in: backflip"):
        load_clip("xyz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].pop(), r"row 1 has 43 numbers; a humanoid frame has 44"),
        (lambda rows: rows.pop(), r"has 1 frames; a motion needs at least 2"),
        (lambda rows: rows[1].__setitem__(7, math.nan), r"row 1, column 7 is nan"),
        (lambda rows: rows[0].__setitem__(1, math.inf), r"row 0, column 1 is inf"),
        (lambda rows: rows[0].__setitem__(0, 0.0), r"row 0 lasts 0 s; every row but the last"),
        (lambda rows: rows[0].__setitem__(0, -0.1), r"row 0 lasts -0.1 s"),
        (lambda rows: rows[1].__setitem__(8, 0.0), r"row 1: the rotation of chest is a quaternion of norm zero"),
        (lambda rows: rows[0].__setitem__(3, "up"), r"something that is not a number"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, change: Any, message: str) -> None:
    rows = [frame(), frame()]
    change(rows)
    with pytest.raises(ClipError, match=message) as raised:
        read_clip(write_clip(tmp_path, rows))
    assert "clip.txt" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"is not a motion file"),
        ("[]", r"no list 'Frames'"),
        ('{"Loop": "wrap"}', r"no list 'Frames'"),
        ('{"Loop": "twice", "Frames": []}', r"Loop is 'twice'; legal: 'wrap', 'none'"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(text)
    with pytest.raises(ClipError, match=message):
        read_clip(path)
    with pytest.raises(ClipError, match=r"there is no motion file"):
        read_clip(tmp_path / "absent.txt")
    with pytest.raises(ClipError, match=r"is no motion file, it is a folder"):
        read_clip(tmp_path)


def test_a_long_quaternion_is_normalised_not_refused(tmp_path: Path) -> None:
    second = frame()
    second[4:8] = [0.4, 0.0, 0.3, 0.0]
    clip = read_clip(write_clip(tmp_path, [frame(), second]))
    assert clip.ball_rotations[1, 0].tolist() == pytest.approx([0.8, 0.0, 0.6, 0.0])
