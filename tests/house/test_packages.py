"""The layers are top-level packages; another package of such a name must not be taken for ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobs

ROOT = Path(__file__).resolve().parents[2]


def test_a_foreign_package_of_a_layer_s_name_stops_a_job_with_both_paths(tmp_path: Path) -> None:
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "jobs.pretrain", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: package rewards would be imported from {tmp_path / 'rewards'}, not from {ROOT / 'rewards'}"
    )


def test_a_missing_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LAYERS", ("no_such_layer",))
    with pytest.raises(ImportError, match="no_such_layer would be imported from nowhere"):
        jobs.check_layers()


def test_every_layer_says_that_it_is_typed() -> None:
    assert all((ROOT / layer / "py.typed").is_file() for layer in (*jobs.LAYERS, "jobs"))
