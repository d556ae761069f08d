"""Runs that lose a process, their disk or their clock: each ends with the bits of a run that was left alone.

    python -m benchmarks.kills [--only ROW ...] [--json PATH] [--folder DIR]

Every row starts a small GRPO run (`JOB`) that starts its own Ray cluster, and disturbs it after `DISTURBED_AT` steps
or, in the rows `late_*`, while the policy is measured after the last one. It compares: the exit status with what
docs/explanation/survival.md says; the hash of the learner's state and of the evaluations at the end, after `--resume`
where the run ended early, with those of an undisturbed run in one process (`--runtime local`); and the processes that
are left a minute after its end with none. No output may hold a traceback.

Rows: rollout, reward, learner (SIGKILL to that actor), driver (to the process that runs the job), raylet, gcs,
late_raylet, late_gcs, stopped (SIGSTOP to the rollout actor), sigterm, disk (a file system that fills up), clock (the
clock of all processes is set back by an hour). The disk is a tmpfs, which only root may mount: else its row is skipped,
and the reason printed.

Target: every row that can run is right. The exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.records.measured import read_json_lines

JOB = (
    *("jobs.grpo", "--preset", "demo", "--num_steps", "8", "--batch_size", "2", "--group_size", "2"),
    *("--num_prompts", "4", "--num_eval_prompts", "2", "--num_eval_samples", "1", "--save_interval", "2"),
    *("--eval_every", "0", "--num_rollout_actors", "1", "--object_store_mb", "100"),
)
"""The module and the options of the run."""
DISTURBED_AT = 3
LEFT_AFTER_S = 60.0
CALL_TIMEOUT_S = "20"
DISK_MB = 32
CLOCK = """
import os, time
_real = time.time
time.time = lambda: _real() - (3600.0 if os.path.exists({flag!r}) else 0.0)
"""
"""What every Python process of the row `clock` runs at its start: the clock is set back once the file is there."""
ENVIRONMENT = {"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
TOO_BUSY = "too busy to start a Ray cluster"
TEMPORARY_FAILURE, MENDABLE = os.EX_TEMPFAIL, 2


class SkippedError(Exception):
    """A row cannot run here; the message says why."""


@dataclass(slots=True)
class Run:
    """A job that runs in a process group of its own."""

    words: Sequence[str]
    save_dir: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> Run:
        """Starts it, with more options."""
        command = [sys.executable, "-m", *self.words, "--save_dir", str(self.save_dir), *more]
        environment = {**os.environ, **ENVIRONMENT, **self.environment}
        path = [*self.environment.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def start_until(self, reached: Callable[[Run], bool], options: Sequence[str], timeout_s: float) -> None:
        """Starts it and waits for something; starts it again if the machine was too busy for Ray to start.

        Raises:
            RuntimeError: the run ended before, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        process = self.start(*options).process
        while not reached(self):
            if process is None or process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")
                if TOO_BUSY not in said or time.monotonic() > deadline:
                    raise RuntimeError(f"the run did not come so far:\n{said[-3000:]}")
                self.log.unlink()
                process = self.start(*options).process
            time.sleep(0.1)

    def step(self) -> int:
        """The last step that is recorded."""
        return max((record["step"] for record in read_json_lines(self.save_dir / "metrics.jsonl")), default=-1)

    def is_late(self) -> bool:
        """Whether its last step is committed."""
        steps = int(self.words[self.words.index("--num_steps") + 1])
        manifest = self.save_dir / "manifest.json"
        return manifest.is_file() and json.loads(manifest.read_text())["step"] >= steps

    def driver(self) -> int:
        """Process id of the job itself, the child of the process that guards it."""
        assert self.process is not None
        [child] = [pid for pid, parent, _ in processes() if parent == self.process.pid]
        return child

    def daemon(self, program: str) -> int:
        """Process id of the raylet or the GCS of its cluster."""
        driver = self.driver()
        [found] = [pid for pid, parent, words in processes() if parent == driver and words[0].endswith(program)]
        return found

    def session(self) -> Path:
        """Folder of its Ray session."""
        raylet = self.daemon("/raylet")
        words = next(" ".join(words) for pid, _, words in processes() if pid == raylet)
        found = re.search(r"(\S+/session_[^/ ]+)/sockets", words.replace("=", " "))
        assert found is not None, words
        return Path(found[1])

    def actor(self, beginning: str) -> int:
        """Process id of an actor, by the beginning of the name that Ray writes into its log."""
        found = [
            int(path.stem.rpartition("-")[2])
            for path in (self.session() / "logs").glob("worker-*.out")
            if f":actor_name:{beginning}" in path.read_text(errors="replace")
        ]
        return max(found)


