"""Every kind of file that holds motions is read, folders as the run or dataset that they are, and others named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.bvh.settings import BvhFileSettings
from motions.data.prompts import Prompt, Segment, save_prompts
from motions.files.motion import Motion
from motions.files.reading import MotionReader
from motions.files.settings import Format
from motions.files.writing import write_motions
from motions.humanoid.mocap import clips_folder, load_clip
from motions.humanoid.points import POINT_NAMES, pose_points
from motions.humanoid.retarget import retarget
from motions.skeleton.features import extract_features, recover_joints
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.synthetic_motion import walking_joints

JOINTS = retarget(load_clip("walk").pose(torch.arange(30, dtype=torch.float64) / 20)).numpy().astype(np.float32)


def read(path: Path, max_motions: int = 100, **options: Any) -> list[Motion]:
    return MotionReader(BvhFileSettings.of(**options), max_motions).read(path)


def one(path: Path, **options: Any) -> Motion:
    [motion] = read(path, **options)
    return motion


def written(folder: Path, motion: Motion, kind: Format) -> Path:
    return write_motions(folder, [motion], [kind], str)[0].paths[0]


def test_bvh_is_read_as_by_the_import_and_stands_on_the_floor(tmp_path: Path) -> None:
    path = written(tmp_path, Motion("walk", JOINTS + np.array([1.0, 0.5, 2.0]), HUMANML3D, 20.0), "bvh")
    motion = one(path)
    assert (motion.name, motion.fps, motion.skeleton) == ("walk", 20.0, HUMANML3D)
    expected = JOINTS - [JOINTS[0, 0, 0], JOINTS[..., 1].min(), JOINTS[0, 0, 2]]
    np.testing.assert_allclose(motion.joints, expected, atol=2e-4)
    # Said to have 10 frames a second, it lasts twice as long and is resampled.
    assert len(one(path, fps=10.0).joints) == 59 and one(path, fps=10.0).fps == 20.0
    assert np.ptp(one(path, up_axis="z").joints[0, :, 1]) < 1.0
    np.testing.assert_allclose(one(path, negate_x=True).joints, expected * [-1, 1, 1], atol=2e-4)
    np.testing.assert_allclose(one(path, scale=0.9).joints, 0.9 * expected, atol=2e-4)


def test_what_an_import_would_refuse_by_its_figures_is_shown_with_a_note(tmp_path: Path) -> None:
    still = np.repeat(JOINTS[:1], 50, axis=0)
    still[:, 21] += np.linspace(0, 0.1, 50)[:, None]
    path = written(tmp_path, Motion("still", still, HUMANML3D, 20.0), "bvh")
    reader = MotionReader()
    assert len(reader.read(path)) == 1
    assert any("the pelvis never moves" in note for note in reader.notes)


def test_arrays_are_features_or_joints_by_their_shape(tmp_path: Path) -> None:
    features = extract_features(JOINTS, HUMANML3D)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "joints.npy", JOINTS)
    motion = one(tmp_path / "features.npy")
    np.testing.assert_allclose(motion.joints, recover_joints(torch.from_numpy(features), HUMANML3D).numpy())
    np.testing.assert_array_equal(one(tmp_path / "joints.npy").joints, JOINTS)
    assert one(tmp_path / "joints.npy", fps=60.0).fps == 60.0
    kit = walking_joints(KIT, 20).astype(np.float32)
    for name, factor in (("units", 1.0), ("metres", KIT.metres_per_unit)):
        np.save(tmp_path / f"{name}.npy", kit * factor)
        np.testing.assert_allclose(one(tmp_path / f"{name}.npy").joints, kit * KIT.metres_per_unit, rtol=1e-5)
    np.save(tmp_path / "kit.npy", extract_features(kit, KIT))
    assert (one(tmp_path / "kit.npy").fps, len(one(tmp_path / "kit.npy").joints)) == (12.5, 19)
    np.save(tmp_path / "points.npy", np.zeros((3, len(POINT_NAMES), 3), np.float32))
    assert one(tmp_path / "points.npy").skeleton.name == "deepmimic_humanoid"


def test_clips_of_the_humanoid_are_read_at_any_rate() -> None:
    clip, path = load_clip("walk"), clips_folder() / "humanoid3d_walk.txt"
    motion = one(path, fps=60.0)
    times = torch.arange(len(motion.joints), dtype=torch.float64) / 60
    np.testing.assert_allclose(motion.joints, pose_points(clip.pose(times)))
    # One cycle, without the frame that is the next one's first.
    assert len(motion.joints) / 60 == pytest.approx(clip.duration, abs=1 / 60) and times[-1] < clip.duration
    assert one(path).fps == 30.0


def test_smpl_files_of_others_and_ours(tmp_path: Path) -> None:
    path = written(tmp_path, Motion("walk", JOINTS, HUMANML3D, 20.0), "npz")
    reader = MotionReader()
    [motion] = reader.read(path)
    assert motion.fps == 20.0 and "approximate" in reader.notes[0]
    assert np.linalg.norm(motion.joints - JOINTS, axis=-1).mean() < 0.035
    np.savez(tmp_path / "x.npz", poses=np.zeros((4, 165)), trans=np.zeros((4, 3)), mocap_frame_rate=np.array(120.0))
    assert one(tmp_path / "x.npz").fps == 120.0
    np.savez(tmp_path / "bad.npz", poses=np.zeros((4, 156)), trans=np.zeros((3, 3)), mocap_framerate=np.array(120.0))
    with pytest.raises(UserError, match=r"bad: poses \[4, 156\], trans \[3, 3\]"):
        read(tmp_path / "bad.npz")


def test_a_folder_of_results_of_samples_of_imitations_and_of_a_dataset(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    stacked = np.stack([JOINTS, JOINTS[::-1], JOINTS, JOINTS]).transpose(0, 2, 3, 1)
    arrays = {"motion": stacked, "text": np.array(["walks", "backs up"] * 2), "lengths": np.array([30, 20, 30, 10])}
    np.savez(results / "results.npz", **arrays, num_samples=np.array(2), num_repetitions=np.array(2))
    found = read(results)
    assert [(one.name, one.title, len(one.joints)) for one in found] == [
        *(("sample00_rep00", "walks", 30), ("sample01_rep00", "backs up", 20)),
        *(("sample00_rep01", "walks", 30), ("sample01_rep01", "backs up", 10)),
    ]
    np.testing.assert_array_equal(found[1].joints, JOINTS[:9:-1])

    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    save_prompts(samples / "prompts.jsonl", [Prompt("walks, kicks", (Segment("walks", 20), Segment("kicks", 10)))])
    for name, sign in (("before", 1), ("after", -1)):
        joints = np.stack([JOINTS * [sign, 1, 1]] * 2)
        lengths, index = np.array([30, 12]), np.array([0, 1])
        np.savez(samples / f"{name}.npz", joints=joints, lengths=lengths, prompt_index=index * 0, sample_index=index)
    found = read(tmp_path / "run")
    assert [one.name for one in found] == ["before_000_0", "after_000_0", "before_000_1", "after_000_1"]
    assert found[1].spans == (("walks", 0, 20), ("kicks", 20, 30)) and len(found[3].joints) == 12
    assert len(read(tmp_path / "run", max_motions=3)) == 3

    character = tmp_path / "character"
    character.mkdir()
    points = np.zeros((5, 18, 3), np.float32)
    pairs = {"reference0": points, "policy0": points[:3]}
    np.savez(character / "imitations.npz", phases=np.array([0.25]), control_hz=np.array(30.0), **pairs)
    assert [(one.name, one.title, one.fps) for one in read(character)] == [
        ("reference0", "reference from phase 0.25", 30.0),
        ("policy0", "policy from phase 0.25", 30.0),
    ]

    dataset = tmp_path / "dataset"
    for name in ("new_joint_vecs", "texts"):
        (dataset / name).mkdir(parents=True)
    np.save(dataset / "Mean.npy", np.zeros(263, np.float32))
    for name in ("000001", "000002"):
        np.save(dataset / "new_joint_vecs" / f"{name}.npy", extract_features(JOINTS, HUMANML3D))
        (dataset / "texts" / f"{name}.txt").write_text(f"clip {name}#clip/NOUN#0.0#0.0\n")
    assert [(one.name, one.title) for one in read(dataset)] == [("000001", "clip 000001"), ("000002", "clip 000002")]


def test_a_folder_of_files_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "walk.npy", JOINTS)
    np.save(tmp_path / "Mean.npy", np.zeros(263))
    (tmp_path / "captions.txt").write_text("walk.bvh, a person walks")
    (tmp_path / "cut.bvh").write_text("HIERARCHY\nROOT")
    reader = MotionReader()
    assert [motion.name for motion in reader.read(tmp_path)] == ["sub_walk"]
    [note] = reader.notes
    assert note.startswith("left out: ") and "cut.bvh" in note
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", JOINTS)
    few = MotionReader(max_motions=2)
    assert [motion.name for motion in few.read(tmp_path)] == ["0", "1"]
    assert few.notes[-1].startswith("3 more files")


HTML = "<!doctype html><html><body>Sign in</body></html>"
BAD: dict[str, tuple[str | np.ndarray | dict[str, np.ndarray], str]] = {
    "a.fbx": ("x", "is no motion file; read are .bvh, .npy, .npz, .txt, .pth, .pt"),
    "a.bvh": (HTML, "is a web page"),
    "b.bvh": ("version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "c.bvh": ("", "is empty"),
    "a.npy": ("not numpy", "is not a .npy file"),
    "b.npy": (np.zeros((4, 22)), r"is an array \[4, 22\] of float64; a motion is"),
    "c.npy": (np.full((4, 22, 3), np.nan), "a joint of frame 0 is not finite"),
    "d.npy": (np.zeros((0, 22, 3)), r"joints are \[0, 22, 3\]"),
    "a.npz": ({"observations": np.zeros(3)}, "holds no motion: its arrays are observations"),
    "b.npz": ("text", "is no NumPy archive"),
    "c.npz": (
        {"motion": np.zeros((2, 22, 3, 5)), "text": np.array(["a"]), "lengths": np.ones(2), "num_samples": np.array(1)},
        r"its arrays do not fit together: motion \[2, 22, 3, 5\], text \[1\]",
    ),
    "d.npz": ({"phases": np.zeros(1), "control_hz": np.array(30.0)}, "has no array policy0"),
    "a.txt": ("a person walks\n", "is not a motion file"),
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_files_are_named_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict):
        np.savez(path, **content)  # pyright: ignore[reportArgumentType]
    else:
        np.save(path, content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no motion: no \.bvh"):
        read(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="holds no motion"):
        read(tmp_path)
