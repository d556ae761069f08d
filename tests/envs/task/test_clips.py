"""The clips that a character imitates: names, files of every kind, and motions of several in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.settings import BODY_NAMES, DeepMimicSettings
from envs.task.clips import is_file, open_clip, own_motion
from envs.task.reference_tables import named_table
from motions.base.errors import UserError
from motions.humanoid.mocap import ClipError, clips_folder, load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.features import extract_features
from motions.skeleton.rotations import quat_inverse, quat_multiply, quat_to_rotation_vector
from motions.skeleton.skeletons import HUMANML3D, KIT
from tests.toys.characters.mocap_files import Recording


def person(clip: str = "walk", frames: int = 41) -> np.ndarray:
    """Joints [F, 22, 3] of a built-in clip at 20 frames per second."""
    return retarget(load_clip(clip).pose(torch.arange(frames) / 20.0)).numpy().astype(np.float32)


def results(path: Path, *motions: np.ndarray) -> Path:
    """A file as jobs.generate writes it, with one text."""
    arrays = np.stack([joints.transpose(1, 2, 0) for joints in motions])
    lengths = np.array([len(joints) for joints in motions])
    texts = np.array(["a person walks"] * len(motions))
    np.savez(path, motion=arrays, text=texts, lengths=lengths, num_samples=1, num_repetitions=len(motions))
    return path


@pytest.mark.parametrize("kind", ["joints", "features", "results", "bvh"])
def test_a_file_of_a_walk_is_the_walk_on_the_humanoid(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("mine.bvh" if kind == "bvh" else "mine.npz" if kind == "results" else "mine.npy")
    if kind == "bvh":
        Recording(clip="walk", seconds=2.0).write(path)
    elif kind == "results":
        results(path, person())
    else:
        np.save(path, person() if kind == "joints" else extract_features(person(), HUMANML3D).astype(np.float32))
    motion = own_motion(str(path))
    assert motion.source is not None and not motion.clip.cyclic
    times = torch.arange(1.0, 38.0) / 20.0
    mine, true = motion.clip.pose(times), load_clip("walk").pose(times)
    turns = quat_to_rotation_vector(quat_multiply(quat_inverse(mine.ball_rotations), true.ball_rotations)).norm(dim=-1)
    # Features and BVH files have another heading; neck, spine and twist of straight limbs are the fit's choice.
    assert turns[:, 1:].mean() < 0.2
    assert (mine.hinge_angles - true.hinge_angles).abs().mean() < (0.2 if kind == "bvh" else 0.06)
    height = float((mine.root_positions - true.root_positions)[:, 1].mean())
    assert abs(height) < (0.06 if kind == "bvh" else 0.03)
    assert np.quantile(motion.heights.min(axis=1), 0.05) == pytest.approx(0.0, abs=1e-9)
    assert motion.misfit_m < 0.1 and "path 1.9" in str(motion)


def test_a_motion_that_floats_is_put_on_the_floor_and_says_by_how_much(tmp_path: Path) -> None:
    low, high = tmp_path / "low.npy", tmp_path / "high.npy"
    np.save(low, person())
    np.save(high, person() + np.array([0.0, 0.4, 0.0], np.float32))
    raised = [own_motion(str(path)).raised_m for path in (low, high)]
    # Metres of the person are a little less on the smaller humanoid.
    assert raised[0] - raised[1] == pytest.approx(0.4, abs=0.05)
    assert f"raised by {100 * raised[1]:.1f} cm" in str(own_motion(str(high)))
    torch.testing.assert_close(
        own_motion(str(low)).clip.root_positions, own_motion(str(high)).clip.root_positions, atol=1e-4, rtol=0.0
    )


def test_bodies_on_the_floor_are_named_because_they_are_falls(tmp_path: Path) -> None:
    np.save(tmp_path / "crawl.npy", person("crawl"))
    crawl = own_motion(str(tmp_path / "crawl.npy"))
    assert {"right_wrist", "right_knee"} & set(crawl.on_the_floor) and "--ground_bodies" in str(crawl)
    assert set(crawl.on_the_floor) < set(BODY_NAMES) - {"left_ankle", "right_ankle"}
    np.save(tmp_path / "walk.npy", person())
    assert own_motion(str(tmp_path / "walk.npy")).on_the_floor == ()


def test_one_of_several_motions_is_named_or_the_one_whose_feet_slide_least(tmp_path: Path) -> None:
    sliding = person() + np.linspace(0.0, 3.0, 41, dtype=np.float32)[:, None, None] * np.array([1, 0, 0], np.float32)
    path = str(results(tmp_path / "results.npz", sliding, person(), sliding))
    with pytest.raises(
        UserError, match=r"results.npz holds 3 motions; name one .*#sample00_rep00: .*rep02; or .*#best"
    ):
        own_motion(path)
    with pytest.raises(UserError, match="has no motion sample07"):
        own_motion(f"{path}#sample07")
    second, best = own_motion(f"{path}#sample00_rep01"), own_motion(f"{path}#best")
    torch.testing.assert_close(second.clip.root_positions, best.clip.root_positions)
    assert best.clip.name == "sample00_rep01"
    folder = own_motion(f"{tmp_path}#best")
    torch.testing.assert_close(folder.clip.root_positions, best.clip.root_positions)


def test_what_is_wrong_with_a_file_is_said_in_a_line(tmp_path: Path) -> None:
    np.save(tmp_path / "kit.npy", np.zeros((30, KIT.num_joints, 3), np.float32))
    with pytest.raises(UserError, match=r"kit\.npy: its skeleton is kit; legal: humanml3d"):
        own_motion(str(tmp_path / "kit.npy"))
    np.save(tmp_path / "lost.npy", 100.0 * person())
    with pytest.raises(ClipError, match=r"lost\.npy: the root moves at"):
        open_clip(str(tmp_path / "lost.npy"))
    with pytest.raises(UserError, match="no such file"):
        own_motion(str(tmp_path / "none.bvh"))
    own = f"{clips_folder()}/humanoid3d_walk.txt"
    with pytest.raises(UserError, match="holds one motion; leave out #1"):
        own_motion(f"{own}#1")
    assert is_file(own) and own_motion(own).source is None and not is_file("walk")


def test_a_table_is_computed_again_when_its_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    options = (0.0, "hinge", False, 60.0)
    np.save(path, person())
    first = named_table(str(path), *options)[1]
    assert named_table(str(path), *options)[1] is first
    np.save(path, person("run", 31))
    clip, second = named_table(str(path), *options)
    assert second is not first and clip.num_frames == 31


@pytest.mark.parametrize("name", ["humanoid3d_walk.txt", "humanoid3d_walk", "data/motions/humanoid3d_walk.txt"])
def test_names_of_files_of_deepmimic_mean_the_built_in_clip(name: str, tmp_path: Path) -> None:
    assert DeepMimicSettings.model_validate({"mocap": name}).motion == ("walk",)
    there = tmp_path / "humanoid3d_walk.txt"
    there.write_bytes((clips_folder() / "humanoid3d_run.txt").read_bytes())
    assert DeepMimicSettings.model_validate({"motion": str(there)}).motion == (str(there),)
    torch.testing.assert_close(open_clip(str(there)).root_positions, load_clip("run").root_positions)
