"""A file written atomically is complete or absent, also after an error."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from motions.base.atomic import WriteError, atomic_write
from motions.base.errors import is_mendable


def test_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "manifest.json"
    target.write_bytes(b"a much longer old content")
    with atomic_write(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"a much longer old content"
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_has_the_permissions_of_a_plain_open(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write(tmp_path / "atomic") as file:
        file.write(b"x")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_exception_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "metrics"
    target.write_bytes(b"old")
    with pytest.raises(KeyError), atomic_write(target) as file:
        file.write(b"half")
        raise KeyError("mine")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["metrics"]


def test_the_callers_own_file_error_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), atomic_write(tmp_path / "copy") as file:
        file.write((tmp_path / "absent").read_bytes())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", ["bytes", "torch"])
def test_full_disk_is_one_error_that_names_the_file(
    tmp_path: Path, write: str, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    target = tmp_path / "model000000007.pt"
    target.write_bytes(b"old")
    with (
        file_size_limit(100_000),
        pytest.raises(WriteError, match=r"cannot write .*model000000007\.pt: File too large"),
        atomic_write(target) as file,
    ):
        if write == "bytes":
            file.write(bytes(3_000_000))
        else:
            torch.save({"weight": torch.zeros(1_000_000)}, file)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model000000007.pt"]


def test_a_failed_write_reaches_another_process_whole(tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught, atomic_write(tmp_path / "nowhere/x.pt"):
        pass
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, WriteError) and is_mendable(again)
    assert (str(again), again.errno, again.filename) == (str(caught.value), errno.ENOENT, caught.value.filename)


def test_no_space_left_on_a_real_full_file_system(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        (disk / "model.pt").write_bytes(b"old")
        with (
            pytest.raises(WriteError, match="No space left on device") as caught,
            atomic_write(disk / "model.pt") as file,
        ):
            torch.save({"weight": torch.zeros(1_000_000)}, file)
        assert caught.value.errno == errno.ENOSPC
        assert (disk / "model.pt").read_bytes() == b"old"
        assert os.listdir(disk) == ["model.pt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_missing_folder_and_folder_in_the_way(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"nowhere/x.pt: No such file or directory"),
        atomic_write(tmp_path / "nowhere/x.pt"),
    ):
        pass
    (tmp_path / "x.pt").mkdir()
    with pytest.raises(WriteError, match=r"x.pt: Is a directory"), atomic_write(tmp_path / "x.pt"):
        pass
    assert os.listdir(tmp_path) == ["x.pt"]