@dataclass(frozen=True, slots=True)
class Row:
    """A disturbance and what must come of it."""

    what: str
    disturb: Callable[[Run], object]
    status: int
    options: tuple[str, ...] = ()
    after_last_step: bool = False
    """Whether it comes once the last step is committed, while the policy is measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a row; `wrong` is empty if all is right."""

    row: str
    what: str
    status: int
    disturbed_at: int
    resumed: bool
    same_bits: bool
    left: int
    seconds: float
    last_line: str
    wrong: str


def kill(number: int, find: Callable[[Run], int]) -> Callable[[Run], None]:
    """A disturbance: a signal to a process of the run."""
    return lambda run: os.kill(find(run), number)


KILL_RAYLET = kill(signal.SIGKILL, lambda run: run.daemon("/raylet"))
KILL_GCS = kill(signal.SIGKILL, lambda run: run.daemon("/gcs_server"))
ROWS: dict[str, Row] = {
    "rollout": Row("SIGKILL to the rollout actor", kill(signal.SIGKILL, lambda run: run.actor("rollout-")), 0),
    "reward": Row("SIGKILL to a reward actor", kill(signal.SIGKILL, lambda run: run.actor("reward:")), 0),
    "learner": Row("SIGKILL to the learner", kill(signal.SIGKILL, lambda run: run.actor("learner-")), 0),
    "driver": Row("SIGKILL to the driver", kill(signal.SIGKILL, Run.driver), 128 + signal.SIGKILL),
    "raylet": Row("SIGKILL to the raylet", KILL_RAYLET, TEMPORARY_FAILURE),
    "gcs": Row("SIGKILL to the head (GCS)", KILL_GCS, TEMPORARY_FAILURE),
    "late_raylet": Row("SIGKILL to the raylet after the last step", KILL_RAYLET, 0, after_last_step=True),
    "late_gcs": Row("SIGKILL to the head (GCS) after the last step", KILL_GCS, 0, after_last_step=True),
    "stopped": Row(
        "SIGSTOP to the rollout actor",
        kill(signal.SIGSTOP, lambda run: run.actor("rollout-")),
        0,
        ("--call_timeout_s", CALL_TIMEOUT_S),
    ),
    "sigterm": Row("SIGTERM to the job", lambda run: run.process and run.process.terminate(), 128 + signal.SIGTERM),
    "disk": Row("the disk is full", lambda run: fill(run.save_dir.parent), MENDABLE),
    "clock": Row("the clock is set back by an hour", lambda run: (run.save_dir.parent / "jump").touch(), 0),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the rows and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help="rows to run")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the outcomes there, row by row")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the runs there; by default a temporary one")
    parser.add_argument("--timeout_s", type=float, default=1800.0, help="seconds after which a run counts as hung")
    options = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills_")))
        folder.mkdir(parents=True, exist_ok=True)
        print(
            f"{'row':<11} {'exit':>4} {'at':>3} {'resumed':>7} {'bits':>6} {'left':>4} {'s':>5}  last line", flush=True
        )
        whole = undisturbed(JOB, folder / "whole", options.timeout_s)
        outcomes = []
        for name in options.only:
            try:
                outcomes.append(outcome(name, JOB, folder / name, whole, options.timeout_s))
            except SkippedError as reason:
                print(f"{name:<11} skipped: {reason}", flush=True)
                continue
            print(line_of(outcomes[-1]), flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n")
    return 1 if any(one.wrong for one in outcomes) else 0


def line_of(found: Outcome) -> str:
    """An outcome as a line of the table."""
    bits, resumed = "same" if found.same_bits else "OTHER", "yes" if found.resumed else "no"
    wrong = f"  WRONG: {found.wrong}" if found.wrong else ""
    numbers = f"{found.status:>4} {found.disturbed_at:>3} {resumed:>7} {bits:>6} {found.left:>4} {found.seconds:>5.0f}"
    return f"{found.row:<11} {numbers}  {found.last_line}{wrong}"


def undisturbed(job: Sequence[str], folder: Path, timeout_s: float) -> str:
    """Hash of a run in one process that nobody disturbs."""
    folder.mkdir(parents=True)
    run = Run(job, folder / "run", folder / "log.txt").start("--runtime", "local")
    status = run.wait(timeout_s)
    if status:
        raise RuntimeError(f"the undisturbed run ended with status {status}: see {run.log}")
    return hash_of(run.save_dir)


def outcome(
    name: str, job: Sequence[str], folder: Path, whole: str, timeout_s: float, left_after_s: float = LEFT_AFTER_S
) -> Outcome:
    """Disturbs a run and says what came of it.

    Args:
        whole: hash of the undisturbed run.
        left_after_s: longest time that its processes may live on.

    Raises:
        SkippedError: this machine cannot make the disturbance.
    """
    row, started = ROWS[name], time.monotonic()
    folder.mkdir(parents=True)
    with small_disk(folder / "disk") if name == "disk" else contextlib.nullcontext(folder) as place:
        environment = {}
        if name == "clock":
            (folder / "python").mkdir()
            (folder / "python" / "sitecustomize.py").write_text(CLOCK.format(flag=str(folder / "jump")))
            environment["PYTHONPATH"] = str(folder / "python")
        run = Run(job, place / "run", folder / "log.txt", environment)
        reached = Run.is_late if row.after_last_step else lambda run: run.step() >= DISTURBED_AT
        run.start_until(reached, row.options, timeout_s)
        at, session = run.step(), run.session()
        row.disturb(run)
        status = run.wait(timeout_s)
        assert run.process is not None
        left = survivors(run.process.pid, session.name, left_after_s)
        lines = run.log.read_text(errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line and not line.startswith(" ")), "")
        resumed = status != 0
        wrong = []
        if resumed:
            (place / "filler").unlink(missing_ok=True)
            again = run.start("--runtime", "local", "--resume").wait(timeout_s)
            wrong += [f"the resumed run ended with status {again}"] if again else []
        same = not wrong and hash_of(run.save_dir) == whole
        wrong += [] if status == row.status else [f"status {status}, expected {row.status}"]
        wrong += [] if same else ["other bits"]
        wrong += [f"{len(left)} processes left: {left}"] if left else []
        wrong += ["a traceback"] if "Traceback (most recent call last)" in run.log.read_text(errors="replace") else []
        wrong += negative_times(run.save_dir)
    seconds = time.monotonic() - started
    return Outcome(name, row.what, status, at, resumed, same, len(left), seconds, last, "; ".join(wrong))


