"""The reference tables and the humanoid: poses, velocities, Euler branches, cycles, lifts, bad clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.body.frames import rotations_to_z_up, to_z_up
from envs.body.joint_coordinates import COORDINATES
from envs.body.mujoco_import import Data, mujoco
from envs.body.mujoco_model import build_humanoid
from envs.body.rotations import continuous_euler, euler_angles, euler_rates, quaternion_of, rotation_matrices
from envs.body.state import KinematicsReader
from envs.body.tracked import TRACKED_BODIES, end_effectors_in
from envs.settings import BODY_NAMES, DeepMimicSettings, HumanoidSettings
from envs.task.clips import open_clip
from envs.task.reference import ReferenceMotion
from envs.task.reference_tables import lowest_point
from motions.humanoid.kinematics import BALL_BODIES, HINGE_BODIES
from motions.humanoid.mocap import ClipError, clips_folder, load_clip


def reference(motion: str = "walk", **options: object) -> ReferenceMotion:
    return ReferenceMotion(DeepMimicSettings.model_validate({"motion": motion, **options}))


def at(motion: ReferenceMotion, times: np.ndarray, clip: int = 0):
    return motion.state(np.full(len(times), clip), times, np.zeros((len(times), 3)))


def test_the_model_is_that_of_the_tables() -> None:
    for joints, nq in (("hinge", 35), ("ball", 43)):
        model = build_humanoid(HumanoidSettings.model_validate({"joints": joints}))
        assert (model.nq, model.nv, model.nu) == (nq, 34, 28)
        assert model.body_mass.sum() == pytest.approx(45.0)
        data: Data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        # Standing straight the soles are .05 under the ankles: hip, knee and ankle above each other.
        assert lowest_point(model, data) == pytest.approx(-0.421546 - 0.40987 - 0.05)
    ids = [model.body(name).id for name in ("right_wrist", "left_wrist")]
    right, left = data.xpos[ids]
    assert right[1] < 0 < left[1]


def test_rest_of_ball_shoulders_is_a_level_arm() -> None:
    model = build_humanoid(HumanoidSettings(joints="ball"))
    data: Data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    shoulder, elbow = (data.xpos[model.body(name).id] for name in ("left_shoulder", "left_elbow"))
    np.testing.assert_allclose(elbow - shoulder, 0.274788 * np.array([0.5**0.5, 0.5**0.5, 0.0]), atol=1e-9)


@pytest.mark.parametrize("name", ["walk", "roll", "backflip", "getup_faceup"])
def test_tables_agree_with_the_clip(name: str) -> None:
    motion = reference(name, seam_blend_s=0.0, reward_preset="pybullet", keep_cycle_height=True)
    clip = load_clip(name)
    times = np.random.default_rng(0).uniform(-1.0, 2.5, 40) * clip.duration
    pose = clip.pose(torch.from_numpy(times), keep_height=True)
    velocity = clip.velocity(torch.from_numpy(times))
    tracked = at(motion, times).tracked
    np.testing.assert_allclose(tracked.root_position, to_z_up(pose.root_positions.numpy()), atol=2e-3)
    balls = rotations_to_z_up(pose.ball_rotations.numpy())
    for index, body in enumerate(BALL_BODIES):
        ours = tracked.rotations[:, TRACKED_BODIES.index(body)]
        np.testing.assert_allclose(np.abs((ours * balls[:, index]).sum(-1)), 1.0, atol=1e-6)
    inside = (times > 0.0) & (times < clip.duration)  # the table of a clip that stands still keeps its last velocity
    spins = to_z_up(velocity.ball_angular.numpy())
    for index, body in enumerate(BALL_BODIES):
        ours = tracked.velocities[inside, TRACKED_BODIES.index(body)]
        np.testing.assert_allclose(ours, spins[inside, index], atol=0.35)  # blended over corners of the key frames
    knees = [BODY_NAMES.index(name) for name in ("right_knee", "left_knee")]
    assert at(motion, times).body_positions[:, knees, 2].max() < 2.5


def test_a_cycle_moves_the_root_and_nothing_else() -> None:
    motion = reference("jump", seam_blend_s=0.0)
    times = np.array([0.3, 0.9])
    here, later = at(motion, times), at(motion, times + 3 * motion.durations[0])
    shift = 3 * motion.offsets[0]
    assert shift[2] == 0.0 and shift[0] == pytest.approx(3 * 1.066, abs=2e-3)
    np.testing.assert_allclose(later.body_positions, here.body_positions + shift, atol=1e-9)
    np.testing.assert_allclose(later.tracked.rotations, here.tracked.rotations, atol=1e-9)
    np.testing.assert_allclose(later.tracked.end_effectors, here.tracked.end_effectors, atol=1e-9)


def test_a_clip_may_climb(tmp_path: Path) -> None:
    content = json.loads((clips_folder() / "humanoid3d_walk.txt").read_text())
    for index, row in enumerate(content["Frames"]):
        row[2] += 0.01 * index
    path = tmp_path / "stairs.txt"
    path.write_text(json.dumps(content))
    level = reference(str(path), seam_blend_s=0.0)
    rising = reference(str(path), seam_blend_s=0.0, keep_cycle_height=True)
    assert (level.offsets[0, 2], rising.offsets[0, 2]) == (0.0, pytest.approx(0.38, abs=0.02))
    times = np.array([0.2, 1.0])
    here, later = at(rising, times), at(rising, times + 2 * rising.durations[0])
    rise = 2 * rising.offsets[0, 2]
    np.testing.assert_allclose((later.body_positions - here.body_positions)[..., 2], rise, atol=1e-9)
    np.testing.assert_allclose((later.tracked.end_effectors - here.tracked.end_effectors)[..., 2], rise, atol=1e-9)
    with pytest.raises(ValueError, match="keep_cycle_height needs seam_blend_s 0"):
        reference("walk", keep_cycle_height=True)


def test_nothing_is_blended_across_the_seam() -> None:
    """spinkick's last pose is a radian away from its first; a blend of the two would be neither."""
    motion = reference("spinkick", seam_blend_s=0.0)
    duration = motion.durations[0]
    before, after = at(motion, np.array([duration - 1e-9, duration + 1e-9])).tracked.rotations
    first, last = at(motion, np.array([0.0, 0.999999 * duration])).tracked.rotations
    np.testing.assert_allclose(np.abs((after * first).sum(-1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.abs((before * last).sum(-1)), 1.0, atol=1e-6)
    assert np.abs((before * after).sum(-1)).min() < 0.95
    smooth = at(reference("spinkick", seam_blend_s=0.2), np.array([duration - 1e-9, duration + 1e-9])).tracked.rotations
    np.testing.assert_allclose(np.abs((smooth[0] * smooth[1]).sum(-1)), 1.0, atol=1e-6)


@pytest.mark.parametrize("joints", ["hinge", "ball"])
def test_the_start_is_the_reference_itself(joints: str) -> None:
    """qpos and qvel, read back through the engine's kinematics, give the compared rotations, velocities and places."""
    settings = DeepMimicSettings.model_validate({"motion": "jump", "joints": joints})
    motion = ReferenceMotion(settings)
    times = np.linspace(0.0, 1.7, 23)
    clip = np.zeros(len(times), dtype=np.int64)
    qpos, qvel = motion.start(clip, times)
    state = KinematicsReader(settings, "velocity", with_bodies=False).read(qpos, qvel)
    wanted = at(motion, times)
    assert state.com is not None and wanted.tracked.com is not None
    np.testing.assert_allclose(np.abs((state.rotations * wanted.tracked.rotations).sum(-1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(state.velocities, wanted.tracked.velocities, atol=0.15)
    np.testing.assert_allclose(state.root_linear, wanted.tracked.root_linear, atol=1e-9)
    np.testing.assert_allclose(state.com, wanted.tracked.com, atol=1e-2)
    lift = (state.body_positions - wanted.body_positions)[..., 2]
    np.testing.assert_allclose(lift, np.broadcast_to(lift[:, :1], lift.shape), atol=1e-4)
    np.testing.assert_allclose(motion.target(clip, times, np.zeros((23, 3))).coordinates, state.coordinates, atol=1e-4)


def test_a_start_that_sinks_into_the_ground_is_lifted() -> None:
    motion = reference("roll")
    assert motion.lowest[0].min() < -0.05
    model = build_humanoid(HumanoidSettings())
    data: Data = mujoco.MjData(model)
    times = np.linspace(0.0, 2.0, 50)
    qpos, _ = motion.start(np.zeros(50, dtype=np.int64), times)
    heights = []
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        heights.append(lowest_point(model, data))
    assert min(heights) > -2e-3
    assert max(heights) == pytest.approx(motion.lowest[0].max(), abs=2e-3)  # what is above the ground stays there


def test_lowest_point_of_every_shape() -> None:
    model = build_humanoid(HumanoidSettings())
    data: Data = mujoco.MjData(model)
    data.qpos[:7] = [0, 0, 0, *quaternion_of(np.array([0.0, np.pi / 2, 0.0]))]  # face down, level
    mujoco.mj_kinematics(model, data)
    # The feet point down: .177 long, .045 before the ankle.
    assert lowest_point(model, data) == pytest.approx(-(0.045 + 0.0885))


def test_euler_coordinates_are_continuous_and_give_the_rotation() -> None:
    motion = reference("spinkick", seam_blend_s=0.0)
    times = np.linspace(0.0, motion.durations[0] * 0.9999, 400)
    clip = np.zeros(400, dtype=np.int64)
    coordinates = motion.target(clip, times, np.zeros((400, 3))).coordinates
    assert np.abs(np.diff(coordinates, axis=0)).max() < 1.0  # plain angles jump by 2.97
    hip = COORDINATES.index("right_hip_x")
    a, b, c = coordinates[:, hip : hip + 3].T
    zeros = np.zeros_like(a)
    product = np.eye(3)
    for angle, axis in ((a, 0), (b, 1), (c, 2)):
        vector = np.stack([angle if axis == index else zeros for index in range(3)], axis=-1)
        product = product @ rotation_matrices(quaternion_of(vector))
    wanted = rotation_matrices(at(motion, times).tracked.rotations[:, TRACKED_BODIES.index("right_hip")])
    np.testing.assert_allclose(product, wanted, atol=0.02)  # blended beside the singularity


def test_continuous_euler_follows_through_the_other_branch() -> None:
    """Where the middle angle passes a quarter turn the plain triple jumps by half a turn, the continuous does not."""
    middle = np.linspace(1.2, 1.9, 60)
    wanted = np.stack((np.full(60, 0.3), middle, np.full(60, -0.2)), axis=-1)
    plain = np.where(middle[:, None] > np.pi / 2, wanted * (1, -1, 1) + (np.pi, np.pi, np.pi), wanted)
    np.testing.assert_allclose(continuous_euler(plain), wanted, atol=1e-12)


def test_euler_rates_are_the_derivative() -> None:
    angles, rates, step = np.array([0.4, 0.7, -1.1]), np.array([0.5, -1.5, 2.0]), 1e-6

    def matrix(values: np.ndarray) -> np.ndarray:
        x, y, z = (rotation_matrices(quaternion_of(values[i] * np.eye(3)[i])) for i in range(3))
        return x @ y @ z

    np.testing.assert_allclose(euler_angles(matrix(angles)), angles)
    spin = matrix(angles).T @ (matrix(angles + step * rates) - matrix(angles - step * rates)) / (2 * step)
    np.testing.assert_allclose(euler_rates(angles, np.array([spin[2, 1], spin[0, 2], spin[1, 0]])), rates, atol=1e-8)


def test_a_clip_that_does_not_repeat_ends_at_rest() -> None:
    motion = reference("punch")
    clip, origin = np.zeros(3, dtype=np.int64), np.zeros((3, 3))
    end = motion.durations[0]
    target = motion.target(clip, np.array([end, end + 0.5, end + 9.0]), origin)
    np.testing.assert_array_equal(target.coordinates[1], target.coordinates[2])
    assert np.abs(target.rates[0]).max() > 0.0 == np.abs(target.rates[1:]).max()
    assert motion.phase(clip, np.array([0.5 * end, end, 2 * end])).tolist() == pytest.approx([0.5, 1.0, 1.0])


def test_several_clips_are_looked_up_by_index() -> None:
    both, walk, punch = reference("walk,punch"), reference("walk"), reference("punch")
    times, origin = np.array([0.2, 0.9]), np.arange(6.0).reshape(2, 3)
    clip = np.array([1, 0])
    mixed = both.state(clip, times, origin).body_positions
    np.testing.assert_array_equal(mixed[0], punch.state(np.zeros(1, int), times[:1], origin[:1]).body_positions[0])
    np.testing.assert_array_equal(mixed[1], walk.state(np.zeros(1, int), times[1:], origin[1:]).body_positions[0])
    assert both.chances.tolist() == [0.5, 0.5]
    assert reference("walk,punch", motion_weights=(3.0, 1.0)).chances.tolist() == [0.75, 0.25]


def test_world_and_root_frames_of_end_effectors() -> None:
    points = np.array([[[1.0, 2.0, 0.5]]])
    root = np.array([[1.0, 1.0, 0.9]])
    left = quaternion_of(np.array([[0.0, 0.0, np.pi / 2]]))
    np.testing.assert_array_equal(end_effectors_in("world", points, root, left), points)
    np.testing.assert_allclose(end_effectors_in("root", points, root, left), [[[1.0, 0.0, 0.5]]], atol=1e-12)


def test_an_unknown_motion_suggests_the_nearest() -> None:
    with pytest.raises(ClipError, match=r"unknown clip 'wlak'\. Did you mean 'walk'"):
        reference("wlak")
    with pytest.raises(ClipError, match="no motion file"):
        reference("somewhere/mine.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].pop(), "row 3 has 43 numbers"),
        (lambda rows: rows[2].__setitem__(0, 0.0), "row 2 lasts 0 s"),
        (lambda rows: rows[5].__setitem__(9, float("nan")), "row 5, column 9 is nan"),
        (lambda rows: rows[5].__setitem__(slice(8, 12), [0.0] * 4), "rotation of chest is a quaternion of norm zero"),
    ],
)
def test_malformed_clips_are_named(tmp_path: Path, change, message: str) -> None:
    content = json.loads((clips_folder() / "humanoid3d_walk.txt").read_text())
    change(content["Frames"])
    path = tmp_path / "broken.txt"
    path.write_text(json.dumps(content))
    with pytest.raises(ClipError, match=message) as error:
        reference(str(path))
    assert str(path) in str(error.value)


def test_a_clip_with_quaternions_of_any_length_is_the_same_clip(tmp_path: Path) -> None:
    content = json.loads((clips_folder() / "humanoid3d_walk.txt").read_text())
    for row in content["Frames"]:
        row[8:12] = [1.7 * value for value in row[8:12]]
    path = tmp_path / "long.txt"
    path.write_text(json.dumps(content))
    times = np.linspace(0.0, 1.2, 9)
    np.testing.assert_allclose(
        at(reference(str(path)), times).tracked.rotations, at(reference("walk"), times).tracked.rotations, atol=1e-9
    )


def test_a_short_clip_blends_at_most_a_quarter() -> None:
    assert open_clip("run", 5.0).seam_gaps()[1:].max() < 1e-6 < load_clip("run").seam_gaps()[1:].max()
    assert open_clip("punch", 0.1).cyclic is False
    assert HINGE_BODIES[0] == "right_knee"
