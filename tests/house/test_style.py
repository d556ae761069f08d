"""The tree is formatted, linted and typed: a part of `make check` and `make test`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = ("getaddrinfo", "ECONNREFUSED", "ETIMEDOUT", "ENOTFOUND", "URLError", "urlopen error", "npm error")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("words", [("ruff", "format", "--check", "."), ("ruff", "check", ".")], ids=["format", "lint"])
def test_ruff(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(1200)  # minutes of reading the libraries' types, more on a busy machine
def test_types() -> None:
    done = run("pyright")
    output = done.stdout + done.stderr
    # pyright's wheel fetches its Node package on first use.
    if done.returncode != 0 and " error" not in done.stdout and any(sign in output for sign in NO_NETWORK):
        pytest.skip(f"pyright cannot fetch its Node package: {output.strip().splitlines()[-1]}")
    assert done.returncode == 0, output
