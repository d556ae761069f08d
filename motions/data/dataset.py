"""Datasets of motions with captions: the built-in one and folders in HumanML3D's layout.

Example:
    dataset = load_dataset("builtin")
    batch = sample_batch(dataset.items("train"), np.random.default_rng(0), batch_size=64, max_frames=196)
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from motions.base.errors import UserError
from motions.data.builtin import build_builtin
from motions.data.caption_shares import SHARES, share_of_captions
from motions.data.composites import Composer, compose_motions
from motions.data.folder_reader import MotionFolder
from motions.data.prompts import MAX_FRAMES, Prompt, Segment
from motions.data.text_motion import TextMotion
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D, Skeleton

logger = logging.getLogger(__name__)

_MOST_DRAWS = 10_000
"""Draws for one prompt before a text is repeated: few composites may have captions of their own."""


class MotionDataset:
    """Motions with captions in splits, their skeleton, and the statistics of the training features.

    Splits are read on first use and kept. Every dataset has `train`; the built-in one also has `judge` (the same
    motions with other captions, for the TMR that only evaluates) and `test`; folders have the splits that they list.
    Of a dataset without `judge` it is half of the training captions, and `reward` the other half (`caption_shares`).
    """

    def __init__(
        self,
        name: str,
        skeleton: Skeleton,
        normalizer: Normalizer,
        splits: Mapping[str, Callable[[], tuple[TextMotion, ...]]],
    ) -> None:
        self.name = name
        self.skeleton = skeleton
        self.normalizer = normalizer
        self._readers = dict(splits)
        self._items: dict[str, tuple[TextMotion, ...]] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._readers)

    def items(self, split: str) -> tuple[TextMotion, ...]:
        """The motions of a split.

        Raises UserError for a split that the dataset does not have, and for what is wrong with its files.
        """
        if split not in self._readers and (split not in SHARES or "train" not in self._readers):
            raise UserError(f"split {split!r}: dataset {self.name} has {', '.join(self._readers)}")
        if split not in self._items:
            read = self._readers.get(split) or partial(share_of_captions, self.items("train"), split)
            self._items[split] = read()
        return self._items[split]

    def without(self, sources: Sequence[str]) -> MotionDataset:
        """This dataset without the training motions of some recordings; other splits are unchanged.

        Raises UserError for a recording that is none of the training split, or where no motion is left.
        """
        known = {item.source for item in self.items("train")}
        if unknown := sorted(set(sources) - known):
            shown = ", ".join(sorted(known)[:20])
            raise UserError(f"leave_out_clips {' '.join(unknown)}: no clip of dataset {self.name}; it has {shown}")
        left = tuple(item for item in self.items("train") if item.source not in set(sources))
        if not left:
            raise UserError(f"leave_out_clips leaves no motion of dataset {self.name} to train on")
        return MotionDataset(
            self.name, self.skeleton, self.normalizer, {**self._readers, "train": partial(_same, left)}
        )

    def with_captions(self, count: int) -> MotionDataset:
        """This dataset with only the first `count` captions of every training motion; other splits are unchanged.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"count is {count}; every motion needs at least one caption")

        def train() -> tuple[TextMotion, ...]:
            return tuple(replace(item, captions=item.captions[:count]) for item in self.items("train"))

        return MotionDataset(self.name, self.skeleton, self.normalizer, {**self._readers, "train": train})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of skeleton, statistics and training split: two runs with the same one learn from the same data."""
        digest = hashlib.sha256(self.skeleton.name.encode())
        digest.update(self.normalizer.mean.tobytes() + self.normalizer.std.tobytes())
        for item in self.items("train"):
            digest.update("\0".join((item.clip_id, *item.captions)).encode())
            digest.update(np.ascontiguousarray(item.features).tobytes())
        return digest.hexdigest()

    def prompts(
        self,
        split: str,
        num_prompts: int,
        composite_share: float = 0.0,
        rng: np.random.Generator | None = None,
        *,
        num_segments: int | None = None,
        max_frames: int = MAX_FRAMES,
        distinct: bool = False,
    ) -> list[Prompt]:
        """Prompts made of a split's captions and the lengths of its motions.

        Args:
            composite_share: share of the prompts that have several segments (rounded); they are spread evenly.
            rng: random generator; by default one of seed 0. Equal generators give equal prompts.
            num_segments: number of segments of the composite prompts, 2 to 5; by default it varies.
            max_frames: single prompts are cut to this length, composite ones are chosen to fit it.
            distinct: no text twice, for evaluations; with fewer captions than single prompts they are drawn as without
                it.

        Raises:
            ValueError: unknown split, a number or share out of range, or no motions that fit together.
        """
        items = self.items(split)
        if num_prompts < 1 or not 0.0 <= composite_share <= 1.0:
            raise ValueError(
                f"num_prompts is {num_prompts}, composite_share is {composite_share}; legal: at least 1, 0 to 1"
            )
        rng = rng or np.random.default_rng(0)
        composer = Composer(items, self.skeleton, max_frames) if composite_share else None
        num_composites = math.floor(num_prompts * composite_share + 0.5)
        distinct &= len({text for item in items for text in item.captions}) >= num_prompts - num_composites
        prompts: list[Prompt] = []
        drawn: set[str] = set()
        for number in range(num_prompts):
            due = math.floor((number + 1) * composite_share + 0.5) - math.floor(number * composite_share + 0.5)
            draw = partial(_single_prompt, items, rng, max_frames)
            if composer and due:
                draw = partial(_composite_prompt, composer, rng, num_segments)
            prompt = draw()
            for _ in range(_MOST_DRAWS if distinct else 0):
                if prompt.text not in drawn:
                    break
                prompt = draw()
            prompts.append(prompt)
            drawn.add(prompt.text)
        return prompts

    def seen_in_training(self, split: str) -> str | None:
        """What to say where captions of a held-out split are captions of the training split too, word for word.

        None where there are none. Upper case, blanks and a full stop at the end make no difference.
        """
        known = {_plain(text) for item in self.items("train") for text in item.captions}
        held_out = [text for item in self.items(split) for text in item.captions]
        seen = [text for text in held_out if _plain(text) in known]
        if not seen:
            return None
        return (
            f"{len(seen)} of {len(held_out)} captions of split {split} are captions of the training split too, such as "
            f"{seen[0]!r}: figures about them are no figures about new texts"
        )

    def composites(
        self, split: str, num_motions: int, rng: np.random.Generator, *, max_frames: int = MAX_FRAMES
    ) -> tuple[TextMotion, ...]:
        """Composite motions with their texts, for supervised training (about 20 ms each to compute).

        Raises UserError for an unknown split or where no two motions fit together.
        """
        return compose_motions(Composer(self.items(split), self.skeleton, max_frames), num_motions, rng)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def _single_prompt(items: Sequence[TextMotion], rng: np.random.Generator, max_frames: int) -> Prompt:
    item = items[int(rng.integers(len(items)))]
    text = item.captions[int(rng.integers(len(item.captions)))]
    return Prompt(text, (Segment(text, min(item.num_frames, max_frames)),))


def _composite_prompt(composer: Composer, rng: np.random.Generator, num_segments: int | None) -> Prompt:
    return composer.draw(rng, num_segments).prompt


def load_dataset(source: str | Path, *, skip_bad: bool = False) -> MotionDataset:
    """The built-in dataset (`"builtin"`, built once per process) or a folder in HumanML3D's layout.

    A folder's motions are read split by split on first use; missing and left-out clips are logged.

    Args:
        skip_bad: leave out clips of a folder that are broken, and count them, instead of raising an error.

    Raises:
        UserError: naming the file, where the folder is not such a dataset or one of its files is wrong.
    """
    return _builtin() if str(source) == "builtin" else _folder(Path(source), skip_bad)


@cache
def _builtin() -> MotionDataset:
    splits = build_builtin()
    normalizer = Normalizer.fit([item.features for item in splits["train"]], HUMANML3D)
    readers = {name: partial(_same, items) for name, items in splits.items()}
    return MotionDataset("builtin", HUMANML3D, normalizer, readers)


def _same(items: tuple[TextMotion, ...]) -> tuple[TextMotion, ...]:
    return items


def _folder(path: Path, skip_bad: bool) -> MotionDataset:
    folder = MotionFolder(path, skip_bad=skip_bad)

    def read(split: str) -> tuple[TextMotion, ...]:
        motions, report = folder.read(split)
        if report.num_missing or report.num_unusual or report.bad:
            logger.warning("%s/%s.txt lists %s", path, split, report)
        return motions

    readers = {split: partial(read, split) for split in folder.splits}
    return MotionDataset(str(path), folder.skeleton, folder.normalizer, readers)
