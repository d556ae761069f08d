"""Folders as people have them: what misleads is told with figures, and one bad file does not stop the rest."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs import import_motion
from jobs.command_line import main as cli
from jobs.configs.import_motion import ImportConfig
from motions.data.dataset import load_dataset
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.characters.mocap_files import NAMES, Z_UP, Recording

pytestmark = pytest.mark.slow

WALK = Recording(seconds=3.0)


def call(folder: Path, *flags: str) -> int:
    words = ["--bvh_dir", str(folder / "mocap"), "--captions", str(folder / "captions.csv")]
    words += ["--save_dir", str(folder / "data"), "--retarget", "false", *flags]
    return cli.main(
        ImportConfig,
        import_motion.run,
        import_motion.__doc__,
        "jobs.import_motion",
        plan=import_motion.plan,
        argv=words,
    )


def fill(folder: Path, files: dict[str, Recording], table: str = "") -> Path:
    for name, recording in files.items():
        recording.write(folder / "mocap" / name)
    rows = "".join(f"{name},a person walks\n" for name in files)
    (folder / "captions.csv").write_text(table or f"file,caption\n{rows}", encoding="utf-8")
    return folder


def joints_in(folder: Path) -> dict[str, np.ndarray]:
    """Joints [F, 22, 3] of the clips that were written, by their source file."""
    with (folder / "data" / "index.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not row["new_name"].startswith("M")]
    return {row["source_path"]: np.load(folder / "data" / "new_joints" / f"{row['new_name']}.npy") for row in rows}


def assert_is(joints: np.ndarray, recording: Recording, tolerance: float = 0.03) -> None:
    """Heights of joints, and distances from where the pelvis started, are the recorded ones; the heading is free."""
    true = recording.joints()
    floor = min(path[:, 1].min() for path in true.values())
    times = np.arange(len(joints)) / HUMANML3D.fps * recording.fps
    for joint, path in true.items():
        played = np.stack([np.interp(times, np.arange(len(path)), path[:, axis]) for axis in range(3)], axis=1)
        found = joints[:, HUMANML3D.index(joint)]
        np.testing.assert_allclose(found[:, 1] - joints[..., 1].min(), played[:, 1] - floor, atol=2 * tolerance)
        start, true_start = joints[0, 0], true["pelvis"][0]
        far, true_far = (np.linalg.norm((a - b)[:, [0, 2]], axis=-1) for a, b in ((found, start), (played, true_start)))
        np.testing.assert_allclose(far, true_far, atol=tolerance)


SETTINGS = ("--test_share", "0", "--mirror", "false")


def test_one_z_up_file_among_others_is_turned_alone(tmp_path: Path) -> None:
    files = {"a.bvh": WALK, "b.bvh": replace(WALK, turn=80.0), "c.bvh": replace(WALK, basis=Z_UP)}
    assert call(fill(tmp_path, files), *SETTINGS) == 0
    for name, joints in joints_in(tmp_path).items():
        assert_is(joints, files[name])
    report = (tmp_path / "data" / "import_report.txt").read_text()
    assert "up axis: y, z" in report and "  c.bvh: 3.00 s from 30 fps, pelvis 0." in report and ", z up" in report


@pytest.mark.parametrize(
    ("recording", "note"),
    [
        (
            replace(WALK, root_unit=0.01),
            "warning: the root's translation is taken in a unit 100 times that",
        ),
        (replace(WALK, above=("HumanoidRootPart",), names={**NAMES, "root": "LowerTorso"}), "pelvis=LowerTorso"),
        (replace(WALK, positions="relative"), "note: the position channels of its joints are added to their OFFSET"),
        (replace(WALK, rest_before=40, rest_heading=30.0), "note: first 40 frames left out, a rest pose (1.33 s)"),
        (replace(WALK, rest_after=1), "note: last frame left out, a rest pose (0.03 s)"),
    ],
    ids=["root in metres", "static root", "relative positions", "rest pose before", "rest pose after"],
)
def test_what_misleads_is_understood_and_told(recording: Recording, note: str, tmp_path: Path) -> None:
    assert call(fill(tmp_path, {"walk.bvh": recording}), *SETTINGS) == 0
    assert_is(joints_in(tmp_path)["walk.bvh"], recording)
    assert note in (tmp_path / "data" / "import_report.txt").read_text()


@pytest.mark.parametrize(
    ("recording", "words", "remedy"),
    [
        (replace(WALK, radians=True), "no rotation exceeds 1.4", ("--rotation_unit", "radians")),
        (replace(WALK, header_fps=0.03), "'Frame Time: 33.3333' is 0.03 frames per second", ("--fps", "30")),
        (replace(WALK, fps=120.0, header_fps=24.0), "5 times slower than people walk", ("--fps", "120")),
        (replace(WALK, basis=np.diag([-1.0, 1.0, 1.0])), "the knees bend backwards", ("--negate_x",)),
        (replace(WALK, lying=True), "the body stands along -z, the rest pose stands along y", ("--up_axis", "y")),
    ],
    ids=["radians", "milliseconds", "slow header", "left-handed", "lying"],
)
def test_what_cannot_be_decided_is_refused_with_figure_and_remedy(
    recording: Recording, words: str, remedy: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"walk.bvh": recording})
    assert call(tmp_path, *SETTINGS) == 2
    error = capsys.readouterr().err
    assert f"walk.bvh: {words}" in error or (words in error and "walk.bvh: " in error)
    assert f"--{remedy[0].removeprefix('--')}" in error and error.count("error:") == 1
    assert call(tmp_path, *SETTINGS, *remedy) == 0
    assert_is(joints_in(tmp_path)["walk.bvh"], recording)


def test_a_refused_check_is_accepted_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, {"walk.bvh": replace(WALK, fps=120.0, header_fps=24.0)})
    assert call(tmp_path, *SETTINGS) == 2
    assert "[pace]" in capsys.readouterr().err
    assert call(tmp_path, *SETTINGS, "--accept", "pace") == 0
    assert "walk.bvh: steps of 0.59 m take 3." in capsys.readouterr().err
    assert call(tmp_path, *SETTINGS, "--accept", "peace") == 2
    assert "--accept peace" in capsys.readouterr().err


def test_a_walk_on_the_spot_is_warned_of_with_its_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, {"walk.bvh": replace(WALK, positions="none"), "other.bvh": WALK})
    assert call(tmp_path, *SETTINGS, "--dry_run") == 0
    captured = capsys.readouterr()
    assert "warning: " in captured.err and "walk.bvh: the pelvis never moves" in captured.err
    assert "    warning: the pelvis never moves" in captured.out and not (tmp_path / "data").exists()


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_a_feature_that_never_changes_is_named_with_the_files(
    dry_run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"walk.bvh": replace(WALK, positions="none")})
    assert call(tmp_path, *SETTINGS, "--dry_run", dry_run) == 2
    error = capsys.readouterr().err
    assert "error: walk.bvh: std[1] is 0.0, expected a positive number: x of the root's velocity never changes" in error


def test_a_root_that_no_file_has_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, {"walk.bvh": WALK})
    assert call(tmp_path, *SETTINGS, "--root", "B:Hips") == 2
    assert "root B:Hips: no file in" in capsys.readouterr().err


BAD = {
    "cut.bvh": (lambda text: text[: len(text) // 2], "cut.bvh:"),
    "names.bvh": (lambda text: text.replace("LeftLeg", "Stilt"), "names.bvh: no joint found for left_knee"),
    "page.bvh": (lambda _: "<!DOCTYPE html><html>", "page.bvh is a web page"),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four good files, three bad ones, one that is missing, and one stretch that is too short."""
    fill(tmp_path, {f"{letter}.bvh": replace(WALK, turn=20.0 * number) for number, letter in enumerate("abcd")})
    for name, (damage, _) in BAD.items():
        (tmp_path / "mocap" / name).write_text(damage(WALK.text()))
    rows = [f"{path.name},a person walks,,\n" for path in sorted((tmp_path / "mocap").glob("*.bvh"))]
    rows += ["gone.bvh,a person walks,,\n", "a.bvh,a person stops,2,3\n"]
    (tmp_path / "captions.csv").write_text("file,caption,start,end\n" + "".join(rows))
    return tmp_path


