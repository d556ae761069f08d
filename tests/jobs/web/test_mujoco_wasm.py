"""The package with MuJoCo's WebAssembly build: fetched once, checked always, and its absence said in one line."""

from __future__ import annotations

import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from jobs.character import deepmimic_run
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.web.mujoco_wasm import PACKAGE, URL, cache_file, check_mujoco_wasm, load_mujoco_wasm
from motions.base.errors import UserError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that would be kept, in a cache without it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kinetune" / PACKAGE


def run_web(*words: object) -> int:
    argv = [str(word) for word in words]
    if "--task" not in argv:
        argv += ["--task", "web"]
    return cli.main(
        DeepMimicConfig, deepmimic_run.run, deepmimic_run.__doc__, "jobs.deepmimic", deepmimic_run.plan, argv=argv
    )


def test_without_a_network_one_line_says_what_to_fetch(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    assert cache_file() == empty_cache
    assert run_web("--save_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and URL in error and str(empty_cache) in error and "--mujoco_wasm" in error
    assert not (tmp_path / "out").exists() and not empty_cache.exists()


def test_what_was_served_must_be_the_pinned_package(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(b"another package"))
    with pytest.raises(UserError, match=r"mujoco-3.14.0.tgz has sha512 .* not 58f51889dbb8171f"):
        load_mujoco_wasm(None)
    assert not empty_cache.exists()


def test_files_are_checked_before_anything_is_written(
    empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.tgz"
    wrong.write_bytes(b"half a package")
    for words in (("--save_dir", tmp_path / "out"), ("--save_dir", tmp_path / "out", "--dry_run")):
        assert run_web(*words, "--mujoco_wasm", wrong) == 2
        assert f"{wrong} has sha512" in capsys.readouterr().err
        assert run_web(*words, "--mujoco_wasm", tmp_path / "none.tgz") == 2
        assert "none.tgz: No such file or directory; it is the file https://" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plan_fetches_nothing(empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_web("--save_dir", tmp_path / "out", "--dry_run") == 0
    assert f"MuJoCo's WebAssembly build: {URL}, to be fetched into {empty_cache}" in capsys.readouterr().out
    assert run_web("--save_dir", tmp_path / "out", "--dry_run", "--pd", "stable") == 2
    assert "legal for task web: damping, actuator" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "evaluate", "--mujoco_wasm", "x.tgz"), "mujoco_wasm is for task web; task is evaluate"),
        (("--task", "web"), "save_dir is required for task web"),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_web(*words) == 2
    assert message in capsys.readouterr().err


def test_the_page_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        load_mujoco_wasm(None)
    except UserError as error:
        pytest.skip(str(error))
    assert check_mujoco_wasm(None) == str(cache_file())
    assert run_web("--save_dir", tmp_path / "out", "--mujoco_wasm", cache_file(), "--motion", "walk") == 0
    assert "web.html: walk, 5." in capsys.readouterr().out
    page = (tmp_path / "out" / "web.html").read_text(encoding="utf-8")
    assert page.endswith("</html>\n") and "deepmimic_walk: layers" in page and "mocap" not in page
