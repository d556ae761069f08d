"""A data folder is checked as a whole: every mistake is found in one pass, with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import doctor
from jobs.command_line import main as cli
from jobs.trainings.doctor import DoctorConfig
from motions.data.folder_check import check_folder


def write_folder(root: Path, width: int = 263) -> Path:
    """Four whole clips in the layout of the downloads: lists, captions with tags, statistics."""
    for name in ("new_joint_vecs", "texts"):
        (root / name).mkdir(parents=True)
    np.save(root / "Mean.npy", np.zeros(width))
    np.save(root / "Std.npy", np.ones(width))
    for number in range(4):
        np.save(root / "new_joint_vecs" / f"{number:06d}.npy", np.zeros((60, width), np.float32))
        caption = "a person walks#a/DET person/NOUN walk/VERB"
        (root / "texts" / f"{number:06d}.txt").write_text(f"{caption}#0.0#0.0\n{caption}#0.5#2.6\n")
    (root / "train.txt").write_text("000000\n000001\n000002\n")
    (root / "test.txt").write_text("000003.npy\n")
    return root


def lacking(root: Path) -> dict[str, str]:
    return {finding.what: finding.found for finding in check_folder(root) if finding.remedy}


@pytest.mark.parametrize("width", [263, 251])
def test_a_whole_folder_has_nothing_lacking(width: int, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", width)
    assert not lacking(root)
    found = {finding.what: finding.found for finding in check_folder(root)}
    assert found["clips"] == "4 of 4 that the lists name are whole"
    assert found["statistics"] == f"{width} features" and found["train.txt"] == "3 clips"


def test_everything_that_is_wrong_is_found_in_one_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "data")
    vectors, texts = root / "new_joint_vecs", root / "texts"
    (vectors / "000000.npy").unlink()
    (texts / "000000.txt").write_text("a person walks#a/DET#3.0#2.0\n")
    np.save(vectors / "000001.npy", np.full((60, 263), np.nan))
    (texts / "000001.txt").unlink()
    np.save(vectors / "000002.npy", np.zeros((60, 251)))
    (texts / "000002.txt").write_text("a person walks\n")
    np.save(vectors / "000003.npy", np.zeros((12, 263)))
    np.save(vectors / "000009.npy", np.zeros((60, 263)))
    (root / "train.txt").write_text("000000\n000001\n000002\n000002\nM000003\n")
    (root / "val.txt").write_text("\n")
    found = lacking(root)
    assert found["train.txt"] == "1 ids stand twice, such as 000002"
    assert found["val.txt"] == "it names no clip"
    assert "1 clips, or their mirrored copies, are in train.txt too, such as 000003" in found["test.txt"]
    assert found["new_joint_vecs/000000.npy"] == found["texts/000001.txt"] == "no such file"
    assert found["new_joint_vecs/M000003.npy"] == found["texts/M000003.txt"] == "no such file"
    assert "frame 0 is not finite" in found["new_joint_vecs/000001.npy"]
    assert "expected [T, 263] for humanml3d" in found["new_joint_vecs/000002.npy"]
    assert found["texts/000000.txt"] == "caption 1 lasts from 3 to 2 s"
    assert "is not caption#tokens#start#end" in found["texts/000002.txt"]
    right = {finding.what: finding.found for finding in check_folder(root) if not finding.remedy}
    assert right["clips"].startswith("1 of 5 that the lists name are whole; 1 are shorter than 40 frames")
    assert right["new_joint_vecs/"].startswith("1 clips are in no list, such as 000009")

    argv = ["--check_data", str(root)]
    assert cli.main(DoctorConfig, doctor.run, doctor.__doc__, "jobs.doctor", argv=argv) == 2
    output = capsys.readouterr()
    assert f"{len(found)} of the above are lacking" in output.err
    assert "lacking  texts/000001.txt: no such file. Restore it, or take 000001 off the lists" in output.out


def test_folders_that_are_no_such_data_are_named(tmp_path: Path) -> None:
    assert lacking(tmp_path / "gone")[str(tmp_path / "gone")] == "no such folder"
    (tmp_path / "empty").mkdir()
    assert lacking(tmp_path / "empty").keys() == {
        *("new_joint_vecs/", "texts/", "Mean.npy", "Std.npy", "features", "train.txt")
    }
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "humanact12poses.pkl").touch()
    assert lacking(tmp_path / "actions") == {"humanact12poses.pkl": "motions labelled with actions"}
    # Without statistics the clips say what they are.
    root = write_folder(tmp_path / "data", 251)
    (root / "Mean.npy").unlink()
    assert lacking(root).keys() == {"Mean.npy"}
