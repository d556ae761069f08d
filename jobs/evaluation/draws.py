"""Which texts and motions each replication of an evaluation has: a function of data and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluation.settings import EvaluateConfig, ProtocolSettings
from motions.base.errors import UserError
from motions.data.dataset import MotionDataset
from motions.data.prompts import MAX_FRAMES, Prompt, Segment, load_prompts
from motions.data.text_motion import FULL_WINDOW, MDM_CROP, CropRule, TextMotion
from motions.settings import BUILTIN
from motions.skeleton.skeletons import Skeleton
from rollouts.messages import GroupMotions

COMPOSITE_SEGMENTS = 3
"""Segments of composites of the data, where no number is given."""
_REFERENCE = 1 << 32
"""Key of the draw of real motions that others are compared with; replications have smaller ones."""


@dataclass(frozen=True, slots=True)
class Window:
    """A real motion as one replication uses it, with the caption that was drawn."""

    item: int
    """Place in the split."""
    start: int
    length: int
    caption: str

    @property
    def prompt(self) -> Prompt:
        """What asks a policy for such a motion."""
        return Prompt(self.caption, (Segment(self.caption, self.length),))

    def motion(self, items: Sequence[TextMotion]) -> GroupMotions:
        """The real motion."""
        features = items[self.item].features[self.start : self.start + self.length]
        return GroupMotions(features[None], np.array([self.length]), self.prompt, 0, 0.0)


def windows_of(items: Sequence[TextMotion], crop: CropRule, seed: int, number: int) -> list[Window]:
    """All motions of a split in a random order, each cropped as in training, with one of its captions."""
    rng = np.random.default_rng([seed, number])
    found = []
    for place in rng.permutation(len(items)):
        item = items[int(place)]
        start, length = crop.draw(item.num_frames, MAX_FRAMES, rng)
        found.append(Window(int(place), start, length, item.captions[int(rng.integers(len(item.captions)))]))
    return found


def reference_windows(items: Sequence[TextMotion], crop: CropRule, seed: int) -> list[Window]:
    """The real motions that FID compares with: another draw of crops than that of any replication."""
    return windows_of(items, crop, seed, _REFERENCE)


def crop_of(config: EvaluateConfig) -> CropRule:
    """How real motions are cropped: the built-in ones are windows already, those of folders as MDM crops them."""
    return FULL_WINDOW if config.data.data_source == BUILTIN else MDM_CROP


def composite_prompts(config: EvaluateConfig, dataset: MotionDataset | None, skeleton: Skeleton) -> list[Prompt]:
    """The composite prompts of the evaluation, which all replications have.

    Raises:
        UserError: the file, another number of segments than asked for, or no captions that fit together.
    """
    settings = config.protocol
    if settings.composite_data_path is not None:
        try:
            prompts = load_prompts(
                settings.composite_data_path, skeleton.fps, num_segments=settings.composite_k_segments
            )
        except ValueError as error:
            raise UserError(f"composite_data_path: {error}") from error
        if not prompts:
            raise UserError(f"composite_data_path: {settings.composite_data_path} holds no prompt")
        return prompts[: settings.eval_num_samples]
    assert dataset is not None, "only prompts of a file do without data"
    return dataset.prompts(
        settings.eval_split,
        settings.eval_num_samples,
        1.0,
        np.random.default_rng(settings.seed),
        num_segments=settings.composite_k_segments or COMPOSITE_SEGMENTS,
        distinct=True,
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated motion: which request makes it, and its place in the group."""

    request: int
    place: int


class SampleBook:
    """Collects the motions that replications ask for, so that equal prompts are one group: one request makes them all.

    Args:
        most: samples of one request.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self.prompts: list[Prompt] = []
        """One for each request."""
        self.counts: list[int] = []
        """Samples of each request."""
        self._open: dict[Prompt, int] = {}

    def ask(self, prompt: Prompt) -> Sample:
        """Another motion of a prompt."""
        request = self._open.get(prompt)
        if request is None or self.counts[request] == self._most:
            request = self._open[prompt] = len(self.prompts)
            self.prompts.append(prompt)
            self.counts.append(0)
        self.counts[request] += 1
        return Sample(request, self.counts[request] - 1)


@dataclass(frozen=True, slots=True)
class Replication:
    """The generated motions of one replication."""

    samples: tuple[Sample, ...]
    repeats: tuple[tuple[Sample, ...], ...]
    """For MultiModality: the motions of each of its texts; empty without it."""


def replications_of(
    book: SampleBook, prompts: Mapping[int, Sequence[Prompt]], settings: ProtocolSettings
) -> list[Replication]:
    """What the replications ask for.

    Args:
        prompts: those of each replication, by its number.
    """
    found = []
    for number in range(settings.replications):
        own = prompts[number]
        samples = tuple(book.ask(prompt) for prompt in own)
        repeats: tuple[tuple[Sample, ...], ...] = ()
        if settings.multimodality:
            texts = min(whole_pools(settings.mm_num_samples, settings.pool_size), len(own))
            # The motion that the other metrics see is the first of a text's.
            repeats = tuple(
                (samples[place], *(book.ask(own[place]) for _ in range(settings.mm_num_repeats - 1)))
                for place in range(texts)
            )
        found.append(Replication(samples, repeats))
    return found


def whole_pools(count: int, pool_size: int) -> int:
    """The number rounded up to full pools."""
    return -(-count // pool_size) * pool_size
