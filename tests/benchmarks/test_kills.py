"""The table of kills on a toy run: the rows in which the cluster itself dies, and how the table is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.kills import Outcome, Run, fill, line_of, negative_times, small_disk, survivors
from tests.toys.running.toy_job import MEASURED

pytestmark = pytest.mark.slow

TOY = (
    *("tests.toys.running.toy_job", "--save_interval", "2", "--eval_every", "0"),
    *("--object_store_mb", "100", "--no_dashboard"),
)
SHORT, LONG_ENOUGH = (*TOY, "--num_steps", "4"), (*TOY, "--num_steps", "100")
LONG = pytest.mark.skipif("KINETUNE_LONG_TESTS" not in os.environ, reason="takes minutes: set KINETUNE_LONG_TESTS=1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the undisturbed toy run."""
    return kills.undisturbed(LONG_ENOUGH, tmp_path_factory.mktemp("kills") / "whole", timeout_s=300)


@pytest.mark.ray
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("raylet", "the Ray cluster is lost: the raylet of this node"),
        pytest.param("gcs", "the Ray cluster is lost: its head (GCS, ", marks=LONG),
    ],
)
def test_a_cluster_that_dies_ends_the_run_in_one_line_and_costs_no_bit(
    tmp_path: Path, whole: str, row: str, words: str
) -> None:
    found = kills.outcome(row, LONG_ENOUGH, tmp_path / row, whole, timeout_s=250)
    assert found.wrong == "", (tmp_path / row / "log.txt").read_text()
    assert (found.status, found.resumed, found.same_bits, found.left) == (75, True, True, 0)
    log = (tmp_path / row / "log.txt").read_text().splitlines()
    [said] = [line for line in log if "the Ray cluster is lost" in line]
    assert said.startswith(words) and said.endswith(". To go on:")
    assert log[log.index(said) + 1].endswith("--resume")


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_cluster_that_dies_after_the_last_step_costs_nothing(tmp_path: Path) -> None:
    whole = kills.undisturbed(SHORT, tmp_path / "whole", timeout_s=300)
    found = kills.outcome("late_raylet", SHORT, tmp_path / "late", whole, timeout_s=250)
    log = (tmp_path / "late" / "log.txt").read_text()
    assert found.wrong == "", log
    assert (found.status, found.resumed, found.same_bits, found.left) == (0, False, True, 0)
    assert "after the last step: what is left is done in this process" in log
    assert (tmp_path / "late" / "run" / MEASURED).read_text() == "local"


def test_a_row_that_is_wrong_is_named_and_gives_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Outcome("rollout", "SIGKILL", 0, 3, False, True, 0, 9.0, "done", "")
    wrong = Outcome("raylet", "SIGKILL", 1, 3, True, False, 2, 9.0, "Aborted", "status 1, expected 75; other bits")
    found = {"rollout": right, "raylet": wrong}
    monkeypatch.setattr(kills, "undisturbed", lambda *_: "hash")
    monkeypatch.setattr(kills, "outcome", lambda name, *_: found[name])
    words = ["--folder", str(tmp_path), "--json", str(tmp_path / "found.json"), "--only"]
    assert kills.main([*words, "rollout"]) == 0
    assert kills.main([*words, "rollout", "raylet"]) == 1
    assert "WRONG: status 1, expected 75; other bits" in capsys.readouterr().out
    assert [one["row"] for one in json.loads((tmp_path / "found.json").read_text())] == ["rollout", "raylet"]
    assert "same" in line_of(right) and "OTHER" in line_of(wrong)


def test_processes_that_are_left_are_seen(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    assert survivors(process.pid, "no session of this name", 0.0) == [sys.executable]
    process.communicate(b"\n")
    assert survivors(process.pid, "no session of this name", 0.0) == []


def test_times_that_run_backwards_are_seen(tmp_path: Path) -> None:
    lines = [{"step": 1, "seconds/step": 2.0, "reward/total": -1.0}, {"step": 2, "seconds/step": -3599.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert negative_times(tmp_path) == ["seconds/step is -3599.0 at step 2"]
    assert Run((), tmp_path, tmp_path / "log.txt").step() == 2


def test_a_small_disk_can_be_filled(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk") as disk:
            fill(disk)
            with pytest.raises(OSError, match="No space left"):
                (disk / "more").write_bytes(bytes(10_000))
    except kills.SkippedError as reason:
        pytest.skip(str(reason))
