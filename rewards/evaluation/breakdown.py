"""The parts of an evaluation: by kind of prompt, by clip, and by sampler. A mean over all of them hides what got worse.

Legend: P prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motions.data.prompts import Prompt
from rewards.declared.declaration import Term
from rewards.evaluation.comparison import compare, figures
from rewards.evaluation.intervals import Resamples
from rewards.evaluation.text import Evaluation

SINGLE, COMPOSITE = "single", "composite"
CLIP_FIGURES = ("total", "judge_matching", "second_judge", "low_foot_skate", "jerk_mps3", "joint_speed_mps")


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """One policy, sampled in one way, on the prompts of the evaluation."""

    policy: str
    """`base` or `tuned`."""
    sampler: str
    """The way, in words."""
    note: str
    """What it is: of the training, of the export, the base's own."""
    evaluation: Evaluation

    def row(self, real_embeddings: np.ndarray | None) -> dict[str, Any]:
        """Its entry in `evaluation.json`."""
        return {
            "policy": self.policy,
            "sampler": self.sampler,
            "note": self.note,
            "figures": figures(self.evaluation, real_embeddings),
            "kinds": {
                kind: figures(self.evaluation.of(places), real_embeddings)
                for kind, places in places_by_kind(self.evaluation.prompts).items()
            },
        }


def places_by_kind(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Indices of the prompts of one segment and of those of several; a kind without any is left out."""
    kinds: dict[str, list[int]] = {SINGLE: [], COMPOSITE: []}
    for place, prompt in enumerate(prompts):
        kinds[SINGLE if len(prompt.segments) == 1 else COMPOSITE].append(place)
    return {kind: places for kind, places in kinds.items() if places}


def rows_by_kind(
    before: Evaluation,
    after: Evaluation,
    terms: Mapping[str, Term],
    real_embeddings: np.ndarray | None,
    real: Mapping[str, Mapping[str, float]],
    clips: Sequence[str | None],
) -> list[dict[str, Any]]:
    """The comparison of single and of composite prompts, as entries of `evaluation.json`.

    Args:
        real: figures of real motions by kind.
        clips: [P] recordings that the prompts describe.
    """
    entries = []
    for kind, places in places_by_kind(before.prompts).items():
        owners = [clips[place] for place in places]
        parts = (before.of(places), after.of(places))
        changes = compare(*parts, terms, real_embeddings, real=real.get(kind), clips=owners)
        texts = [prompt.text for prompt in parts[0].prompts]
        entries.append(
            {
                "kind": kind,
                "num_prompts": len(places),
                "num_texts": len(set(texts)),
                "caution": Resamples(texts, owners).caution,
                "rows": [change.row() for change in changes],
            }
        )
    return entries


def rows_by_clip(
    before: Evaluation, after: Evaluation, clips: Sequence[str | None], left_out: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Figures before and after of the single prompts of each clip, the largest fall of the reward first.

    Args:
        left_out: clips whose captions the training never met.
    """
    places: dict[str, list[int]] = {}
    for place, (clip, prompt) in enumerate(zip(clips, before.prompts, strict=True)):
        if clip is not None and len(prompt.segments) == 1:
            places.setdefault(clip, []).append(place)
    rows = []
    for clip, own in sorted(places.items()):
        old, new = figures(before.of(own)), figures(after.of(own))
        rows.append(
            {
                "clip": clip,
                "num_prompts": len(own),
                "left_out": clip in left_out,
                "before": {name: old[name] for name in CLIP_FIGURES if name in old},
                "after": {name: new[name] for name in CLIP_FIGURES if name in new},
            }
        )
    return sorted(rows, key=lambda row: row["after"]["total"] - row["before"]["total"])
