"""An index of texts, to find the ones that are nearest in meaning to others.

Every entry is a text under a key (a clip, an object, ...); nearness is the cosine of sentence embeddings. The search is
exact: a product of matrices, or FAISS's `IndexFlatIP` where that package is installed, which gives the same order. A
saved index holds the fingerprint of its entries and of the encoder, and is only loaded for those.

    index.safetensors   the embeddings
    index.json          entries, encoder and fingerprint
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from rollouts.checkpoints.safetensors_bytes import safetensors_bytes
from rollouts.text.encoders import TextEncoder

VECTORS, ENTRIES = "index.safetensors", "index.json"
KIND = "text_index"
SearchBackend = Literal["auto", "numpy", "faiss"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A text, and what it is of."""

    key: str
    text: str


def fingerprint_of(entries: Sequence[Entry], encoder: TextEncoder) -> str:
    """SHA-256 of the entries, in order, and of the encoder's weights."""
    digest = hashlib.sha256(f"{encoder.name}\0{encoder.fingerprint}".encode())
    for entry in entries:
        digest.update(json.dumps([entry.key, entry.text]).encode())
    return digest.hexdigest()


class TextIndex:
    """Entries and their embeddings.

    Example:
        index = TextIndex.build([Entry("walk", "a person walks")], encoder)
        scores, places = index.search(["somebody is walking"], count=1)
    """

    def __init__(self, entries: Sequence[Entry], vectors: np.ndarray, encoder: TextEncoder) -> None:
        """Takes embeddings [M, d] of length 1 of the entries; `build` and `load` make them."""
        self.entries = tuple(entries)
        self.vectors = vectors
        self.encoder = encoder
        self.fingerprint = fingerprint_of(entries, encoder)

    @classmethod
    def build(cls, entries: Sequence[Entry], encoder: TextEncoder) -> TextIndex:
        """Embeds the texts of the entries.

        Raises:
            ValueError: there are none.
            UserError: the encoder cannot read a text, or has no embeddings of whole texts.
        """
        if not entries:
            raise ValueError("there are no entries to search")
        return cls(entries, _directions(encoder.encode_pooled([entry.text for entry in entries])), encoder)

    def search(
        self, texts: Sequence[str], count: int, backend: SearchBackend = "auto"
    ) -> tuple[np.ndarray, np.ndarray]:
        """The entries nearest to each of N texts, best first; equal ones in the entries' order.

        Returns:
            Cosines [N, k] float32 and places of the entries [N, k] int64, with k the smaller of `count` and their
            number.

        Raises:
            UserError: the encoder cannot read a text, or backend `faiss` is not installed.
        """
        queries = _directions(self.encoder.encode_pooled(texts))
        count = min(count, len(self.entries))
        if choose_backend(backend) == "faiss":
            faiss: Any = importlib.import_module("faiss")
            flat = faiss.IndexFlatIP(self.vectors.shape[1])
            flat.add(self.vectors)
            scores, places = flat.search(queries, count)
        else:
            cosines = queries @ self.vectors.T
            places = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
            scores = np.take_along_axis(cosines, places, axis=1)
        return scores.astype(np.float32), places.astype(np.int64)

    def save(self, folder: str | Path) -> None:
        """Writes the two files into a folder, which is made where it does not exist. Raises WriteError."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "kind": KIND,
            "text_encoder": self.encoder.name,
            "fingerprint": self.fingerprint,
            "entries": [[entry.key, entry.text] for entry in self.entries],
        }
        with atomic_write(folder / VECTORS) as file:
            file.write(safetensors_bytes({"vectors": torch.from_numpy(self.vectors)}, {"format": "pt"}))
        with atomic_write(folder / ENTRIES) as file:
            file.write(json.dumps(document, indent=1).encode())

    @classmethod
    def load(cls, folder: str | Path, entries: Sequence[Entry], encoder: TextEncoder) -> TextIndex:
        """The saved index of these entries.

        Raises:
            UserError: no such folder, a damaged file, or an index of other entries or of another encoder.
        """
        folder = Path(folder)
        document = _read_document(folder / ENTRIES)
        stated = document.get("fingerprint")
        if stated != fingerprint_of(entries, encoder):
            held = document.get("entries")
            number = len(held) if isinstance(held, list) else 0
            raise UserError(
                f"{folder / ENTRIES} is of other entries: it holds {number} texts of {document.get('text_encoder')}, "
                f"these are {len(entries)} of {encoder.name} (fingerprint {str(stated)[:12]}); make the index again"
            )
        try:
            vectors = load_file(folder / VECTORS)["vectors"].numpy()
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(f"{folder / VECTORS}: not the vectors of an index ({error})") from error
        if vectors.shape != (len(entries), encoder.dim):
            raise UserError(f"{folder / VECTORS}: shape {vectors.shape}, expected {(len(entries), encoder.dim)}")
        return cls(entries, vectors, encoder)


def choose_backend(backend: SearchBackend) -> Literal["numpy", "faiss"]:
    """The backend that `auto` stands for. Raises UserError for `faiss` where it is not installed."""
    installed = importlib.util.find_spec("faiss") is not None
    if backend == "faiss" and not installed:
        raise UserError(
            "search_backend is faiss, and that package is not installed: pip install 'kinetune[faiss]'; or give auto "
            "or numpy"
        )
    return "faiss" if installed and backend != "numpy" else "numpy"


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _read_document(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; an index is a folder with {ENTRIES} and {VECTORS}")
    try:
        document = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise UserError(f"{path}: is no index of texts")
    return document
