"""What is written is read back: BVH and GLB to the joints, SMPL within what is said, videos to the frame."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from motions.base.errors import UserError
from motions.bvh.joints import map_joints
from motions.bvh.reader import parse_bvh
from motions.files.bvh import bvh_text
from motions.files.glb import glb_bytes
from motions.files.motion import Motion
from motions.files.rigging import global_turns, make_rig
from motions.files.settings import ExportSettings, Format
from motions.files.smpl import smpl_distance, smpl_poses
from motions.files.writing import planned_files, unique_names, write_motions
from motions.humanoid.mocap import load_clip
from motions.humanoid.points import humanoid_skeleton, pose_points
from motions.humanoid.retarget import retarget
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.synthetic_motion import walking_joints

pytestmark = pytest.mark.slow

FPS = 30.0


@cache
def walk(kind: str) -> Motion:
    """A walk of a skeleton; `shaky` has bones that change their lengths, as those of a network's output do."""
    pose = load_clip("walk").pose(torch.arange(24, dtype=torch.float64) / FPS)
    if kind == "humanoid":
        return Motion(kind, pose_points(pose).astype(np.float32), humanoid_skeleton(FPS), FPS)
    if kind == "kit":
        return Motion(kind, walking_joints(KIT, 24) * KIT.metres_per_unit, KIT, KIT.fps)
    joints = retarget(pose).numpy()
    if kind == "shaky":
        joints = joints + np.random.default_rng(0).normal(0.0, 0.01, joints.shape)
    return Motion(kind, joints.astype(np.float32), HUMANML3D, FPS, (("walks", 0, 12), ("goes on", 12, 24)))


def written(folder: Path, motions: list[Motion], formats: list[Format]) -> list[tuple[Path, ...]]:
    """Paths of the files of each format."""
    return [files.paths for files in write_motions(folder, motions, formats, str)]


KINDS = ("rigid", "shaky", "humanoid", "kit")


@pytest.mark.parametrize("kind", KINDS)
def test_bvh_has_the_motion_s_joints(kind: str) -> None:
    motion = walk(kind)
    bvh = parse_bvh(bvh_text(motion), "written.bvh")
    times = np.arange(len(motion.joints)) / motion.fps
    nodes = [bvh.index(name) for name in motion.skeleton.joint_names]
    np.testing.assert_allclose(bvh.positions(times)[:, nodes], motion.joints, atol=1e-4)
    assert bvh.num_frames == len(motion.joints) and bvh.frame_time == pytest.approx(1 / motion.fps)
    assert bvh.notes == () and not bvh.adds_positions
    moving = sum(len(node.channels) == 6 for node in bvh.nodes)
    # The humanoid's bones are rigid, those of HumanML3D are not at the pelvis.
    assert moving == {"humanoid": 1, "rigid": 4}.get(kind, moving) and (kind != "shaky" or moving == 22)


def test_joints_of_a_written_bvh_are_recognised_by_their_names() -> None:
    bvh = parse_bvh(bvh_text(walk("rigid")), "written.bvh")
    joint_map = map_joints(bvh)
    found = joint_map.apply(bvh.positions(np.arange(24) / FPS))
    np.testing.assert_allclose(found, walk("rigid").joints, atol=1e-4)


def test_a_rig_s_rest_pose_is_a_t_pose_and_knees_turn_about_one_axis() -> None:
    rig = make_rig([walk("rigid")])
    place = {name: rig.rest[_path(rig.parents, index)].sum(axis=0) for index, name in enumerate(rig.names)}
    assert place["left_wrist"][0] - place["left_shoulder"][0] > 0.5
    assert abs(place["left_wrist"][1] - place["left_shoulder"][1]) < 0.05
    knee = Rotation.from_quat(rig.takes[0].turns[:, rig.names.index("left_knee")], scalar_first=True).as_rotvec()
    # In the rest pose thigh and shin are not one line, which counts less in a bent knee.
    bent = knee[np.linalg.norm(knee, axis=1) > 0.6]
    assert len(bent) > 5 and (bent[:, 0] / np.linalg.norm(bent, axis=1) > 0.97).all()


def test_a_bone_without_length_turns_with_its_parent() -> None:
    joints = walk("rigid").joints.copy()
    joints[:, HUMANML3D.index("head")] = joints[:, HUMANML3D.index("neck")]
    turns = global_turns(torch.from_numpy(joints), HUMANML3D)
    neck, chest = (turns[:, HUMANML3D.index(name)] for name in ("neck", "spine3"))
    assert torch.isfinite(turns).all() and torch.equal(neck, chest)


@pytest.mark.parametrize("kind", KINDS)
def test_glb_has_the_motion_s_joints_at_every_key(kind: str) -> None:
    motion = walk(kind)
    longer = Motion("mirrored", motion.joints[::-1].copy(), motion.skeleton, motion.fps)
    document: Any = pygltflib.GLTF2.load_from_bytes(glb_bytes([motion, longer]))
    assert [animation.name for animation in document.animations] == [kind, "mirrored"]
    for animation, expected in zip(document.animations, (motion, longer), strict=True):
        keys = accessor(document, animation.samplers[0].input)
        np.testing.assert_allclose(keys, np.arange(len(expected.joints)) / expected.fps, atol=1e-6)
        places, _ = animated_joints(document, animation)
        np.testing.assert_allclose(places[:, : expected.skeleton.num_joints], expected.joints, atol=1e-4)


