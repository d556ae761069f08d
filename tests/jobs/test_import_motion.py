"""A folder of BVH files and a captions table become a dataset that loads, or one clear error and nothing on disk."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from jobs import import_motion
from jobs.command_line import main as cli
from jobs.configs.import_motion import ImportConfig
from jobs.text.motion_import import choose_splits
from motions.base.errors import UserError
from motions.bvh.caption_table import read_caption_table
from motions.data.dataset import load_dataset
from motions.skeleton.features import canonicalise, recover_joints, retarget_uniform
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.bvh_files import MIXAMO, Rig, animate, write_bvh

pytestmark = pytest.mark.slow

RIG = Rig(MIXAMO)


@pytest.fixture
def mocap(tmp_path: Path) -> Path:
    """Three files of one rig and a table with four clips."""
    for seed, (name, frames) in enumerate({"walk": 60, "sub/kick": 130, "turn": 45}.items()):
        write_bvh(tmp_path / "mocap" / f"{name}.bvh", animate(RIG, frames, seed=seed, fps=20.0))
    rows = [
        ("file", "caption", "start", "end"),
        ("walk.bvh", "a person walks, then turns left", "", ""),
        ("walk.bvh", "someone walks", "", ""),
        ("sub/kick", "a kick with the right leg", "0.5", "3"),
        ("sub/kick", "a person stands", "3", "6"),
        ("turn.bvh", "turns clockwise", "", ""),
    ]
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def call(folder: Path, *flags: str) -> int:
    words = ["--bvh_dir", str(folder / "mocap"), "--captions", str(folder / "captions.csv")]
    words += ["--save_dir", str(folder / "data"), *flags]
    return cli.main(
        ImportConfig,
        import_motion.run,
        import_motion.__doc__,
        "jobs.import_motion",
        plan=import_motion.plan,
        argv=words,
    )


def test_a_folder_becomes_a_dataset_that_loads(mocap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(mocap, "--test_share", "0.3") == 0
    report = capsys.readouterr().out
    assert "left_knee=mixamorig:LeftLeg" in report and "centimetres (0.01 m)" in report and "up axis: y" in report
    assert (mocap / "data" / "import_report.txt").read_text() in report
    dataset = load_dataset(str(mocap / "data"))
    assert dataset.skeleton == HUMANML3D
    train, test = dataset.items("train"), dataset.items("test")
    clips = {item.captions: item for item in (*train, *test)}
    assert len(train) + len(test) == 2 * 4
    assert clips["a kick with the right leg",].num_frames == 50
    assert clips["a person walks, then turns left", "someone walks"].num_frames == 59
    assert ("a person walks, then turns right", "someone walks") in clips
    assert ("turns counterclockwise",) in clips
    assert json.loads((mocap / "data" / "dataset.json").read_text()) == {"skeleton": "humanml3d"}
    with (mocap / "data" / "index.csv").open() as file:
        rows = {row["new_name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 8 and {row["source_path"] for row in rows.values()} == {"walk.bvh", "sub/kick.bvh", "turn.bvh"}
    (kick,) = [row for name, row in rows.items() if row["start"] == "0.500" and not name.startswith("M")]
    assert kick["end"] == "3.000" and kick["num_frames"] == "50"
    lists = {
        name: (mocap / "data" / f"{name}.txt").read_text().split() for name in ("train", "test", "all", "train_val")
    }
    assert sorted(lists["train"] + lists["test"]) == sorted(lists["all"]) == sorted(rows)
    assert not (mocap / "data" / "val.txt").exists()


def test_features_are_those_of_the_recorded_motion(mocap: Path) -> None:
    assert call(mocap, "--test_share", "0", "--mirror", "false", "--official_heading") == 0
    known = animate(RIG, 60, seed=0, fps=20.0).positions()
    expected = canonicalise(retarget_uniform(known, HUMANML3D), HUMANML3D)
    (walk,) = [item for item in load_dataset(str(mocap / "data")).items("train") if "someone walks" in item.captions]
    recovered = recover_joints(torch.from_numpy(walk.features), HUMANML3D).numpy()
    np.testing.assert_allclose(recovered, expected[:-1], atol=1e-4)
    joints = np.load(mocap / "data" / "new_joints" / f"{walk.clip_id}.npy")
    np.testing.assert_allclose(joints, recovered, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"unit": 0.0254, "order": "XYZ"}, ()),
        ({"unit": 1.0, "basis": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])}, ()),
        ({"unit": 1.0, "positions_everywhere": True}, ("--scale", "1", "--up_axis", "y")),
        ({"fps": 120.0}, ()),
    ],
    ids=["inches", "z up", "given scale", "120 fps"],
)
def test_units_axes_and_rates_do_not_matter(options: dict, flags: tuple[str, ...], tmp_path: Path) -> None:
    fps = options.get("fps", 20.0)
    animation = animate(RIG, int(3 * fps) + 1, seed=5, fps=fps)
    write_bvh(tmp_path / "mocap" / "walk.bvh", animation, **options)
    (tmp_path / "captions.csv").write_text("file;caption\nwalk.bvh;a person walks\n")
    assert call(tmp_path, "--test_share", "0", "--retarget", "false", "--official_heading", *flags) == 0
    known = canonicalise(animation.positions()[:: int(fps / 20)], HUMANML3D)
    vectors = np.load(tmp_path / "data" / "new_joint_vecs" / "000000.npy")
    recovered = recover_joints(torch.from_numpy(vectors), HUMANML3D).numpy()
    np.testing.assert_allclose(recovered, known[:-1], atol=1e-3)


def test_dry_run_reports_and_writes_nothing(mocap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(mocap, "--dry_run") == 0
    output = capsys.readouterr().out
    assert "train: " in output and "mapped: pelvis=mixamorig:Hips" in output and "nothing was written" in output
    assert not (mocap / "data").exists()


def test_long_clips_are_cut_into_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bvh(tmp_path / "mocap" / "walk.bvh", animate(RIG, 251, fps=20.0))
    (tmp_path / "captions.csv").write_text('file,caption\nwalk.bvh,"walks, for long"\n')
    assert call(tmp_path, "--test_share", "0", "--mirror", "false", "--max_frames", "100") == 0
    assert "1 stretches became 3 clips" in capsys.readouterr().out
    items = load_dataset(str(tmp_path / "data")).items("train")
    assert sorted(item.num_frames for item in items) == [83, 83, 84]
    assert {item.captions for item in items} == {("walks, for long",)}


def test_floor_of_the_file_keeps_a_jump_in_the_air(tmp_path: Path) -> None:
    animation = animate(RIG, 120, fps=20.0)
    animation.root[60:, 1] += 0.5
    write_bvh(tmp_path / "mocap" / "jump.bvh", animation)
    (tmp_path / "captions.csv").write_text("file,caption,start,end\njump,in the air,3,\n")
    lowest = {}
    for floor in ("clip", "file"):
        config: dict[str, Any] = {
            "bvh_dir": tmp_path / "mocap",
            "captions": tmp_path / "captions.csv",
            "save_dir": tmp_path / floor,
        }
        import_motion.run(ImportConfig.of(**config, floor=floor, test_share=0.0))
        lowest[floor] = np.load(tmp_path / floor / "new_joints" / "000000.npy")[..., 1].min()
    assert lowest["clip"] == pytest.approx(0.0, abs=0.01)
    assert lowest["file"] == pytest.approx(0.5, abs=0.1)


def test_official_heading_keeps_the_sign_flip(tmp_path: Path) -> None:
    animation = animate(RIG, 150, fps=20.0)
    animation.turns[0] = Rotation.from_euler("Y", np.linspace(0.0, 5.0, 150)[:, None])
    write_bvh(tmp_path / "mocap" / "turn.bvh", animation)
    (tmp_path / "captions.csv").write_text("file,caption\nturn,a person turns around\n")
    backwards = {}
    for official in (False, True):
        config: dict[str, Any] = {"bvh_dir": tmp_path / "mocap", "captions": tmp_path / "captions.csv"}
        folder = tmp_path / f"data{official}"
        import_motion.run(ImportConfig.of(**config, save_dir=folder, official_heading=official, test_share=0.0))
        yaw = np.load(folder / "new_joint_vecs" / "000000.npy")[1:, 0]
        backwards[official] = int((np.sign(yaw) != np.sign(np.median(yaw))).sum())
    assert backwards == {False: 0, True: 1}


def test_left_handed_files_are_refused_until_negated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swap = {"Left": "Right", "Right": "Left"}
    exchanged = {joint: re.sub("Left|Right", lambda side: swap[side[0]], name) for joint, name in MIXAMO.items()}
    write_bvh(tmp_path / "mocap" / "walk.bvh", animate(Rig(exchanged), 60))
    (tmp_path / "captions.csv").write_text("file,caption\nwalk,a person walks\n")
    assert call(tmp_path, "--test_share", "0") == 2
    assert "the feet point backwards" in capsys.readouterr().err
    assert call(tmp_path, "--test_share", "0", "--negate_x") == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,caption\nwlak.bvh,a person walks\n", "captions.csv:2: no file 'wlak.bvh' in"),
        ("file,caption\nwlak.bvh,a person walks\n", "the nearest is 'walk.bvh'"),
        ("file,caption\nwalk,a person walks\n", "no caption for sub/kick.bvh, turn.bvh; --skip_uncaptioned true"),
        ("file,text\nwalk,a person walks\n", "captions.csv:1: unknown column 'text'"),
        ("file,start\nwalk,0\n", "captions.csv:1: expected one column 'caption'"),
        ("file,caption\nwalk,\n", "captions.csv:2: caption is empty"),
        ("file,caption\n,a person walks\n", "captions.csv:2: file is empty"),
        ("file,caption\nwalk,walks #2\n", "has a '#'"),
        ("file,caption\nwalk,walks, then stops\n", "captions.csv:2: more values than columns"),
        ("file,caption,start,end\nwalk,walks,2,1\n", "captions.csv:2: start 2 is not before end 1"),
        ("file,caption,start,end\nwalk,walks,soon,1\n", "captions.csv:2: start is 'soon', expected seconds"),
        ("file,caption\n", "captions.csv: no captions in it"),
        ("file,caption,start,end\nwalk,walks,1,9\n", "walk.bvh: 1 to 9 s is no stretch of this file, which is 2.95 s"),
        (
            "file,caption,start,end\nwalk,walks,1,2\n",
            "(line 2 of the captions): the clip has 20 frames at 20 per second",
        ),
    ],
)
def test_bad_tables_are_one_clear_error(
    table: str, message: str, mocap: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mocap / "captions.csv").write_text(table)
    flags = [] if "uncaptioned" in message else ["--skip_uncaptioned", "--test_share", "0"]
    assert call(mocap, *flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("error:") == 1
    assert not (mocap / "data").exists()


def test_bad_files_are_one_clear_error(mocap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kick = mocap / "mocap" / "sub" / "kick.bvh"
    text = kick.read_text()
    for old, new, message in (
        ("mixamorig:LeftLeg", "Stilt", "kick.bvh: no joint found for left_knee"),
        ("Frames: 130", "Frames: 135", "130 frames, but 'Frames:' promises 135"),
        ("HIERARCHY", "", "kick.bvh:2: expected HIERARCHY"),
    ):
        kick.write_text(text.replace(old, new))
        assert call(mocap) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("error:") == 1
    kick.write_text(text)
    for flags, message in (
        (("--scale", "1"), "scale=1 makes legs"),
        (("--mapping", str(mocap / "absent.yaml")), "absent.yaml: No such file"),
        (("--val_share", "0.5", "--test_share", "0.5"), "leave nothing to train on"),
        (("--val_share", "0.4", "--test_share", "0.5"), "3 files do not fill the splits train, test, val"),
        (("--max_frames", "500"), "--max_frames 500"),
        (("--floor", "sea"), "--floor sea"),
    ):
        assert call(mocap, *flags) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in mocap.iterdir()) == ["captions.csv", "mocap"]
    (mocap / "mocap").rename(mocap / "gone")
    assert call(mocap) == 2
    assert "no such folder" in capsys.readouterr().err
    (mocap / "mocap").mkdir()
    assert call(mocap) == 2
    assert "no .bvh files in it" in capsys.readouterr().err


def test_nothing_is_overwritten(mocap: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mocap / "data").mkdir()
    assert call(mocap) == 0, "an empty folder may be filled"
    before = {path: path.stat().st_mtime_ns for path in (mocap / "data").rglob("*")}
    capsys.readouterr()
    assert call(mocap) == 2
    assert "is not empty; nothing is overwritten" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (mocap / "data").rglob("*")} == before


def test_a_failed_write_leaves_nothing_behind(
    mocap: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Normalizer, "save", full)
    assert call(mocap) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in mocap.iterdir()) == ["captions.csv", "mocap"]


def test_splits_keep_files_together_and_follow_the_seed() -> None:
    files = [f"{index}.bvh" for index in range(20)]
    splits = choose_splits(files, 0.1, 0.2, seed=3)
    assert sorted(splits.values()) == ["test"] * 4 + ["train"] * 14 + ["val"] * 2
    assert splits == choose_splits(files, 0.1, 0.2, seed=3) != choose_splits(files, 0.1, 0.2, seed=4)
    assert set(choose_splits(files, 0.0, 0.0, seed=3).values()) == {"train"}
    assert list(choose_splits(files[:2], 0.0, 0.01, seed=3).values()).count("test") == 1


def test_caption_tables_of_spreadsheets_are_read(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_bytes(
        '﻿File\tCaption\tStart\r\na\\b.bvh\t"walks  slowly"\t1.5\r\n\t\t\r\na\\b.bvh\tstrolls\t1.5\r\n'.encode()
    )
    (stretch,) = read_caption_table(table)
    assert (stretch.file, stretch.start, stretch.end) == ("a/b.bvh", 1.5, None)
    assert stretch.captions == ("walks slowly", "strolls") and stretch.line == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('file,caption\nc,"a ""b"""\na,"walks\nb,sits\n', r":3: quotation marks do not match in the row that begins"),
        ("file,caption,start,start\na,walks,1,2\n", r":1: expected one column 'start'"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(text: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=message):
        read_caption_table(table)


def test_a_still_of_one_frame_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bvh(tmp_path / "mocap" / "still.bvh", animate(RIG, 1))
    (tmp_path / "captions.csv").write_text("file,caption\nstill,a person stands\n")
    assert call(tmp_path, "--test_share", "0") == 2
    assert "still.bvh: 0 to 0 s is no stretch of this file" in capsys.readouterr().err


def test_joints_that_make_no_skeleton_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bvh(tmp_path / "mocap" / "walk.bvh", animate(RIG, 60))
    (tmp_path / "captions.csv").write_text("file,caption\nwalk,a person walks\n")
    (tmp_path / "map.yaml").write_text("left_foot: mixamorig:LeftFoot\n")
    assert call(tmp_path, "--test_share", "0", "--mapping", str(tmp_path / "map.yaml")) == 2
    error = capsys.readouterr().err
    assert "walk.bvh: joints: bone left_ankle -> left_foot has zero length in frame 0" in error


def test_statistics_include_the_mirrored_copies(mocap: Path) -> None:
    assert call(mocap, "--test_share", "0") == 0
    dataset = load_dataset(str(mocap / "data"))
    assert abs(dataset.normalizer.mean[0]) < 1e-6, "as much turning left as right"
    frames = np.concatenate([item.features for item in dataset.items("train")])
    np.testing.assert_allclose(dataset.normalizer.mean, frames.mean(axis=0), atol=1e-5)
