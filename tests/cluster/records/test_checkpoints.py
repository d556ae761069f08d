"""Checkpoints of a run directory: what is ours, what is somebody else's, and what is left without a manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cluster.records.checkpoints import RunDirectoryError, read_manifest
from cluster.records.opening import inspect
from tests.toys.running.cluster_runs import ToyConfig, opened, saved, snapshot

FOREIGN = ("step_000000002_best", "step_3", "step_000000002.bak", "copy of step_000000002")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def finished(path: Path, *steps: int, **options: object) -> None:
    """A closed run with checkpoints and metrics of these steps."""
    directory = opened(path, **{"keep_checkpoints": 5, **options})
    for step in steps:
        directory.append_metrics({"step": step})
        saved(directory, step)
    directory.close()


def step_after_resume(path: Path, **options: object) -> int:
    directory = opened(path, resume=True, **{"keep_checkpoints": 5, **options})
    step = directory.load_state()["number"]
    assert step == directory.step
    directory.close()
    return step


def test_without_the_manifest_the_newest_checkpoint_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finished(tmp_path / "run", 1, 2)
    before = (tmp_path / "run/manifest.json").read_bytes()
    (tmp_path / "run/manifest.json").unlink()
    assert step_after_resume(tmp_path / "run") == 2
    assert "manifest.json is missing: the run continues from step_000000002" in caplog.text
    assert (tmp_path / "run/manifest.json").read_bytes() == before
    assert names(tmp_path / "run/checkpoints") == {"step_000000001", "step_000000002"}


def test_without_the_manifest_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    finished(tmp_path / "run", 1, 2)
    (tmp_path / "run/manifest.json").unlink()
    (tmp_path / "run/checkpoints/step_000000002/learner.pt").write_bytes(b"cut")
    assert step_after_resume(tmp_path / "run") == 1
    assert (tmp_path / "run/checkpoints/step_000000002/learner.pt").read_bytes() == b"cut"


@pytest.mark.parametrize("left", ["damaged", "without manifest", "only the best"])
def test_without_anything_intact_the_resume_is_refused_and_changes_nothing(tmp_path: Path, left: str) -> None:
    run = tmp_path / "run"
    finished(run, 1)
    (run / "manifest.json").unlink()
    if left == "damaged":
        (run / "checkpoints/step_000000001/learner.pt").write_bytes(b"cut")
    elif left == "without manifest":
        (run / "checkpoints/step_000000001/manifest.json").unlink()
    else:
        (run / "checkpoints/step_000000001").rename(run / "best_of_mine")
        (run / "best/step_000000001").mkdir(parents=True)
    before = snapshot(run)
    config = ToyConfig(save_dir=run, resume=True)
    for attempt in (lambda: inspect(config, config=config), lambda: opened(run, resume=True)):
        with pytest.raises(RunDirectoryError, match=r"is missing, and no checkpoint is intact.*overwrite"):
            attempt()
    assert snapshot(run) == before


def test_a_damaged_manifest_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    finished(tmp_path / "run", 1)
    (tmp_path / "run/manifest.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"no manifest.*Move it away to continue from the newest intact"):
        opened(tmp_path / "run", resume=True)
    (tmp_path / "run/manifest.json").unlink()
    assert step_after_resume(tmp_path / "run") == 1


def test_foreign_names_are_neither_read_nor_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finished(run, 1, 2)
    for name in FOREIGN:
        shutil.copytree(run / "checkpoints/step_000000002", run / "checkpoints" / name)
    (run / "best").mkdir()
    strange = [
        run / place / name for place in ("checkpoints", "best") for name in (".DS_Store", ".nfs0000012", "notes")
    ]
    strange += [run / "checkpoints/step_000000009"]
    for path in strange:
        path.write_text("mine")
    shutil.copytree(run / "checkpoints/step_000000002", run / "best/mine")
    (run / "manifest.json").unlink()
    before = snapshot(run)
    directory = opened(run, resume=True, keep_checkpoints=1)
    assert directory.step == 2
    saved(directory, 3)
    after = snapshot(run)
    ours = ("checkpoints/step_000000001/", "checkpoints/step_000000002/", "manifest.json", "config.yaml")
    assert {name for name in before if after.get(name) != before[name]} == {
        name for name in before if name.startswith(ours)
    }
    assert names(run / "checkpoints") == {
        *FOREIGN, ".DS_Store", ".nfs0000012", "notes", "step_000000003", "step_000000009"
    }  # fmt: skip


def test_what_a_user_adds_to_a_checkpoint_outlives_it(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run", keep_checkpoints=1)
    saved(directory, 1)
    folder = tmp_path / "run/checkpoints/step_000000001"
    (folder / "notes.txt").write_text("mine")
    saved(directory, 2)
    assert names(folder) == {"notes.txt"}


def test_checkpoints_of_another_run_are_left_alone(tmp_path: Path) -> None:
    finished(tmp_path / "other", 1, 4, 9, seed=77)
    directory = opened(tmp_path / "run", keep_checkpoints=1)
    saved(directory, 2)
    for folder in (tmp_path / "other/checkpoints").iterdir():
        shutil.copytree(folder, directory.checkpoints / folder.name)
    saved(directory, 3)
    saved(directory, 4)
    assert names(directory.checkpoints) == {
        "step_000000001", "step_000000004", "step_000000004.old-1", "step_000000009"
    }  # fmt: skip
    assert read_manifest(directory.checkpoints / "step_000000004/manifest.json").seed == 10
    assert read_manifest(directory.checkpoints / "step_000000004.old-1/manifest.json").seed == 77


def test_checkpoints_from_before_an_allowed_change_are_still_this_runs(tmp_path: Path) -> None:
    finished(tmp_path / "run", 1, 2)
    directory = opened(
        tmp_path / "run", resume=True, learning_rate=3.0, allow_changed=("learning_rate",), keep_checkpoints=1
    )
    saved(directory, 3)
    assert names(directory.checkpoints) == {"step_000000003"}


def test_a_checkpoint_that_was_not_committed_makes_room_for_the_same_step(tmp_path: Path) -> None:
    """As a process leaves it that is killed between the checkpoint and the commit."""
    run = tmp_path / "run"
    finished(run, 1)
    committed = (run / "manifest.json").read_bytes()
    directory = opened(run, resume=True)
    saved(directory, 2)
    directory.close()
    (run / "manifest.json").write_bytes(committed)
    directory = opened(run, resume=True)
    assert directory.step == 1
    saved(directory, 2)
    assert names(run / "checkpoints") == {"step_000000001", "step_000000002"} and directory.step == 2


@pytest.mark.parametrize("change", [{"files": {"../../config.yaml": ""}}, {"checkpoint": "../samples"}, {"files": 3}])
def test_a_manifest_that_reaches_outside_its_folder_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    finished(tmp_path / "run", 1)
    path = tmp_path / "run/checkpoints/step_000000001/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunDirectoryError, match="no manifest of a run"):
        read_manifest(path)
