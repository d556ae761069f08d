"""A command on Ray runs in a child process: what ends the child without a word is explained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.house.source_tree import ROOT

pytestmark = pytest.mark.slow

JOB = """
import os, signal, sys, time
from pathlib import Path
from cluster.settings import ClusterSettings, RolloutRunSettings
from jobs.command_line import main as cli

class Config(RolloutRunSettings, ClusterSettings):
    "Of a job."

def run(config):
    (config.save_dir / "pid").write_text(str(os.getpid()))
    print("it runs", flush=True)
    {what}

sys.exit(cli.main(Config, run, "A job.", "tests.job"))
"""


def start(folder: Path, what: str, *words: str) -> subprocess.Popen[str]:
    """A command that does something in its run, on Ray if it is not told otherwise."""
    return subprocess.Popen(
        [sys.executable, "-c", JOB.format(what=what), "--save_dir", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and what was said."""
    output, error = process.communicate(timeout=120)
    assert output in ("", "it runs\n")
    return process.returncode, error


def child_of(process: subprocess.Popen[str], folder: Path) -> int:
    """Process id of the run, once it runs."""
    assert process.stdout is not None and process.stdout.readline() == "it runs\n"
    return int((folder / "pid").read_text())


def test_a_process_that_ray_ends_is_explained_with_what_to_do(tmp_path: Path) -> None:
    status, error = ended(start(tmp_path, "os._exit(1)"))
    assert status == 75
    first, second = error.splitlines()
    assert first.startswith("the Ray cluster is lost: Ray ended the process of the run, as it does when the raylet of")
    assert second == f"  python -m tests.job --save_dir {tmp_path} --resume"


def test_a_process_that_is_killed_is_named(tmp_path: Path) -> None:
    status, error = ended(start(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert status == 137 and error.startswith("the process of the run was killed by SIGKILL (is the memory full?). To")


def test_a_process_that_outlives_the_child_does_not_hold_up_the_guard(tmp_path: Path) -> None:
    what = "; ".join(
        [
            "pid = os.fork()",
            "pid or (os.close(1), os.close(2), time.sleep(900))",
            "(config.save_dir / 'left').write_text(str(pid))",
            "os._exit(1)",
        ]
    )
    try:
        status, error = ended(start(tmp_path, what))
        assert status == 75 and error.startswith("the Ray cluster is lost")
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_what_a_killed_driver_leaves_of_its_cluster_is_ended(tmp_path: Path) -> None:
    what = "; ".join(
        [
            "import subprocess",
            "begin = lambda name: subprocess.Popen([name, '100'], executable='/bin/sleep', start_new_session=True,"
            " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid",
            "pids = [begin('ray::DashboardAgent'), begin('somebody')]",
            "(config.save_dir / 'begun').write_text(' '.join(map(str, pids)))",
            "os.kill(os.getpid(), signal.SIGKILL)",
        ]
    )
    assert ended(start(tmp_path, what))[0] == 137
    agent, other = map(int, (tmp_path / "begun").read_text().split())
    assert not Path(f"/proc/{agent}").exists()
    os.kill(other, signal.SIGKILL)


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [("pass", 0, ""), ("sys.exit(7)", 7, ""), ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug\n")],
)
def test_what_a_run_says_itself_stays_as_it_is(tmp_path: Path, what: str, status: int, said: str) -> None:
    found, error = ended(start(tmp_path, what))
    assert found == status and error.endswith(said) and "lost" not in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_run_and_end_it_once(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "time.sleep(100)")
    child = child_of(process, tmp_path)
    assert child != process.pid
    # As from a terminal or a scheduler, which send it to both.
    os.kill(child, number)
    process.send_signal(number)
    status, error = ended(process)
    assert status == 128 + number and error.startswith("stopped by ")


def test_the_run_dies_with_the_command(tmp_path: Path) -> None:
    process = start(tmp_path, "time.sleep(100)")
    child = child_of(process, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("words", [("--runtime", "local"), ("--debug",)])
def test_without_ray_or_to_debug_there_is_one_process(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = start(tmp_path, "pass", *words)
    assert child_of(process, tmp_path) == process.pid
    assert ended(process)[0] == 0
