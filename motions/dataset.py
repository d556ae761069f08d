"""Datasets of motions with captions: the built-in one and folders in HumanML3D's layout.

Example:
    dataset = load_dataset("builtin")
    batch = sample_batch(dataset.items("train"), np.random.default_rng(0), batch_size=64, max_frames=196)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from motions.builtin import build_builtin
from motions.normalization import Normalizer
from motions.prompts import Prompt, Segment
from motions.skeletons import HUMANML3D, Skeleton
from motions.text_motion import FULL_WINDOW, MDM_CROP, CropRule, MotionBatch, TextMotion, sample_batch

__all__ = [
    "FULL_WINDOW",
    "MDM_CROP",
    "CropRule",
    "MotionBatch",
    "MotionDataset",
    "TextMotion",
    "load_dataset",
    "sample_batch",
]


@dataclass(frozen=True, eq=False)
class MotionDataset:
    """Motions with captions in splits, one skeleton, and the statistics of the training split."""

    name: str
    skeleton: Skeleton
    normalizer: Normalizer
    splits: dict[str, tuple[TextMotion, ...]]

    def items(self, split: str) -> tuple[TextMotion, ...]:
        """The motions of a split. Raises ValueError for a split that the dataset does not have."""
        if split not in self.splits:
            raise ValueError(f"split {split!r}: dataset {self.name} has {', '.join(self.splits)}")
        return self.splits[split]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of skeleton, statistics and training split: two runs with the same one learn from the same data."""
        digest = hashlib.sha256(self.skeleton.name.encode())
        digest.update(self.normalizer.mean.tobytes() + self.normalizer.std.tobytes())
        for item in self.items("train"):
            digest.update("\0".join((item.clip_id, *item.captions)).encode())
            digest.update(np.ascontiguousarray(item.features).tobytes())
        return digest.hexdigest()

    def prompts(self, split: str, num_prompts: int, composite_share: float, rng: np.random.Generator) -> list[Prompt]:
        """Prompts from the captions and lengths of a split."""
        items = self.items(split)
        prompts = []
        for index in rng.integers(len(items), size=num_prompts):
            item = items[int(index)]
            text = item.captions[int(rng.integers(len(item.captions)))]
            prompts.append(Prompt(text, (Segment(text, item.num_frames),)))
        return prompts


def load_dataset(source: str) -> MotionDataset:
    """The built-in dataset (`"builtin"`) or a folder in HumanML3D's layout; loaded once per process."""
    return _load(source)


@cache
def _load(source: str) -> MotionDataset:
    splits = build_builtin()
    normalizer = Normalizer.fit([item.features for item in splits["train"]], HUMANML3D)
    return MotionDataset("builtin", HUMANML3D, normalizer, splits)