def test_glb_has_a_skinned_body_around_the_joints() -> None:
    motion = walk("rigid")
    document: Any = pygltflib.GLTF2.load_from_bytes(glb_bytes([motion]))
    skin, body = document.skins[0], document.nodes[-1]
    assert body.skin == 0 and skin.joints == list(range(22)) and document.scenes[0].nodes == [0, 22]
    bind = np.linalg.inv(accessor(document, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1))
    for primitive in document.meshes[0].primitives:
        points = accessor(document, primitive.attributes.POSITION)
        normals = accessor(document, primitive.attributes.NORMAL)
        joints = accessor(document, primitive.attributes.JOINTS_0)
        triangles = accessor(document, primitive.indices).reshape(-1, 3)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)
        assert (accessor(document, primitive.attributes.WEIGHTS_0).sum(axis=1) == 1).all()
        # Each point is near a bone that its joint carries.
        assert np.linalg.norm(points - bind[joints[:, 0], :3, 3], axis=1).max() < 0.7
        a, b, c = (points[triangles[:, corner]] for corner in range(3))
        faces = np.cross(b - a, c - a)
        assert (np.linalg.norm(faces, axis=1) > 0).all()
        assert ((faces * normals[triangles].mean(axis=1)).sum(axis=1) > 0).all(), "triangles look outwards"


def test_the_end_of_a_stretched_bone_stays_around_the_joint_there() -> None:
    joints = walk("rigid").joints.copy()
    knee, foot = (HUMANML3D.index(name) for name in ("left_knee", "left_foot"))
    hip = HUMANML3D.parents[knee]
    stretch = 0.3 * (joints[:, knee] - joints[:, hip]) * np.linspace(0.0, 1.0, len(joints))[:, None]
    joints[:, [knee, HUMANML3D.parents[foot], foot]] += stretch[:, None]
    document: Any = pygltflib.GLTF2.load_from_bytes(glb_bytes([Motion("stretched", joints, HUMANML3D, FPS)]))
    assert [node.name for node in document.nodes if node.name.endswith("_place")] == ["left_knee_place"]
    places, turns = animated_joints(document, document.animations[0])
    bind = np.linalg.inv(accessor(document, document.skins[0].inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1))
    seen = 0
    for primitive in document.meshes[0].primitives:
        points = accessor(document, primitive.attributes.POSITION)
        carried = accessor(document, primitive.attributes.JOINTS_0)[:, 0]
        for joint in np.unique(carried[carried >= HUMANML3D.num_joints]).tolist():
            rest = points[carried == joint] - bind[joint, :3, 3]
            for frame in (0, len(joints) - 1):
                skinned = places[frame, joint] + turns[joint][frame].apply(rest)
                distances = np.linalg.norm(skinned - joints[frame, knee], axis=1)
                np.testing.assert_allclose(distances, distances[0], atol=1e-4)
                seen += 1
    assert seen == 2


@pytest.mark.parametrize(("kind", "most_m"), [("rigid", 0.035), ("shaky", 0.045), ("humanoid", 0.07), ("kit", 0.1)])
def test_smpl_parameters_are_in_amass_s_layout_and_near_the_motion(kind: str, most_m: float, tmp_path: Path) -> None:
    motion = walk(kind)
    [[path]] = written(tmp_path, [motion], ["npz"])
    assert path.name == f"{kind}_smpl_approximate.npz"
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    shapes = {"poses": (24, 156), "trans": (24, 3), "betas": (16,)}
    assert {name: arrays[name].shape for name in shapes} == shapes
    assert (str(arrays["gender"]), float(arrays["mocap_framerate"])) == ("neutral", motion.fps)
    assert str(arrays["approximate"]).startswith("Approximate: ")
    assert not arrays["poses"][:, 66:].any() and np.abs(arrays["poses"]).max() <= np.pi + 1e-9
    # AMASS is z up, and SMPL has its pelvis 22 cm below and 3 cm in front of the origin of `trans`, in its own axes.
    if kind == "rigid":
        x, y, z = (arrays["trans"] + np.array([-0.002, -0.223, 0.028])).T
        np.testing.assert_allclose(np.stack([-x, z, y], axis=-1), motion.joints[:, 0], atol=1e-6)
    distance = smpl_distance(motion, smpl_poses(motion))
    assert 0.0 < distance < most_m


def test_smpl_rotations_of_the_mean_body_are_found_again() -> None:
    """The mean body's own joints have no shape to be wrong about: their positions come back exactly."""
    body = smpl_poses(walk("rigid"))
    motion = Motion("body", body.joints(), HUMANML3D, FPS)
    np.testing.assert_allclose(smpl_poses(motion).joints(), motion.joints, atol=1e-3)


