"""Text-to-motion by looking it up: the motions of a data set whose captions are nearest to a text.

It generates nothing, needs no training, and is what a policy has to be better than; its motions are real ones. All
captions of a motion count. Of a motion and its mirrored twin only the one whose caption is nearer is a candidate, so
that no result stands twice. Among the nearest `top_k` motions one is drawn with probabilities exp(cosine /
temperature); everything is a function of prompts and seed. Below `min_score` it abstains, which is an error that names
the prompt and what is nearest to it.

A motion that is longer than asked for ends where the time is over, a shorter one at its own end: none is stretched. A
composite prompt gets a motion for each segment, joined.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motions.base.errors import UserError
from motions.data.composites import join_motions
from motions.data.prompts import Prompt
from motions.data.text_motion import TextMotion
from motions.skeleton.skeletons import Skeleton
from rollouts.messages import GroupMotions
from rollouts.retrieval.index import Entry, TextIndex
from rollouts.settings import LookupSettings
from rollouts.text.encoders import TextEncoder

_MIRRORED = "M"
"""Begins the ids of mirrored motions, here and in HumanML3D and KIT-ML."""


@dataclass(frozen=True, slots=True)
class Match:
    """A motion of the data for a text."""

    item: TextMotion
    caption: str
    """The one of its captions that is nearest."""
    score: float
    """Cosine of the embeddings of text and caption, -1..1."""


def caption_entries(items: Sequence[TextMotion]) -> list[Entry]:
    """An entry for every caption of every motion, under the motion's id."""
    return [Entry(item.clip_id, caption) for item in items for caption in item.captions]


class MotionRetriever:
    """Looks motions up by their captions.

    Example:
        retriever = MotionRetriever(dataset.items("train"), dataset.skeleton, encoder)
        retriever.matches("somebody kicks")[0].item.clip_id
    """

    def __init__(
        self,
        items: Sequence[TextMotion],
        skeleton: Skeleton,
        encoder: TextEncoder,
        settings: LookupSettings | None = None,
        index: TextIndex | None = None,
    ) -> None:
        """Embeds the captions, unless an index of them is given.

        Raises:
            ValueError: there are no motions, or the index is of other captions.
            UserError: the encoder cannot read a caption.
        """
        entries = caption_entries(items)
        self.skeleton = skeleton
        self.settings = settings or LookupSettings()
        self.index = TextIndex.build(entries, encoder) if index is None else index
        if self.index.entries != tuple(entries):
            raise ValueError("the index is of other captions than the motions have")
        self._items = {item.clip_id: item for item in items}

    def matches(self, text: str) -> list[Match]:
        """The `top_k` motions that are nearest to a text, best first.

        Raises:
            UserError: none has a caption with a cosine of at least `min_score`, or the encoder cannot read the text.
        """
        scores, places = self.index.search([text], len(self.index.entries), self.settings.search_backend)
        found: dict[str, Match] = {}
        for score, place in zip(scores[0].tolist(), places[0].tolist(), strict=True):
            entry = self.index.entries[place]
            found.setdefault(_recording(entry.key), Match(self._items[entry.key], entry.text, score))
            if len(found) == self.settings.top_k:
                break
        matches = [match for match in found.values() if match.score >= self.settings.min_score]
        if not matches:
            best = next(iter(found.values()))
            raise UserError(
                f"no caption is near enough to {text!r}: the nearest is {best.caption!r} with {best.score:.2f}, "
                f"min_score is {self.settings.min_score:g}"
            )
        return matches

    def generate(self, prompts: Sequence[Prompt], num_samples: int, seed: int) -> list[GroupMotions]:
        """`num_samples` motions of each prompt, as a function of prompts and seed.

        Raises:
            UserError: see `matches`.
        """
        return [self._group(prompt, place, num_samples, seed) for place, prompt in enumerate(prompts)]

    def _group(self, prompt: Prompt, place: int, num_samples: int, seed: int) -> GroupMotions:
        start = time.perf_counter()
        candidates = [self.matches(segment.text) for segment in prompt.segments]
        motions = []
        for sample in range(num_samples):
            rng = np.random.default_rng([seed, place, sample])
            parts = [
                self._drawn(matches, rng).item.features[: segment.num_frames]
                for matches, segment in zip(candidates, prompt.segments, strict=True)
            ]
            motions.append(parts[0] if len(parts) == 1 else join_motions(parts, self.skeleton))
        lengths = np.array([len(motion) for motion in motions], dtype=np.int64)
        features = np.zeros((num_samples, int(lengths.max()), self.skeleton.num_features), np.float32)
        for row, motion in zip(features, motions, strict=True):
            row[: len(motion)] = motion
        return GroupMotions(features, lengths, prompt, policy_version=0, seconds=time.perf_counter() - start)

    def _drawn(self, matches: Sequence[Match], rng: np.random.Generator) -> Match:
        if self.settings.temperature == 0.0:
            return matches[0]
        scores = np.array([match.score for match in matches]) / self.settings.temperature
        weights = np.exp(scores - scores.max())
        return matches[int(rng.choice(len(matches), p=weights / weights.sum()))]


def _recording(clip_id: str) -> str:
    """What a motion and its mirrored twin have in common."""
    return clip_id.removeprefix(_MIRRORED)
