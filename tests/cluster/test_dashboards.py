"""Every query of every dashboard, asked of a real Prometheus that scrapes a running job."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from cluster.runtime.connect import Connection
from tests.toys.tiny_models import TinyModels, grpo_words

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "cluster" / "grafana" / "dashboards").glob("*.json"))
LIMIT_S = 500.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def queries() -> dict[str, str]:
    """The query of each target of each panel, by panel and number."""
    found = {}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for number, target in enumerate(panel.get("targets", [])):
                found[f"{path.stem}: {panel['title']} {number}"] = target["expr"]
    return found


def parts(query: str) -> list[str]:
    """A query for each name that it asks for, so that none of them is dead."""
    listed = re.search(r'name=~"([^"]+)"', query)
    names = listed[1].split("|") if listed else []
    return [query.replace(listed[0], f'name=~"{name}"') for name in names if listed] or [query]


def test_queries_are_taken_apart() -> None:
    assert parts('a{run=~"$run", name=~"x|y"}') == ['a{run=~"$run", name=~"x"}', 'a{run=~"$run", name=~"y"}']
    assert parts('a{run=~"$run"} == 1') == ['a{run=~"$run"} == 1']
    assert len(queries()) >= 18


class Prometheus:
    """A running server.

    Args:
        url: where it answers.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def has_data(self, query: str) -> bool:
        """Whether a query gives any number that is one."""
        asked = urllib.parse.urlencode({"query": query.replace("$run", ".+")})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=60) as answer:
            result = json.load(answer)["data"]["result"]
        return any(series["value"][1] != "NaN" for series in result)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A server of its own on a free port that scrapes one endpoint every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on this machine (Debian: apt-get install prometheus)")
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    deadline = time.monotonic() + LIMIT_S
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with open(folder / "log.txt", "ab") as log:
            server = subprocess.Popen(
                [program, *words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
            )
        try:
            url = f"http://127.0.0.1:{port}"
            while server.poll() is None and time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
                except OSError:
                    time.sleep(0.2)
                    continue
                yield Prometheus(url)
                return
        finally:
            server.kill()
            server.wait()
        # Somebody else may have taken the port in between.
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()


@pytest.mark.ray
@pytest.mark.skipif("KINETUNE_LONG_TESTS" not in os.environ, reason="takes minutes: set KINETUNE_LONG_TESTS=1")
def test_every_query_of_every_panel_has_data_while_a_job_runs(
    tiny_models: TinyModels, tmp_path: Path, ray_cluster: Connection
) -> None:
    import ray

    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine (Debian: apt-get install prometheus)")
    words = grpo_words(
        tiny_models,
        tmp_path / "watched",
        runtime="ray",
        ray_address=ray.get_runtime_context().gcs_address,
        num_steps=100_000,
        staleness=1,
        eval_every=5,
        save_interval=1000,
        second_judge=True,
        cpus_per_rollout_actor=0.1,
        cpus_per_reward_actor=0.1,
        cpus_per_learner=0.1,
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    target = ray_cluster.metrics_urls[0].removeprefix("http://").removesuffix("/metrics")
    with open(tmp_path / "job.txt", "wb") as log, prometheus(tmp_path, target) as server:
        job = subprocess.Popen(
            [sys.executable, "-m", "jobs.grpo", *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            missing = {f"{panel}: {part}" for panel, query in queries().items() for part in parts(query)}
            deadline = time.monotonic() + LIMIT_S
            while missing and job.poll() is None and time.monotonic() < deadline:
                # Between two phases none of them is 1: a query has to succeed once.
                missing = {line for line in missing if not server.has_data(line.split(": ", 2)[2])}
                time.sleep(0.2)
            said = (tmp_path / "job.txt").read_text(errors="replace")
            assert not missing, (sorted(missing), job.poll(), said[-3000:])
        finally:
            job.send_signal(signal.SIGTERM)
            job.wait()
