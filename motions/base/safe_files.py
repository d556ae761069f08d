"""Reads files of tensors and of arrays without running code from them.

PyTorch and NumPy refuse files that hold Python objects, and then advise to load them unsafely. That advice is not
passed on here: the errors say what the file is or holds instead. `numpy.load(allow_pickle=True)` runs any code that a
pickle contains; in the object arrays read here a pickle may refer only to NumPy's array constructors, and everything
else must be plain data (dictionaries, lists, strings, numbers, arrays).
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from motions.base.errors import UserError
from motions.base.foreign_files import foreign_kind

# Exceptions of torch.load on damaged files, found by damaging thousands of files.
_TORCH_LOAD_ERRORS = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError),
    *(AssertionError, OverflowError, OSError, struct.error, zipfile.BadZipFile),
)
_OBJECT = re.compile(r"GLOBAL ([\w.]+)")
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (module, name) for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar", "_frombuffer")
}


class TensorFileError(UserError):
    """A file holds no tensors, or not only tensors; the message names it and says what it is.

    Attributes:
        holds_objects: whether it may be a torch file, with Python objects in it.
    """

    def __init__(self, message: str, *, holds_objects: bool = False) -> None:
        super().__init__(message)
        self.holds_objects = holds_objects


class PlainObject:
    """What an object of a class was pickled with, as attributes; none of its class's code."""


def read_tensor_file(path: Path, plain_classes: Collection[str] = ()) -> Any:
    """Contents of a torch file, on the CPU: tensors and plain values in dictionaries and lists.

    Args:
        plain_classes: names of classes, without their modules, whose objects are read as `PlainObject`.

    Raises:
        TensorFileError: it is no torch file (a pointer of Git LFS, a web page, an archive, ...), damaged, or holds
            Python objects or code.
        OSError: it cannot be opened.
    """
    # Imported here because those who open run directories or reports need no torch.
    import torch

    if (kind := foreign_kind(path, zip_is_right=True)) is not None:
        raise TensorFileError(f"{path} is {kind}")
    if (fault := _archive_fault(path)) is not None:
        raise TensorFileError(f"{path} is {fault}")
    try:
        with warnings.catch_warnings():
            # About pickles that are not torch's; the error below says what they are.
            warnings.simplefilter("ignore")
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if plain_classes else ()
            plain: list[Any] = [(PlainObject, name) for name in named if name.rpartition(".")[2] in plain_classes]
            with torch.serialization.safe_globals(plain):
                return torch.load(path, map_location="cpu", weights_only=True)
    except _TORCH_LOAD_ERRORS as error:
        text = str(error)
    if found := _OBJECT.search(text):
        raise TensorFileError(
            f"{path} holds Python objects beside tensors ({found[1]}), which are not loaded: they could run code",
            holds_objects=True,
        )
    if "TorchScript" in text:
        raise TensorFileError(f"{path} is a TorchScript program, which would run code; save the state dict alone")
    reason = next((line.strip() for line in text.splitlines() if line.strip()), "it ends too early")
    if "weights_only" in text:
        reason = "another kind of pickle or archive"
    raise TensorFileError(f"{path} is no torch file, or damaged ({reason})")


def read_npy(path: str | Path) -> np.ndarray:
    """The array of a `.npy` file of plain numbers.

    Raises UserError naming the file and what it is instead: no file, a pointer of Git LFS, a web page, an archive, cut
    off, or an array of Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    _require_npy(path)
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        text = str(error)
    if "Object arrays" in text:
        raise UserError(
            f"{path} holds Python objects, which are not loaded because they could run code; save plain numbers"
        )
    raise UserError(f"{path} is cut off or damaged: {text.splitlines()[0]}")


def read_array_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, by name.

    Raises:
        UserError: it is no `.npz` file, damaged, or holds Python objects, which could run code.
        OSError: it cannot be opened.
    """
    if (kind := foreign_kind(path, zip_is_right=True)) is not None:
        raise UserError(f"{path} is {kind}")
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise UserError(f"{path} is no NumPy archive (.npz), or damaged ({error})") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path} holds Python objects, which are not loaded because they could run code") from None
        raise UserError(f"{path} is damaged ({error})") from None


def read_object_array(path: str | Path) -> object:
    """The dictionary, list or object array that was given to `numpy.save`, without the 0-d array around it.

    Raises:
        UserError: no such file, not a `.npy` file, broken, or a pickle that names anything but arrays and plain data.
    """
    path = Path(path)
    try:
        _require_npy(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    with path.open("rb") as file:
        try:
            version = npy_format.read_magic(file)
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = read_header(file)
        except ValueError as error:
            raise UserError(f"{path} is not a .npy file: {error}") from error
        if not dtype.hasobject:
            raise UserError(f"{path} holds an array of {dtype}, not Python objects")
        content = _unpickled(file, path)
    if not isinstance(content, np.ndarray) or content.dtype != object:
        raise UserError(f"{path} holds a {type(content).__name__}, expected an array of objects")
    return content.reshape(shape).item() if shape == () else content.reshape(shape)


def read_plain_pickle(path: str | Path) -> object:
    """The plain data in a pickle: dictionaries, lists, strings, numbers, NumPy arrays.

    Raises:
        UserError: no such file, another kind of file, broken, or a pickle that names anything else, which could run
            code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if (kind := foreign_kind(path)) is not None:
        raise UserError(f"{path} is {kind}")
    with path.open("rb") as file:
        return _unpickled(file, path)


def _unpickled(file: BinaryIO, path: Path) -> object:
    try:
        return _PlainUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused: {error}") from error
    except (EOFError, AttributeError, ImportError, IndexError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path} is broken: {type(error).__name__}: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """The NumPy constructor of this name. Raises UnpicklingError for any other object."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only NumPy arrays and plain Python data (dict, list, str, numbers) are read"
            )
        return super().find_class(module, name)


def _require_npy(path: Path) -> None:
    """Raises UserError, naming what it is, for a file that is no NumPy array."""
    if (kind := foreign_kind(path)) is not None:
        raise UserError(f"{path} is {kind}")
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise UserError(f"{path} is not a .npy file (NumPy's format for one array)")


def _archive_fault(path: Path) -> str | None:
    """What a zip archive is that cannot be a whole torch file; None for all other files."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    # The table of contents stands at the end.
    if not zipfile.is_zipfile(path):
        return "cut off: its end is missing; copy or download it again"
    with zipfile.ZipFile(path) as archive:
        is_torch = any(name.endswith(("/data.pkl", "/constants.pkl")) for name in archive.namelist())
    return None if is_torch else "a zip archive, and no torch file: unpack it first"
