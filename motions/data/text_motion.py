"""A motion with its captions, and batches of them.

Features are physical (not normalised) here and everywhere outside the policy and the encoders of TMR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from motions.base.errors import UserError
from motions.base.safe_files import read_npy

ItemT = TypeVar("ItemT")

SPLITS = ("train", "val", "test")
"""Parts of a data set in a folder."""


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """Frames `start` to `stop` of a file of features [T, D], which are read whenever they are needed."""

    path: Path
    num_stored: int
    """Frames of the whole file."""
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> np.ndarray:
        """The frames [stop - start, D] float32. Raises UserError where the file is not the one it was."""
        features = read_npy(self.path)
        if features.ndim != 2 or len(features) != self.num_stored:
            raise UserError(
                f"{self.path} has shape {features.shape}, and had {self.num_stored} frames when the data set was read: "
                "it was changed meanwhile"
            )
        return features[self.start : self.stop].astype(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class TextMotion:
    """One motion and the captions that describe it.

    Example:
        TextMotion(clip_id="walk-0.85-003", source="walk", frames=features, captions=("a person walks",))
    """

    clip_id: str
    """Unique within a dataset."""
    source: str
    """Recording that the motion was cut from; several motions may share one."""
    frames: np.ndarray | StoredFrames
    """Motion features [T, D] float32, or where they are stored."""
    captions: tuple[str, ...]

    @property
    def features(self) -> np.ndarray:
        """Motion features [T, D] float32; read each time if they are stored."""
        return self.frames if isinstance(self.frames, np.ndarray) else self.frames.read()

    @property
    def num_frames(self) -> int:
        """Number T of frames."""
        return len(self.frames)


@dataclass(frozen=True, eq=False, slots=True)
class MotionBatch:
    """B motions, zero padded: `features` [B, T, D] float32 with T the longest of the batch, `lengths` [B] int64."""

    features: np.ndarray
    lengths: np.ndarray
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CropRule:
    """How a motion's length is varied when it is drawn for training.

    The length is rounded down to a multiple of `unit`, with probability `shorter_share` to one multiple less, and the
    window starts anywhere it fits. A motion shorter than one unit is used whole.
    """

    unit: int = 1
    shorter_share: float = 0.0

    def __post_init__(self) -> None:
        if self.unit < 1:
            raise ValueError(f"unit is {self.unit}; legal: 1 or more")
        if not 0.0 <= self.shorter_share <= 1.0:
            raise ValueError(f"shorter_share is {self.shorter_share}; legal: 0 to 1")

    def draw(self, num_frames: int, max_frames: int, rng: np.random.Generator) -> tuple[int, int]:
        """First frame and length of a window of a motion of `num_frames`, at most `max_frames` long."""
        units = min(num_frames, max_frames) // self.unit
        if self.shorter_share and rng.random() < self.shorter_share and units > 1:
            units -= 1
        length = units * self.unit or min(num_frames, max_frames)
        return int(rng.integers(num_frames - length + 1)), length


FULL_WINDOW = CropRule()
"""Use the whole motion, cut only if it is longer than allowed: for datasets whose items are windows already."""

MDM_CROP = CropRule(unit=4, shorter_share=1 / 3)
"""How MDM (Tevet et al. 2023) crops motions of HumanML3D and KIT-ML."""


def thinned(items: Sequence[ItemT], most: int) -> list[ItemT]:
    """At most so many of the items, evenly from the first to the last."""
    places = np.linspace(0, len(items) - 1, most).astype(int) if items else ()
    return [items[int(place)] for place in np.unique(places)]


def whole_batch(items: Sequence[TextMotion], max_frames: int) -> MotionBatch:
    """Every motion once, from its first frame on and at most `max_frames` long, with its first caption."""
    windows = [item.features[:max_frames] for item in items]
    return padded_batch(windows, [item.captions[0] for item in items])


def sample_batch(
    items: Sequence[TextMotion],
    rng: np.random.Generator,
    batch_size: int,
    max_frames: int,
    *,
    crop: CropRule = FULL_WINDOW,
    composites: Sequence[TextMotion] = (),
    composite_share: float = 0.0,
) -> MotionBatch:
    """Draws `batch_size` motions with replacement, each with one of its captions.

    Args:
        composites: motions that are drawn, uncropped, with probability `composite_share` instead of one of `items`
            (`MotionDataset.composites` makes some).

    Equal generators give equal batches. Raises ValueError for no items or sizes below 1, UserError for a share outside
    0..1 or without composites, or a composite longer than `max_frames` (cutting it would make its text wrong).
    """
    if not items:
        raise ValueError("items is empty: there is nothing to draw from")
    if batch_size < 1 or max_frames < 1:
        raise ValueError(f"batch_size is {batch_size}, max_frames is {max_frames}; both are at least 1")
    if not 0.0 <= composite_share <= 1.0 or (composite_share and not composites):
        raise UserError(f"composite_share is {composite_share} with {len(composites)} composites; legal: 0 to 1")
    windows, texts = [], []
    for _ in range(batch_size):
        pool = composites if rng.random() < composite_share else items
        item = pool[int(rng.integers(len(pool)))]
        start, length = crop.draw(item.num_frames, max_frames, rng)
        if pool is composites:
            if item.num_frames > max_frames:
                raise UserError(f"composite {item.clip_id} has {item.num_frames} frames; max_frames is {max_frames}")
            start, length = 0, item.num_frames
        windows.append(item.features[start : start + length])
        texts.append(item.captions[int(rng.integers(len(item.captions)))])
    return padded_batch(windows, texts)


def padded_batch(windows: Sequence[np.ndarray], texts: Sequence[str]) -> MotionBatch:
    """The batch of windows [T, D] and a text of each."""
    lengths = np.array([len(window) for window in windows], dtype=np.int64)
    features = np.zeros((len(windows), int(lengths.max()), windows[0].shape[1]), dtype=np.float32)
    for row, window in enumerate(windows):
        features[row, : len(window)] = window
    return MotionBatch(features, lengths, tuple(texts))
