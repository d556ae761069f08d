"""How a run directory is opened, and which options may be others when a run is resumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.records.checkpoints import RunDirectoryError
from cluster.records.opening import changed_options, inspect
from cluster.runtime.ray_job import JOB_VARIABLE
from tests.toys.running.cluster_runs import ToyConfig, opened, saved, snapshot


def begun(path: Path) -> None:
    """A run that has made a step."""
    directory = opened(path)
    directory.append_metrics({"step": 1})
    directory.close()


def test_an_existing_run_needs_a_word(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    before = snapshot(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="--resume, or move it aside with --overwrite"):
        opened(tmp_path / "run")
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("option", [{}, {"overwrite": True}, {"resume": True}])
def test_somebody_elses_folder_is_never_touched(tmp_path: Path, option: dict[str, Any]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match="holds no run"):
        opened(tmp_path, **option)
    assert snapshot(tmp_path) == {"thesis.tex": b"precious"}


def test_a_file_or_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file, not a directory"):
        opened(tmp_path / "file/run")
    # Nobody can make folders there, not even root.
    with pytest.raises(RunDirectoryError, match=r"save_dir /proc/kinetune/run (is not writable|cannot be created)"):
        opened(Path("/proc/kinetune/run"))


def test_a_relative_path_is_refused_inside_a_ray_job(tmp_path: Path) -> None:
    settings = ToyConfig(save_dir=Path("outputs/run"))
    with pytest.raises(RunDirectoryError, match=r"thrown away.*absolute path"):
        inspect(settings, {JOB_VARIABLE: "{}"})
    assert inspect(settings, {}) == "new"
    assert inspect(ToyConfig(save_dir=tmp_path / "x"), {JOB_VARIABLE: "{}"}) == "new"


def test_other_data_is_refused(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    saved(directory, 1)
    directory.close()
    with pytest.raises(RunDirectoryError, match=r"data was data, is other.*--allow_changed data"):
        opened(tmp_path / "run", "other", resume=True)
    opened(tmp_path / "run", "other", resume=True, allow_changed=("data",)).close()


@pytest.mark.parametrize(
    ("text", "message"),
    [("num_steps: [", r"config\.yaml: not a YAML file: line 1"), ("- 3", r"config\.yaml: expected options by name")],
)
def test_options_of_a_run_that_somebody_broke_are_named(text: str, message: str, tmp_path: Path) -> None:
    begun(tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text(text)
    with pytest.raises(RunDirectoryError, match=message):
        opened(tmp_path / "run", resume=True)


def test_what_changes_no_result_may_change(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    opened(
        tmp_path / "run",
        resume=True,
        num_steps=500,
        num_rollout_actors=4,
        ray_address="local",
        save_interval=3,
        trace=True,
    ).close()
    with pytest.raises(RunDirectoryError, match=r"seed was 10, is 11; threads_per_actor was 1, is 2"):
        opened(tmp_path / "run", resume=True, seed=11, threads_per_actor=2)


def test_options_that_came_or_went_are_named() -> None:
    config = ToyConfig(save_dir=Path("x"), num_steps=9, learning_rate=4.0)
    before = {"old": 1, "seed": 10, "num_steps": 3}
    assert changed_options(before, config) == {"learning_rate": "is new (4.0)", "old": "is gone (was 1)"}
    # What is at its default is what a run had that did not know the option.
    assert changed_options({"seed": 10}, ToyConfig(save_dir=Path("x"))) == {}


def test_resume_and_overwrite_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="resume and overwrite are both set"):
        ToyConfig(save_dir=Path("x"), resume=True, overwrite=True)


def test_what_is_of_one_call_is_not_written_down(tmp_path: Path) -> None:
    """A later `--config config.yaml` neither moves the run aside nor allows what was allowed once."""
    run = tmp_path / "run"
    run.mkdir()
    opened(run, overwrite=True, allow_changed=("learning_rate",)).close()
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved.keys() == ToyConfig.model_fields.keys() - {"resume", "overwrite", "allow_changed"}


def test_a_dry_run_sees_options_that_may_not_change(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    same, other = (ToyConfig(save_dir=tmp_path / "run", resume=True, learning_rate=rate) for rate in (2.0, 3.0))
    assert inspect(same, config=same) == "resume"
    with pytest.raises(RunDirectoryError, match=r"learning_rate was 2.0, is 3.0.*--allow_changed learning_rate"):
        inspect(other, config=other)
    allowed = other.model_copy(update={"allow_changed": ("learning_rate",)})
    assert inspect(allowed, config=allowed) == "resume"


def test_overwrite_moves_aside_and_deletes_nothing(tmp_path: Path) -> None:
    for number in range(3):
        directory = opened(tmp_path / "run", overwrite=True)
        directory.append_metrics({"step": 1})
        (directory.path / "note.txt").write_text(str(number))
        directory.close()
    assert (tmp_path / "run/note.txt").read_text() == "2"
    assert (tmp_path / "run.old-1/note.txt").read_text() == "0"
    assert (tmp_path / "run.old-2/note.txt").read_text() == "1"


@pytest.mark.parametrize(("name", "hint"), [("nonsense", ""), ("learning_rat", "; did you mean learning_rate?")])
def test_only_an_option_or_the_data_may_be_allowed_to_change(tmp_path: Path, name: str, hint: str) -> None:
    words = f"allow_changed {name}: legal are data and the names of this job's options{re.escape(hint)}$"
    with pytest.raises(RunDirectoryError, match=words):
        opened(tmp_path / "run", allow_changed=(name,))
    assert not (tmp_path / "run").exists()
    begun(tmp_path / "run")
    for opening in ("resume", "overwrite"):
        config = ToyConfig.of({opening: True}, save_dir=tmp_path / "run", allow_changed=(name,))
        with pytest.raises(RunDirectoryError, match=words):
            inspect(config, config=config)
    # Of an option that only an earlier version had.
    (tmp_path / "run/config.yaml").write_text("nonsense: 3\n")
    config = ToyConfig(save_dir=tmp_path / "run", allow_changed=("nonsense", "data", "seed"), resume=True)
    assert inspect(config, config=config) == "resume"


def test_a_run_that_recorded_nothing_does_not_block_the_next_try(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    (directory.path / "tensorboard").mkdir()
    (directory.path / "tensorboard/events.out.tfevents.1").touch()
    (directory.path / "error.log").write_text("it failed")
    directory.close()
    opened(tmp_path / "run", learning_rate=3.0).close()
    opened(tmp_path / "run", resume=True, learning_rate=3.0).close()
    opened(tmp_path / "run", overwrite=True, learning_rate=3.0).close()
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["learning_rate"] == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run/error.log").read_text() == "it failed"


def test_a_run_that_measured_only_the_start_is_moved_aside_by_the_next_try(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    directory.append_metrics({"step": 0, "evaluation/total": 0.5})
    directory.close()
    opened(tmp_path / "run", resume=True).close()
    assert (tmp_path / "run/metrics.jsonl").is_file()
    opened(tmp_path / "run").close()
    assert (tmp_path / "run.old-1/metrics.jsonl").is_file() and not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["model.pt", "notes.txt", "metrics.jsonl"])
def test_a_folder_that_only_looks_like_a_run_is_not_taken(tmp_path: Path, name: str) -> None:
    """As a copy of some of a run's files does."""
    (tmp_path / "config.yaml").write_text("seed: 1")
    (tmp_path / name).write_text('{"step": 0}')
    before = snapshot(tmp_path)
    with pytest.raises(RunDirectoryError, match="holds a run already"):
        opened(tmp_path)
    assert snapshot(tmp_path) == before


def test_names_of_file_managers_do_not_make_a_folder_a_foreign_one(tmp_path: Path) -> None:
    for name in (".DS_Store", ".nfs000000000123"):
        (tmp_path / name).touch()
    opened(tmp_path).close()
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / ".DS_Store").is_file()
