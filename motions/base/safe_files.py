"""Reads files of tensors and of arrays without running code from them.

PyTorch and NumPy refuse files that hold Python objects, and then advise to load them unsafely. That advice is not
passed on here: the errors say what the file holds instead.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from motions.base.errors import UserError

# Exceptions of torch.load on damaged files, found by damaging thousands of files.
_TORCH_LOAD_ERRORS = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError),
    *(AssertionError, OverflowError, OSError, struct.error, zipfile.BadZipFile),
)
_OBJECT = re.compile(r"GLOBAL ([\w.]+)")


class TensorFileError(UserError):
    """A file holds no tensors, or not only tensors; the message names it and says what it is.

    Attributes:
        holds_objects: whether it may be a torch file, with Python objects in it.
    """

    def __init__(self, message: str, *, holds_objects: bool = False) -> None:
        super().__init__(message)
        self.holds_objects = holds_objects


def read_tensor_file(path: Path) -> Any:
    """Contents of a torch file, on the CPU: tensors and plain values in dictionaries and lists.

    Raises:
        TensorFileError: it is no torch file, damaged, or holds Python objects or code.
        OSError: it cannot be opened.
    """
    # Imported here because those who open run directories or reports need no torch.
    import torch

    path.open("rb").close()
    try:
        with warnings.catch_warnings():
            # About pickles that are not torch's; the error below says what they are.
            warnings.simplefilter("ignore")
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


def read_array_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, by name.

    Raises:
        UserError: it is no `.npz` file, damaged, or holds Python objects, which could run code.
        OSError: it cannot be opened.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise UserError(f"{path} is no NumPy archive (.npz), or damaged ({error})") from None
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path} holds Python objects, which are not loaded because they could run code") from None
        raise UserError(f"{path} is damaged ({error})") from None
