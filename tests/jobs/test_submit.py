"""`ray job submit --working-dir .` against a cluster of `ray start --head`, from a folder without our package.

The job must run the uploaded tree and not an installed copy, its metrics must be readable at the Prometheus endpoint
while it runs, and its results must lie where `--save_dir` says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.runtime.ray_job import JOB_VARIABLE
from tests.toys.tiny_models import TinyModels

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("cluster", "envs", "jobs", "learners", "motions", "rewards", "rollouts")
MARK = "this is the uploaded tree"
START_ATTEMPTS = 3
RAY = (sys.executable, "-m", "ray.scripts.scripts")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.ray,
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp_cors") is None, reason="job submission needs the packages of ray[default]"
    ),
]


@dataclass(frozen=True)
class Head:
    """A running head node."""

    dashboard: str
    metrics: str
    environment: dict[str, str]

    def submit(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """`ray job submit` from some folder."""
        command = [*RAY, "job", "submit", "--address", self.dashboard, *words]
        return subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)

    def status(self, job: str) -> str:
        """Of a submitted job, such as RUNNING."""
        return str(self._answer(job)["status"])

    def log(self, job: str) -> str:
        """What a job printed so far."""
        return str(self._answer(f"{job}/logs")["logs"])

    def _answer(self, path: str) -> Any:
        """Asks again where a busy machine was too slow to answer."""
        while (answer := self.ask(path)) is None:
            time.sleep(0.5)
        return answer

    def ask(self, path: str) -> Any:
        """An answer of the jobs' REST interface; None if there is none."""
        token = self.environment["RAY_AUTH_TOKEN"]
        request = urllib.request.Request(
            f"{self.dashboard}/api/jobs/{path}", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
        # Nobody needs this node any more when it is ended: there is nothing to wait for.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    for _ in range(START_ATTEMPTS):
        # Unix sockets below it have a path of at most 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="kt", dir="/tmp"))
        with start(folder, environment) as cluster:
            if cluster is not None:
                yield cluster
                return
    pytest.fail(f"no head node after {START_ATTEMPTS} attempts")


@contextmanager
def start(folder: Path, environment: dict[str, str]) -> Iterator[Head | None]:
    """A head node of its own with its files in a folder; None where it gave up (Ray waits 30 s for its own parts)."""
    dashboard, agent, metrics, client = free_ports(4)
    options = {
        "port": 0,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "metrics-export-port": metrics,
        "ray-client-server-port": client,
        "num-cpus": 4,
        "object-store-memory": 200 * 10**6,
        "temp-dir": folder,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    log = folder / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*RAY, "start", "--head", "--block", "--include-dashboard=true", *words],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    cluster = Head(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", environment)
    try:
        while process.poll() is None and not ("Ray runtime started" in log.read_text() and cluster.ask("") is not None):
            time.sleep(0.5)
        yield cluster if process.poll() is None else None
    finally:
        # Ends the processes that this `ray start` began, and no other cluster's.
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=240)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages that says in every job's log that it is the one that runs."""
    folder = tmp_path_factory.mktemp("tree")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, folder / layer, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".rayignore", folder)
    with (folder / "jobs" / "__init__.py").open("a") as file:
        file.write(f"\nimport os\nprint({MARK!r}, __file__, 'in a job' if {JOB_VARIABLE!r} in os.environ else '')\n")
    # Ray does not always forward what actors print: the module of the rollouts writes down where it lies instead.
    with (folder / "rollouts" / "diffusion" / "worker.py").open("a") as file:
        file.write(f"\nopen({str(folder / 'rollouts.txt')!r}, 'w').write(__file__)\n")
    return folder


def series(cluster: Head, name: str) -> dict[str, float]:
    """Values of a metric by its labels, empty where there is none yet."""
    try:
        with urllib.request.urlopen(cluster.metrics, timeout=10) as response:
            lines = response.read().decode().splitlines()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return {}
    found = [line.rsplit(" ", 1) for line in lines if line.startswith(name + "{")]
    return {labels: float(value) for labels, value in found}


def test_a_submitted_job_runs_the_uploaded_tree(
    head: Head, tree: Path, tiny_models: TinyModels, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = [
        *("python", "-m", "jobs.grpo", "--model_path", str(tiny_models.policy), "--save_dir", str(folder)),
        *("--dataset", str(tiny_models.dataset)),
        *("--tmr_checkpoint_path", str(tiny_models.tmr), "--judge_path", str(tiny_models.judge)),
        *("--num_steps", "30", "--batch_size", "2", "--group_size", "3", "--num_prompts", "4", "--sampling_steps", "4"),
        *("--num_eval_prompts", "2", "--num_eval_samples", "2", "--max_motion_length", "96", "--eval_every", "0"),
    ]
    submitted = head.submit(
        "--no-wait", "--submission-id", "grpo", "--working-dir", str(tree), "--", *job, folder=elsewhere
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr

    rewards: dict[str, float] = {}
    while not rewards:
        status = head.status("grpo")
        rewards = {label: value for label, value in series(head, "ray_kinetune_reward").items() if "total" in label}
        assert rewards or status in ("PENDING", "RUNNING"), head.log("grpo")
        time.sleep(0.5)
    assert any('name="total"' in label and 'run="run"' in label for label in rewards)
    assert series(head, "ray_kinetune_phase")

    while head.status("grpo") in ("PENDING", "RUNNING"):
        time.sleep(0.5)
    logs = head.log("grpo")
    assert head.status("grpo") == "SUCCEEDED", logs
    marks = [line for line in logs.splitlines() if MARK in line]
    assert any("jobs/__init__.py in a job" in line for line in marks), marks
    assert all("working_dir_files" in line for line in marks), marks
    assert "working_dir_files" in (tree / "rollouts.txt").read_text()
    assert json.loads((folder / "manifest.json").read_text())["step"] == 30
    assert (folder / "report.html").is_file() and (folder / "model_final.pt").is_file()


def test_the_way_from_a_clip_to_a_controller_is_one_job(head: Head, tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    job = [
        *("python", "-m", "jobs.deepmimic", "--motion", "walk", "--save_dir", str(folder), "--video_s", "0"),
        *("--num_demo_envs", "4", "--demo_s", "1", "--dagger_rounds", "0", "--epochs", "2", "--hidden_size", "16"),
        *("--critic_warm_s", "1", "--num_timesteps", "256", "--steps_per_batch", "128", "--num_envs", "4"),
        *("--eval_episodes", "2", "--eval_steps", "10", "--eval_push_forces", "100", "--eval_push_directions", "0"),
    ]
    done = head.submit("--submission-id", "walk", "--working-dir", str(tree), "--", *job, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads((folder / "stages.json").read_text())) == ["clone", "trpo", "evaluation"]
    assert (folder / "trpo" / "controller.safetensors").is_file() and (folder / "report.html").is_file()
