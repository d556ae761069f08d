"""The run directory: exclusive access, what survives a crash, and which changes are errors at resume."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cluster.records.checkpoints import RunDirectoryError
from cluster.records.run_directory import CheckpointWriteError, library_versions
from motions.base.atomic import WriteError
from motions.base.errors import UserError
from tests.toys.running.cluster_runs import opened, saved, snapshot


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond a size, which fails in the same way as a disk without space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_new_directory_has_the_configuration(tmp_path: Path) -> None:
    directory = opened(tmp_path / "a/b", num_steps=7)
    config = yaml.safe_load((tmp_path / "a/b/config.yaml").read_text())
    assert config["num_steps"] == 7 and config["learning_rate"] == 2.0
    assert directory.step == 0 and directory.samples.is_dir()


def test_a_commit_comes_back(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    directory.save_checkpoint(
        3,
        4,
        {"weights": torch.arange(3), "rate": 0.5},
        lambda folder: (folder / "adapter.bin").write_bytes(b"x") and None,
    )
    directory.close()
    again = opened(tmp_path / "run", resume=True)
    assert again.manifest is not None and (again.step, again.manifest.policy_version) == (3, 4)
    assert set(again.manifest.files) == {"learner.pt", "adapter.bin"}
    assert again.manifest.versions == library_versions() and "torch" in again.manifest.versions
    state = again.load_state()
    assert torch.equal(state["weights"], torch.arange(3)) and state["rate"] == 0.5


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    directory = opened(tmp_path / "run")
    saved(directory, 1)
    path = tmp_path / "run/checkpoints/step_000000001/learner.pt"
    path.write_bytes(path.read_bytes()[:-1]) if damage == "cut" else path.unlink()
    directory.close()
    with pytest.raises(RunDirectoryError, match=r"learner.pt is (missing|not the file)"):
        opened(tmp_path / "run", resume=True).load_state()


def test_checkpoints_load_without_pickled_code(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    directory.save_checkpoint(1, 1, {"bad": np.ones(3)})
    with pytest.raises(UserError, match=r"learner\.pt holds Python objects beside tensors"):
        directory.load_state()


def test_retention_keeps_the_newest(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run", keep_checkpoints=2)
    for step in (2, 10, 100):
        saved(directory, step)
    assert sorted(path.name for path in directory.checkpoints.iterdir()) == ["step_000000010", "step_000000100"]


def test_a_full_disk_is_one_clear_error_and_the_last_commit_stands(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    saved(directory, 1)
    before = snapshot(tmp_path / "run")
    with full_disk(100_000), pytest.raises(CheckpointWriteError) as caught:
        directory.save_checkpoint(2, 2, {"weights": torch.zeros(100_000)})
    assert "checkpoint of step 2" in str(caught.value) and "step 1 is intact" in str(caught.value)
    assert "learner.pt" in str(caught.value) and caught.value.errno == errno.EFBIG
    assert snapshot(tmp_path / "run") == before
    saved(directory, 2)
    assert directory.step == 2


def test_a_full_disk_in_the_export_leaves_the_last_commit_too(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    saved(directory, 1)
    before = snapshot(tmp_path / "run")
    with full_disk(100_000), pytest.raises(CheckpointWriteError, match="step 1 is intact"):
        directory.save_checkpoint(2, 2, {}, lambda folder: (folder / "model.pt").write_bytes(bytes(200_000)))
    assert snapshot(tmp_path / "run") == before


def test_a_full_disk_stops_the_metrics_with_their_name(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    directory.append_metrics({"step": 1, "loss": 1.0})
    with full_disk(50), pytest.raises(WriteError, match=r"metrics.jsonl"):
        for step in range(2, 9):
            directory.append_metrics({"step": step, "loss": 1.0})


def test_lines_beyond_the_commit_are_cut_also_half_a_line(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    for step in range(5):
        directory.append_metrics({"step": step})
        directory.append_evaluation({"step": step})
        if step == 2:
            saved(directory, step)
    with open(tmp_path / "run/metrics.jsonl", "a") as file:
        file.write('{"step": 5, "los')
    (tmp_path / "run/checkpoints/.step_000000004").mkdir()
    directory.close()
    again = opened(tmp_path / "run", resume=True)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        steps = [json.loads(line)["step"] for line in (tmp_path / "run" / name).read_text().splitlines()]
        assert steps == [0, 1, 2]
    assert again.evaluated(2) and not again.evaluated(3)
    assert [path.name for path in again.checkpoints.iterdir()] == ["step_000000002"]


def test_a_damaged_line_of_metrics_is_named(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    saved(directory, 1)
    directory.close()
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 1\n')
    with pytest.raises(RunDirectoryError, match=r"metrics\.jsonl has a line that is not JSON"):
        opened(tmp_path / "run", resume=True)


def test_a_second_run_is_kept_out_while_the_first_lives(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="in use by another run"):
        opened(tmp_path / "run", resume=True)
    directory.close()
    opened(tmp_path / "run", resume=True).close()


def test_a_living_run_is_not_moved_away(tmp_path: Path) -> None:
    directory = opened(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="in use by another run"):
        opened(tmp_path / "run", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    saved(directory, 1)
    directory.close()
    opened(tmp_path / "run", overwrite=True).close()
    assert (tmp_path / "run.old-1/config.yaml").is_file()


def test_a_folder_that_was_moved_while_it_was_opened_counts_as_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path / "run").close()
    real = os.open

    def open_and_lose(path: Path, *rest: int) -> int:
        descriptor = real(path, *rest)
        if Path(path).name == ".lock" and not (tmp_path / "elsewhere").exists():
            (tmp_path / "run").rename(tmp_path / "elsewhere")
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with pytest.raises(RunDirectoryError, match="in use by another run"):
        opened(tmp_path / "run", overwrite=True)