def test_videos_have_every_frame_and_the_rate(tmp_path: Path) -> None:
    motions = [walk("rigid"), walk("kit")]
    [[first, second], [gif, _]] = written(tmp_path, motions, ["mp4", "gif"])
    for path, motion in ((first, motions[0]), (second, motions[1])):
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            assert stream.codec_context.name == "h264" and (stream.width, stream.height) == (640, 480)
            assert stream.average_rate is not None and float(stream.average_rate) == motion.fps
            pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(pictures) == 24 and not np.array_equal(pictures[0], pictures[12])
    with Image.open(gif) as picture:
        assert getattr(picture, "n_frames", 1) == 24


def test_what_was_written_is_said_with_its_size_and_time(tmp_path: Path) -> None:
    one, many = write_motions(tmp_path, [walk("rigid"), walk("shaky")], ["html", "npz"], lambda: 20_000 * "x")
    assert re.fullmatch(rf"html: {tmp_path}/index.html, 0.02 MB, \d+.\d s", str(one))
    assert re.fullmatch(rf"npz: 2 files in {tmp_path}, 0.0\d MB, \d+.\d s", str(many))


def test_gifs_of_fast_motions_leave_frames_out(tmp_path: Path) -> None:
    fast = Motion("fast", walk("rigid").joints, HUMANML3D, 120.0)
    [[path]] = written(tmp_path, [fast], ["gif"])
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 8


def test_nothing_is_overwritten_and_names_are_unique(tmp_path: Path) -> None:
    motion, other = walk("rigid"), walk("humanoid")
    (tmp_path / "rigid.bvh").write_text("mine")
    with pytest.raises(UserError, match=r"rigid\.bvh exists, and nothing is overwritten"):
        write_motions(tmp_path, [motion], ["html", "bvh"], lambda: pytest.fail("written first"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(UserError, match=r"two motions would be rigid_smpl_approximate\.npz"):
        write_motions(tmp_path, [motion, motion], ["npz"], str)
    named = unique_names([motion, motion, other])
    assert [one.name for one in named] == ["rigid", "rigid_2", "humanoid"]
    # Animations of one file have one skeleton.
    assert planned_files(named, ["glb", "html"]) == [
        "motions_deepmimic_humanoid.glb",
        "motions_humanml3d.glb",
        "index.html",
    ]


def test_formats_are_separated_by_commas_or_spaces() -> None:
    assert ExportSettings.of(formats=("bvh,glb", "mp4,bvh")).formats == ("bvh", "glb", "mp4")
    for wrong in ((), ("fbx",), ("bvh,,fbx",)):
        with pytest.raises(ValueError, match="formats"):
            ExportSettings.of(formats=wrong)


def test_motions_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"a: joints are \[4, 21, 3\]; a motion of humanml3d is \[1 or more, 22, 3\]"):
        Motion("a", np.zeros((4, 21, 3)), HUMANML3D, FPS)
    with pytest.raises(UserError, match="b: a joint of frame 2 is not finite"):
        Motion("b", np.where(np.arange(4)[:, None, None] == 2, np.nan, np.zeros((4, 22, 3))), HUMANML3D, FPS)


def accessor(document: Any, index: int | None) -> np.ndarray:
    """The values of an accessor, [N] or [N, K]."""
    one = document.accessors[index]
    view, blob = document.bufferViews[one.bufferView], document.binary_blob()
    kind = {pygltflib.FLOAT: "<f4", pygltflib.UNSIGNED_SHORT: "<u2", pygltflib.UNSIGNED_BYTE: "u1"}[one.componentType]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[one.type]
    values = np.frombuffer(blob, kind, one.count * width, view.byteOffset).reshape(one.count, width)
    return values[:, 0] if width == 1 else values


def animated_joints(document: Any, animation: pygltflib.Animation) -> tuple[np.ndarray, list[Rotation]]:
    """World positions [T, J, 3] and rotations ([J] of T) of the skin's joints at the keys, by SciPy's rotations."""
    tracks = {
        (channel.target.node, channel.target.path): accessor(document, animation.samplers[channel.sampler].output)
        for channel in animation.channels
    }
    parents = {child: index for index, node in enumerate(document.nodes) for child in node.children or ()}
    count = len(accessor(document, animation.samplers[0].input))
    places: list[np.ndarray] = []
    turns: list[Rotation] = []
    for joint in document.skins[0].joints:
        node = document.nodes[joint]
        place = tracks.get((joint, "translation"), np.tile(node.translation or [0, 0, 0], (count, 1)))
        turn = Rotation.from_quat(tracks.get((joint, "rotation"), np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))))
        if joint in parents:
            place = places[parents[joint]] + turns[parents[joint]].apply(place)
            turn = turns[parents[joint]] * turn
        places.append(place)
        turns.append(turn)
    return np.stack(places, axis=1), turns


def _path(parents: tuple[int, ...], joint: int) -> list[int]:
    return [] if joint < 0 else [*_path(parents, parents[joint]), joint]
