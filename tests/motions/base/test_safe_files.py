"""Files of tensors and arrays are read without running code, and no error advises to do otherwise."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from motions.base.errors import UserError
from motions.base.safe_files import read_array_file, read_npy, read_object_array, read_tensor_file

ADVICE = re.compile(r"weights_only|allow_pickle|safe_globals|unsafe|trust|pickle\.load|pytorch\.org", re.IGNORECASE)


class Harmful:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return touch, (str(self.mark),)


def touch(mark: str) -> None:
    Path(mark).touch()


def tar(path: Path, mark: Path) -> None:
    """The container of torch before version 0.1.10."""
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Harmful(mark))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def script(path: Path, mark: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


TENSOR_FILES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "object": (lambda path, mark: torch.save({"a": Harmful(mark)}, path), r"Python objects beside tensors \(.*touch\)"),
    "array": (lambda path, mark: torch.save({"a": np.ones(2)}, path), r"Python objects .*\(numpy"),
    "network": (lambda path, mark: torch.save(torch.nn.Linear(2, 2), path), r"\(torch\.nn\.modules\.linear\.Linear\)"),
    "pickle": (lambda path, mark: path.write_bytes(pickle.dumps(Harmful(mark))), "another kind of pickle or archive"),
    "old pickle": (
        lambda path, mark: path.write_bytes(pickle.dumps(Harmful(mark), 2)),
        r"Python objects",
    ),
    "program": (script, "TorchScript program"),
    "old tar": (tar, "another kind of pickle or archive"),
    "text": (lambda path, mark: path.write_text("hello"), "no torch file, or damaged"),
    "nothing": (lambda path, mark: path.touch(), "is empty"),
}


@pytest.mark.parametrize("kind", TENSOR_FILES)
def test_a_file_that_holds_more_than_tensors_is_refused(
    kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write, message = TENSOR_FILES[kind]
    write(tmp_path / "x.pt", tmp_path / "mark")
    recwarn.clear()
    with pytest.raises(UserError, match=message) as caught:
        read_tensor_file(tmp_path / "x.pt")
    assert str(tmp_path / "x.pt") in str(caught.value) and not ADVICE.search(str(caught.value))
    # `--debug` shows the whole chain of errors.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not recwarn and not (tmp_path / "mark").exists()


def test_tensors_and_plain_values_are_read(tmp_path: Path) -> None:
    torch.save({"a": [torch.ones(2), 3, "x", None]}, tmp_path / "x.pt")
    (tensor, *rest) = read_tensor_file(tmp_path / "x.pt")["a"]
    assert torch.equal(tensor, torch.ones(2)) and rest == [3, "x", None]


ARRAY_FILES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "objects": (lambda path, mark: np.savez(path, a=np.array([Harmful(mark)], dtype=object)), "holds Python objects"),
    "pickle": (lambda path, mark: path.write_bytes(pickle.dumps(Harmful(mark))), "no NumPy archive"),
    "array": (lambda path, mark: np.save(path.open("wb"), np.ones(2)), "no NumPy archive"),
    "cut off": (lambda path, mark: path.write_bytes(archive()[:-30]), "no NumPy archive"),
    "changed": (lambda path, mark: path.write_bytes(archive().replace(b"\x01" * 64, b"\x02" * 64)), "damaged"),
    "nothing": (lambda path, mark: path.touch(), "is empty"),
}


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(100, np.uint8))
    return file.getvalue()


@pytest.mark.parametrize("kind", ARRAY_FILES)
def test_an_archive_that_holds_more_than_arrays_is_refused(kind: str, tmp_path: Path) -> None:
    write, message = ARRAY_FILES[kind]
    write(tmp_path / "x.npz", tmp_path / "mark")
    with pytest.raises(UserError, match=message) as caught:
        read_array_file(tmp_path / "x.npz")
    assert str(tmp_path / "x.npz") in str(caught.value) and not ADVICE.search(str(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not (tmp_path / "mark").exists()


def test_arrays_are_read_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.array("text"))
    content = read_array_file(tmp_path / "x.npz")
    np.testing.assert_array_equal(content["a"], np.arange(3))
    assert str(content["b"]) == "text"


PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
READERS: dict[str, Callable[[Path], object]] = {
    "pt": read_tensor_file,
    "npy": read_npy,
    "npz": read_array_file,
    "objects.npy": read_object_array,
}


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inside/model.pt", b"x")
    return file.getvalue()


def a_checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.ones(1000)}, file)
    return file.getvalue()


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PAGE, "a web page"),
        (POINTER, "a pointer of Git LFS"),
        (b"\x1f\x8b" + bytes(100), "a gzip archive"),
        (b"Rar!" + bytes(100), "a RAR archive"),
        (bytes(100), "nothing but zero bytes"),
        (b"", "is empty"),
    ],
)
def test_what_a_download_left_is_named(ending: str, content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.{ending} is {name}" if content else name):
        READERS[ending](path)


@pytest.mark.parametrize("ending", ["pt", "npy", "objects.npy"])
def test_an_archive_around_the_file_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(a_zip())
    with pytest.raises(UserError, match=r"is a zip archive.*: unpack it first"):
        READERS[ending](path)


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(a_checkpoint()[:-700])
    with pytest.raises(UserError, match=r"x\.pt is cut off: its end is missing"):
        read_tensor_file(path)
    array = tmp_path / "x.npy"
    np.save(array, np.ones((20, 30)))
    array.write_bytes(array.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"x\.npy is cut off or damaged"):
        read_npy(array)