def test_all_that_is_wrong_is_told_in_one_pass(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(corpus) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == len(BAD) + 3
    for expected in (*(message for _, message in BAD.values()), "no file 'gone.bvh'", "(line 10 of the captions)"):
        assert sum(expected in line for line in lines) == 1, expected
    assert "3 of 7 files" in lines[-1] and "--skip_bad true" in lines[-1]
    assert not (corpus / "data").exists()


def test_the_rest_is_imported_where_bad_files_are_skipped(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(corpus, "--skip_bad", "--test_share", "0.25", "--mirror", "false") == 0
    captured = capsys.readouterr()
    assert captured.err.count("left out: ") == len(BAD) + 2
    assert "warning: 3 of 7 files are left out (5 problems)" in captured.err
    assert "left out, 3 files as a whole (5 problems):" in captured.out
    dataset = load_dataset(corpus / "data")
    assert (len(dataset.items("train")), len(dataset.items("test"))) == (3, 1)
    assert set(joints_in(corpus)) == {"a.bvh", "b.bvh", "c.bvh", "d.bvh"}


def test_nothing_good_is_an_error_also_where_bad_files_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"a.bvh": replace(WALK, radians=True)})
    assert call(tmp_path, "--skip_bad", *SETTINGS) == 2
    assert "a.bvh: no rotation exceeds" in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_short_stretches_are_padded_or_joined_on_request(corpus: Path) -> None:
    table = "file,caption,start,end\nb.bvh,a person walks,0,1.4\nb.bvh,a person strolls,1.4,3\nc.bvh,walks,0,1\n"
    (corpus / "captions.csv").write_text(table)
    assert call(corpus, "--skip_uncaptioned", *SETTINGS, "--short_clips", "pad") == 0
    lengths = sorted(item.num_frames for item in load_dataset(corpus / "data").items("train"))
    assert lengths == [40, 40, 40]
    (corpus / "data").rename(corpus / "padded")
    (corpus / "captions.csv").write_text("".join(table.splitlines(keepends=True)[:3]))
    assert call(corpus, "--skip_uncaptioned", *SETTINGS, "--short_clips", "join") == 0
    (joined,) = load_dataset(corpus / "data").items("train")
    assert joined.captions == ("a person walks, then a person strolls",) and joined.num_frames == 60