def hash_of(save_dir: Path) -> str:
    """Hash of the learner's state in the last checkpoint and of all evaluations."""
    manifest = json.loads((save_dir / "manifest.json").read_text())
    evaluations = (save_dir / "evaluations.jsonl").read_bytes()
    return hashlib.sha256(manifest["files"]["learner.pt"].encode() + evaluations).hexdigest()


def negative_times(save_dir: Path) -> list[str]:
    """Metrics in seconds that are negative."""
    return [
        f"{name} is {value} at step {record['step']}"
        for record in read_json_lines(save_dir / "metrics.jsonl")
        for name, value in record.items()
        if name.startswith(("seconds/", "cluster/")) and value < 0
    ]


def processes() -> Iterator[tuple[int, int, list[str]]]:
    """Process id, that of the parent, and the words of the command of every process that has one."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if words[0]:
                yield int(folder.name), int(parent), words


def survivors(leader: int, session: str, limit_s: float) -> list[str]:
    """Names of the processes of a run that are left after a time, or as soon as there are none: those of the session of
    its process, and those whose command names its Ray session."""
    deadline = time.monotonic() + limit_s
    while True:
        left = []
        for pid, _, words in processes():
            with contextlib.suppress(OSError):
                if os.getsid(pid) == leader or any(session in word for word in words):
                    left.append(words[0])
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of `DISK_MB` in a folder. Raises SkippedError where it cannot be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        raise SkippedError(f"no small file system can be mounted here: {error}") from error
    if done.returncode:
        raise SkippedError(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Fills the file system of a folder."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


if __name__ == "__main__":
    sys.exit(main())
