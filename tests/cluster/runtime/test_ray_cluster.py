"""A cluster of several nodes: code reaches them, and what was on a lost node is made again."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import ray

from cluster.runtime.connect import (
    MAX_UPLOAD_MB,
    ROOT,
    ConnectionFailed,
    attach,
    connect,
    protect_token,
    upload,
    upload_megabytes,
)
from cluster.settings import ConnectionSettings

pytestmark = pytest.mark.slow

USER_MODULE = """
import numpy as np
import ray
import cluster.settings  # ours has to be there too


class Maker:
    def make(self):
        return np.arange(1_000_000, dtype=np.float64), ray.get_runtime_context().get_node_id()

    def read(self, array):
        return float(array.sum())
"""


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_was_on_a_lost_node_is_made_again_and_code_reaches_the_nodes(tmp_path: Path) -> None:
    (tmp_path / "user_module.py").write_text(USER_MODULE)
    # The bare interpreter with the dependencies on its path: kinetune itself is not installed.
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    done = subprocess.run(
        [python, Path(__file__).with_name("node_loss.py"), ROOT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("sum", "retries"))]
    assert float(lines[0][1]) == sum(range(1_000_000))
    assert int(lines[1][1]) >= 1 and int(lines[1][3]) >= 1


def test_an_upload_is_measured_without_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(bytes(1000))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/model.pt").write_bytes(bytes(5_000_000))
    assert upload_megabytes(tmp_path) == pytest.approx(5.001)
    (tmp_path / ".rayignore").write_text("runs/\n")
    assert upload_megabytes(tmp_path) < 0.01
    environment = upload(tmp_path)
    assert environment["working_dir"] == str(tmp_path)
    assert {Path(module).name for module in environment["py_modules"]} >= {"cluster", "rollouts", "motions"}
    assert upload(ROOT) == {"working_dir": str(ROOT)}


def test_an_upload_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "data.bin", "wb") as file:
        file.truncate((MAX_UPLOAD_MB + 1) * 10**6)
    with pytest.raises(ConnectionFailed, match=r"would upload 201 MB.*\.rayignore"):
        upload(tmp_path)


def test_the_repository_itself_is_small_enough_to_upload() -> None:
    assert upload_megabytes(ROOT) < 50


def test_the_token_of_a_cluster_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray/auth_token"
    for environ in ({}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}):
        protect_token(environ, create=bool(environ))
        assert not token.exists()
    protect_token({}, create=True)
    written = token.read_text()
    assert len(written) == 64 and token.stat().st_mode & 0o777 == 0o600
    token.chmod(0o644)
    protect_token({"RAY_AUTH_MODE": "token"}, create=True)
    assert token.read_text() == written and token.stat().st_mode & 0o777 == 0o600


def test_no_cluster_at_an_address_is_one_clear_error() -> None:
    with pytest.raises(ConnectionFailed, match=r"no Ray cluster answers at '127.0.0.1:1'"):
        attach("127.0.0.1:1")


def test_a_machine_that_is_too_busy_for_ray_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because some of the raylet")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with (
        pytest.raises(ConnectionFailed, match="this machine is too busy to start a Ray cluster on it"),
        connect(ConnectionSettings(ray_address="local")),
    ):
        pass
