"""The benchmark of cases: every command is run, and nothing wrong passes without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cases
from benchmarks.cases import Motion, assess, command, judge, main, measure
from motions.data.folder_writer import FolderClip, write_dataset
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.characters.mocap_files import Recording
from tests.toys.synthetic_motion import walking_joints

pytestmark = pytest.mark.slow


def case(folder: Path, words: str, **files: str) -> Path:
    """A case with a command and files of text."""
    path = folder / "c01"
    path.mkdir(exist_ok=True)
    (path / "cmd").write_text(words)
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def test_a_command_gets_its_places_and_loses_its_remark(tmp_path: Path) -> None:
    words = "python -m jobs.x --data CASES/c01/a.bvh --save_dir /abs/OUT --note 'two words'"
    found = command(case(tmp_path, f"{words}   (read with f(x).items('y'))\n"), tmp_path / "out")
    places = ["--data", f"{tmp_path}/c01/a.bvh", "--save_dir", f"{tmp_path}/out", "--note", "two words"]
    assert found[1:] == ["-m", "jobs.x", *places]
    with pytest.raises(ValueError, match="expected python -m MODULE"):
        command(case(tmp_path, "rm -r CASES"), tmp_path / "out")


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        (2, "error: /x/walk.bvh:3: expected OFFSET", "refused"),
        (2, "error: something went wrong", "WRONG"),
        (1, "Traceback (most recent call last):\n  File x\nZeroDivisionError: walk.bvh", "WRONG"),
        (2, "error: /x/walk.bvh: re-run with weights_only=False", "WRONG"),
        (0, "warning: /x/walk.bvh: feet slide by 1.0 m/s", "warned"),
        (0, "warning: /x/walk.bvh: look at it", "WRONG"),
        (0, "warning: other.bvh: feet slide by 1.0 m/s", "WRONG"),
        (0, "all is well", "WRONG"),
    ],
)
def test_a_dry_run_is_refused_warned_or_wrong(status: int, output: str, verdict: str, tmp_path: Path) -> None:
    path = case(tmp_path, "python -m jobs.x --dry_run", walk_bvh="")
    assert assess(path, tmp_path / "out", status, output, dry_run=True).verdict == verdict


def written(folder: Path) -> Path:
    """A data set of one clip from walk.bvh."""
    joints = walking_joints(HUMANML3D, 60)
    joints[..., 1] += 0.01 * np.sin(np.arange(60))[:, None]
    clip = FolderClip(extract_features(joints, HUMANML3D, retarget=False), ("walks",), "train", "walk.bvh", 0.0)
    write_dataset(folder, HUMANML3D, [clip], "report")
    return folder


def test_an_import_is_right_if_its_clip_is_the_motion_that_was_recorded(tmp_path: Path) -> None:
    path = case(tmp_path, "python -m jobs.x", walk_bvh="")
    out = written(tmp_path / "out")
    told = "warning: walk.bvh: slides by 1.0 m/s"
    assert assess(path, out, 0, "done", dry_run=False).verdict == "WRONG", "no walk of 1 m/s with a raised arm"
    assert assess(path, out, 0, told, dry_run=False).verdict == "warned"
    found = measure(np.load(out / "new_joints" / "000000.npy"))
    (path / "expected.json").write_text(json.dumps({name: getattr(found, name) for name in Motion.__slots__}))
    assert assess(path, out, 0, "done", dry_run=False).verdict == "right"
    (path / "other.bvh").write_text("")
    outcome = assess(path, out, 0, "done", dry_run=False)
    assert outcome.verdict == "WRONG" and "other.bvh: no clip of it" in outcome.words


def test_a_data_set_is_right_if_every_listed_clip_and_caption_is_read(tmp_path: Path) -> None:
    path = case(tmp_path, "python -m jobs.x")
    written(path / "data")
    out = tmp_path / "out"
    assert assess(path, out, 0, "", dry_run=False).verdict == "right"
    (path / "data" / "train.txt").write_text("000000\n000001\n")
    outcome = assess(path, out, 0, "", dry_run=False)
    assert outcome.verdict == "WRONG" and "clip 000001 is lost" in outcome.words
    assert assess(path, out, 0, "warning: train.txt lists 2 clips: 1 is not there", dry_run=False).verdict == "warned"


def test_figures_of_a_motion_are_measured() -> None:
    joints = np.zeros((41, 22, 3))
    places = {"head": (0.0, 1.6), "right_wrist": (-0.2, 1.9), "pelvis": (0.0, 0.95), "left_knee": (0.1, 0.5)}
    for sign, side in ((1.0, "left"), (-1.0, "right")):
        places |= {f"{side}_hip": (0.1 * sign, 0.9), f"{side}_shoulder": (0.2 * sign, 1.4)}
    for joint, (x, y) in places.items():
        joints[:, HUMANML3D.index(joint), :2] = x, y
    joints[..., 2] = np.arange(41)[:, None] * 0.05
    motion = measure(joints)
    assert motion.speed == pytest.approx(1.0) and motion.path == pytest.approx(2.0) and motion.seconds == 2.05
    assert motion.height == pytest.approx(0.95) and motion.right_hand == pytest.approx(0.3)
    assert measure(joints * [1.0, 1.0, -1.0]).speed == pytest.approx(-1.0)


def test_every_case_is_run_and_one_wrong_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--folder", str(tmp_path)]) == 1
    assert "no cases in it" in capsys.readouterr().err
    for name in ("a1", "b1", "b2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cmd").write_text("python -m jobs.x")
    verdicts: dict[str, cases.Verdict] = {"a1": "WRONG", "b1": "refused", "b2": "right"}
    monkeypatch.setattr(cases, "judge", lambda path, _: cases.Outcome(verdicts[path.name], "words"))
    assert main(["--folder", str(tmp_path), "--only", "b"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 refused, 0 warned, 1 right, 0 WRONG"
    assert main(["--folder", str(tmp_path)]) == 1


def test_a_case_is_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = case(tmp_path, "")
    replace(Recording(seconds=2.1), radians=True).write(path / "walk.bvh")
    (path / "captions.csv").write_text("file,caption\nwalk,walks\n")
    options = "--bvh_dir CASES/c01 --captions CASES/c01/captions.csv --save_dir OUT --test_share 0"
    (path / "cmd").write_text(f"python -m jobs.import_motion {options}")
    outcome = judge(path, 120.0)
    assert outcome.verdict == "refused" and "walk.bvh: no rotation exceeds" in outcome.words