def test_the_table_may_name_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{letter}.bvh": replace(WALK, turn=20.0 * number) for number, letter in enumerate("abcde")}
    table = "file,caption,split\na,walks,test\nb,walks,Train\nc,walks,val\nc,strolls,val\nd,walks,\ne,walks,\n"
    fill(tmp_path, files, table)
    assert call(tmp_path, "--test_share", "0.5", "--mirror", "false") == 0
    with (tmp_path / "data" / "index.csv").open() as file:
        sources = {row["new_name"]: row["source_path"] for row in csv.DictReader(file)}
    splits = {
        split: {sources[line] for line in (tmp_path / "data" / f"{split}.txt").read_text().split()}
        for split in ("train", "val", "test")
    }
    assert splits["val"] == {"c.bvh"} and "a.bvh" in splits["test"] and "b.bvh" in splits["train"]
    assert len(splits["test"] & {"d.bvh", "e.bvh"}) == 1, "the share of those that are open"
    (tmp_path / "data").rename(tmp_path / "before")
    (tmp_path / "captions.csv").write_text("file,caption,split\na,walks,test\na,strolls,val\nb,walks,exam\n")
    assert call(tmp_path, "--skip_uncaptioned") == 2
    error = capsys.readouterr().err
    assert "captions.csv:3: split is 'val', but 'test' in a row before" in error
    assert "captions.csv:4: split is 'exam', expected train, val, test" in error


def test_mirroring_is_off_where_the_table_says_so_and_reports_what_it_swapped(tmp_path: Path) -> None:
    table = "file,caption,mirror\na,turns left,\na,no strength left,no\nb,nothing is right,no\n"
    fill(tmp_path, {"a.bvh": WALK, "b.bvh": WALK}, table)
    assert call(tmp_path, "--test_share", "0") == 0
    captions = {item.clip_id: item.captions for item in load_dataset(tmp_path / "data").items("train")}
    assert captions == {
        "000000": ("turns left", "no strength left"),
        "M000000": ("turns right",),
        "000001": ("nothing is right",),
    }
    report = (tmp_path / "data" / "import_report.txt").read_text()
    assert "mirroring changed 1 captions" in report and "'turns left' -> 'turns right'" in report


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_and_mappings_in_other_encodings_of_unicode_are_read(encoding: str, tmp_path: Path) -> None:
    fill(tmp_path, {"a.bvh": replace(WALK, names={**NAMES, "left_knee": "Gelenk"})})
    (tmp_path / "captions.csv").write_bytes("file;caption\na;ein Mensch geht gemächlich\n".encode(encoding))
    (tmp_path / "map.json").write_bytes(json.dumps({"left_knee": "Gelenk"}).encode(encoding))
    assert call(tmp_path, *SETTINGS, "--mapping", str(tmp_path / "map.json")) == 0
    assert load_dataset(tmp_path / "data").items("train")[0].captions == ("ein Mensch geht gemächlich",)


def test_a_table_in_another_encoding_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, {"a.bvh": WALK})
    (tmp_path / "captions.csv").write_bytes("file,caption\na,walks\na,geht gemächlich\n".encode("latin-1"))
    assert call(tmp_path, *SETTINGS) == 2
    assert "captions.csv, line 3: byte 0xe4 is not UTF-8; save the file as UTF-8" in capsys.readouterr().err
