"""Cache of text embeddings: in memory up to a limit, and in a folder that jobs and processes share.

A folder holds `<fingerprint>/<hash>.safetensors`, one file per batch of new texts, written atomically and never
changed, so any number of processes read and write it without locks. The key of an entry is the hash of the kind of
embedding (pooled or tokens) and of the token numbers, so texts with equal tokens share an entry. An encoder with other
weights has another fingerprint and uses another folder.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from motions.base.atomic import atomic_write
from motions.base.errors import UserError

DEFAULT_BUDGET_BYTES = 512 * 2**20


class MemoryCache:
    """The most recently used arrays, up to a number of bytes.

    Example:
        cache = MemoryCache(budget_bytes=2**20)
        cache.put("a person walks", vector)
        cache.get("a person walks")
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self.num_bytes = 0
        # By hand, not cachetools.LRUCache: that refuses a value above the budget, here the newest always stays.
        self._arrays: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: tuple[str, str]) -> np.ndarray | None:
        """The array, or None if it is absent; it becomes the most recently used one."""
        array = self._arrays.get(key)
        if array is not None:
            self._arrays.move_to_end(key)
        return array

    def put(self, key: tuple[str, str], array: np.ndarray) -> None:
        """Stores a read-only view of an array, and drops the least recently used ones while over the limit."""
        view = array.view()
        view.flags.writeable = False
        if (old := self._arrays.pop(key, None)) is not None:
            self.num_bytes -= old.nbytes
        self._arrays[key] = view
        self.num_bytes += view.nbytes
        while self.num_bytes > self.budget_bytes and len(self._arrays) > 1:
            _, dropped = self._arrays.popitem(last=False)
            self.num_bytes -= dropped.nbytes


def entry_key(kind: str, ids: Iterable[int]) -> str:
    """Name of an entry on disk: hash of the kind of embedding and of the token numbers."""
    return hashlib.sha256(f"{kind} {' '.join(map(str, ids))}".encode()).hexdigest()


class DiskCache:
    """Embeddings of one encoder in a folder."""

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.folder = Path(folder).expanduser() / fingerprint[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files_seen: set[Path] = set()
        self._file_of: dict[str, Path] = {}

    def get(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The entries that exist, by key."""
        wanted = set(keys)
        if not wanted <= self._file_of.keys():
            self._look_for_new_files()
        found: dict[str, np.ndarray] = {}
        for path in {self._file_of[key] for key in wanted if key in self._file_of}:
            with safe_open(path, framework="numpy") as file:
                found |= {key: file.get_tensor(key) for key in wanted.intersection(file.keys())}
        return found

    def put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds entries, as one new file."""
        if not arrays:
            return
        name = hashlib.sha256(" ".join(sorted(arrays)).encode()).hexdigest()[:32]
        with atomic_write(self.folder / f"{name}.safetensors") as file:
            file.write(save(dict(arrays)))

    def _look_for_new_files(self) -> None:
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._files_seen):
            try:
                with safe_open(path, framework="numpy") as file:
                    self._file_of |= dict.fromkeys(file.keys(), path)
            except SafetensorError as error:
                raise UserError(
                    f"embedding cache: {path} is damaged ({error}); delete it, it will be made again"
                ) from error
            self._files_seen.add(path)
