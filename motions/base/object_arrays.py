"""Reads `.npy` files that hold Python objects without executing code stored in them.

`numpy.load(allow_pickle=True)` runs any code that a pickle contains. Here a pickle may refer only to NumPy's array
constructors; everything else must be plain data (dictionaries, lists, strings, numbers, arrays).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from motions.base.errors import UserError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (module, name) for module in _ARRAY_MODULES for name in ("_reconstruct", "scalar", "_frombuffer")
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """The NumPy constructor of this name. Raises UnpicklingError for any other object."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}; only NumPy arrays and plain Python data (dict, list, str, numbers) are read"
            )
        return super().find_class(module, name)


def read_object_array(path: str | Path) -> object:
    """The dictionary, list or object array that was given to `numpy.save`, without the 0-d array around it.

    Raises:
        UserError: no such file, not a `.npy` file, broken, or a pickle that names anything but arrays and plain data.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    with file:
        try:
            version = npy_format.read_magic(file)
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, _, dtype = read_header(file)
        except ValueError as error:
            raise UserError(f"{path} is not a .npy file: {error}") from error
        if not dtype.hasobject:
            raise UserError(f"{path} holds an array of {dtype}, not Python objects")
        try:
            content = _PlainUnpickler(file).load()
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} is refused: {error}") from error
        except (EOFError, AttributeError, ImportError, IndexError, TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path} is broken: {type(error).__name__}: {error}") from error
    if not isinstance(content, np.ndarray) or content.dtype != object:
        raise UserError(f"{path} holds a {type(content).__name__}, expected an array of objects")
    return content.reshape(shape).item() if shape == () else content.reshape(shape)
