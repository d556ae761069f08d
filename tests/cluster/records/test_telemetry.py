"""Reports of progress: lines and bars, TensorBoard, Weights & Biases without a network, names of gauges, the trace."""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any, TextIO

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.records.telemetry import Telemetry, trace_event
from cluster.records.trackers import make_tracker
from cluster.runtime.protocol import CallStats
from tests.toys.running.cluster_runs import Terminal, ToyConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


def settings(folder: Path, **changes: Any) -> ToyConfig:
    return ToyConfig(save_dir=folder, **changes)


def told(stream: TextIO, log_interval: int) -> None:
    telemetry = Telemetry(num_steps=5, log_interval=log_interval, stream=stream)
    for step in range(1, 6):
        telemetry.log({"reward/total": step / 10, "policy/loss": 3.0}, step)
        telemetry.finished_step(step)
    telemetry.message("a message")
    telemetry.close()


def test_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    told(stream, log_interval=2)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("step")] == ["2/5", "4/5", "5/5"]
    assert "reward/total 0.5" in lines[2] and "left" in lines[2]
    assert lines[3] == "a message"


def test_a_run_that_takes_more_steps_than_were_expected_has_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    telemetry = Telemetry(num_steps=1, log_interval=1, stream=stream)
    clock = itertools.count(0.0, 60.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with telemetry.phase("rollout"):
        pass
    telemetry.finished_step(3)
    assert stream.getvalue() == "step 3/3    0:00 left\n"


def test_a_better_estimate_of_the_number_of_steps_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    telemetry = Telemetry(num_steps=100, log_interval=10, stream=stream)
    clock = itertools.count(0.0, 60.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with telemetry.phase("rollout"):
        pass
    telemetry.finished_step(10, 20)
    telemetry.finished_step(13, 13)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["10/20", "13/13"]


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    told(stream, log_interval=1)
    assert "5/5" in stream.getvalue() and "reward total=0.5" in stream.getvalue()


def test_a_clock_that_is_set_back_gives_no_negative_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count(2e9, -3600.0)
    # tqdm has a name of its own for the same clock.
    for clock in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(clock, lambda: next(now))
    for stream in (Terminal(), io.StringIO()):
        told(stream, log_interval=1)
        shown = stream.getvalue()
        assert "5/5" in shown and not re.search(r"-\d|\d:\d\d:\d\d", shown)


def test_phases_are_timed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry(num_steps=1, stream=io.StringIO())
    clock = iter([0.0, 5.0, 7.0, 8.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for seconds in (5.0, 1.0):
        with telemetry.phase("update"):
            pass
        assert telemetry.seconds == {"update": seconds}


def test_no_tracker_unless_asked(tmp_path: Path) -> None:
    assert make_tracker(settings(tmp_path), {}, tmp_path, 0) is None


def test_trackers_are_imported_when_asked_for_only() -> None:
    names = "('wandb', 'tensorboard', 'torch', 'ray')"
    script = f"import sys, cluster.run.session\nprint([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tensorboard_hides_steps_that_are_done_again(tmp_path: Path) -> None:
    chosen = settings(tmp_path, train_platform_type="TensorboardPlatform")
    for first_step, value in ((0, 1.0), (2, 2.0)):
        tracker = make_tracker(chosen, {}, tmp_path, first_step)
        assert tracker is not None
        for step in range(first_step + 1, first_step + 4):
            tracker.log({"reward/total": value}, step)
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("reward/total")
    assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]


def test_wandb_works_offline_and_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    chosen = settings(tmp_path, train_platform_type="WandBPlatform", wandb_mode="offline", wandb_project="toys")
    ids = set()
    for step in (1, 2):
        tracker = make_tracker(chosen, {"seed": 10}, tmp_path, step - 1)
        assert tracker is not None
        tracker.log({"reward/total": 0.5}, step)
        tracker.close()
        ids.add((tmp_path / "wandb_id.txt").read_text())
    assert len(ids) == 1
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 2 and all(path.stem == f"run-{ids.copy().pop()}" for path in runs)


def test_wandb_without_a_login_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    chosen = settings(tmp_path, train_platform_type="WandBPlatform")
    with pytest.raises(ValueError, match="--wandb_mode offline"):
        make_tracker(chosen, {}, tmp_path, 0)


def test_gauge_names_are_legal() -> None:
    from cluster.records.gauges import split_name

    assert split_name("reward/tmr.cosine") == ("kinetune_reward", "tmr.cosine")
    assert split_name("my-group/x") == ("kinetune_my_group", "x")
    assert split_name("loss") == ("kinetune_loss", "loss")


def test_trace_events_are_in_microseconds() -> None:
    event = trace_event(CallStats("rollout-0", "rollout of step 3", 10.0, 0.5, 77))
    assert (event["ts"], event["dur"], event["tid"], event["ph"]) == (10e6, 0.5e6, "rollout-0", "X")


def test_a_terminal_that_does_not_tell_its_size_has_a_bar_too() -> None:
    """As under `script` or in some containers: 0 columns, 0 rows."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    with os.fdopen(slave, "w") as stream:
        told(stream, log_interval=1)
    shown = b""
    # Reading ends with an error, as the other side is closed.
    with contextlib.suppress(OSError):
        while part := os.read(master, 10_000):
            shown += part
    os.close(master)
    assert all(word in shown.decode() for word in ("5/5", "reward total=0.5", "<"))
