"""The heading frame of a character: origin at its root, z up, x in the horizontal direction that the root faces.

For a single character NumPy's overhead per call exceeds the arithmetic, so vectors are laid side by side in rows, and
what differs along a row (component, relative to the root or not) is encoded in constant matrices to multiply with. All
their entries are 0, 1 or -1, so products are exact. (`dot` takes half the time of `@` on a single row.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Facing:
    """Headings of n characters from `directions` [n, 2], of any length, which may change before every `update`.

    Attributes:
        unit: [n, 3] cosine and sine of the heading, and 1; (1, 0, 1) where a direction has no length, as of a vertical
            axis.
    """

    def __init__(self, directions: Array) -> None:
        self._directions = directions
        self._along, self._across = directions[:, 0], directions[:, 1]
        self.unit: Array = np.ones((len(directions), 3))
        self._cosine, self._sine = self.unit[:, 0], self.unit[:, 1]

    def update(self) -> None:
        """Recomputes `unit` from the current directions."""
        if len(self._directions) == 1:  # a tenth of NumPy's time, with the same result
            ((x, y),) = self._directions.tolist()
            norm = math.sqrt(x * x + y * y)
            self._cosine[0], self._sine[0] = (1.0, y) if norm < 1e-9 else (x / norm, y / norm)
            return
        along, across = self._along, self._across
        length = np.sqrt(along * along + across * across)
        if np.minimum.reduce(length) < 1e-9:
            along, length = np.where(length < 1e-9, 1.0, along), np.where(length < 1e-9, 1.0, length)
        np.divide(along, length, out=self._cosine)
        np.divide(across, length, out=self._sine)


class Turner:
    """Rotates world vectors that lie side by side in rows into heading frames.

    Args:
        columns: [3 V] columns of the rows that hold x, y and z of V vectors in turn.
        from_root: [V] axes in which a vector is a position relative to the root: "", "xy" or "xyz".
    """

    def __init__(self, columns: Sequence[int], from_root: Sequence[str]) -> None:
        size = len(columns)
        x, y = np.arange(0, size, 3), np.arange(1, size, 3)
        # The result is v * (cosine, cosine, 1) + w * (sine, -sine, 0), where w is v with x and y exchanged.
        exchanged = np.arange(size)
        exchanged[x], exchanged[y] = y, x
        self._size = size
        self._columns = np.concatenate((np.asarray(columns), np.asarray(columns)[exchanged]))
        places = np.array([[axis == other and axis in axes for axes in from_root for other in "xyz"] for axis in "xyz"])
        self._places = np.concatenate((places, places[:, exchanged]), axis=1).astype(np.float64)
        self._factors = np.zeros((3, 2 * size))
        self._factors[0, x], self._factors[0, y], self._factors[2, 2:size:3] = 1.0, 1.0, 1.0
        self._factors[1, size + x], self._factors[1, size + y] = 1.0, -1.0

    def turned(self, rows: Array, root: Array, facing: Array) -> Array:
        """Vectors [n, 3 V] in heading frames, from rows [n, C], root positions [n, 3] and `Facing.unit` [n, 3]."""
        both = rows.take(self._columns, axis=1)
        both -= root.dot(self._places)
        both *= facing.dot(self._factors)
        return both[:, : self._size] + both[:, self._size :]
