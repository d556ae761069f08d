"""Sets of composite prompts from any dataset, in the format of the public project MDM-GRPO (jufan666/text-to-motion).

A composite joins the captions of K motions to "First A, then B, finally C"; their lengths add up to nearly the longest
motion that a policy generates. That project's builder draws K clips and rejects those that do not fit. Here the last
clip is drawn among those that fit, so composites of four or five segments are found where they exist. They are written
as JSON lines, which `load_prompts` reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.data.prompts import MIN_SEGMENT_FRAMES
from motions.data.text_motion import TextMotion

_MAX_DRY_DRAWS = 2000
"""The search ends after this many consecutive draws without a new set of motions."""


@dataclass(frozen=True, slots=True)
class CompositeRecord:
    """One composite prompt: K sub-prompts, their durations, and the ids of the motions they come from."""

    composite_prompt: str
    sub_prompts: tuple[str, ...]
    durations: tuple[float, ...]
    """Duration of each segment, seconds."""
    durations_frames: tuple[int, ...]
    source_ids: tuple[str, ...]
    total_frames: int


def build_composite_records(
    items: Sequence[TextMotion],
    *,
    k_segments: int,
    fps: float,
    rng: np.random.Generator,
    target_length: int = 196,
    tolerance: int = 20,
    max_samples: int = 1000,
) -> list[CompositeRecord]:
    """Up to `max_samples` composites of `k_segments` different motions each; no set of motions occurs twice.

    The total length is at most `target_length` frames and at least `target_length - tolerance`. Sub-prompts are the
    motions' first captions. Equal generators give equal records.

    Raises:
        UserError: an option out of range, or no `k_segments` of the motions have such a total length.
    """
    if not 2 <= k_segments <= 5:
        raise UserError(f"k_segments is {k_segments}; legal: 2 to 5")
    if not 0 <= tolerance < target_length or max_samples < 1:
        raise UserError(
            f"target_length is {target_length}, tolerance {tolerance}, max_samples {max_samples}; legal: a tolerance "
            "from 0 to below target_length, at least one sample"
        )
    usable = sorted((item for item in items if item.num_frames >= MIN_SEGMENT_FRAMES), key=lambda item: item.num_frames)
    lengths = np.array([item.num_frames for item in usable])
    shortest = int(lengths[:k_segments].sum())
    if len(usable) < k_segments or shortest > target_length:
        raise UserError(
            f"k_segments is {k_segments}: of {len(usable)} motions the {k_segments} shortest last {shortest} frames; "
            f"target_length is {target_length}"
        )
    records: list[CompositeRecord] = []
    tried: set[frozenset[int]] = set()
    dry = 0
    while len(records) < max_samples and dry < _MAX_DRY_DRAWS:
        chosen = _choose(lengths, k_segments, target_length, tolerance, rng)
        dry += 1
        if chosen is not None and frozenset(chosen) not in tried:
            dry = 0
            tried.add(frozenset(chosen))
            records.append(_record([usable[index] for index in chosen], fps))
    if not records:
        low = target_length - tolerance
        raise UserError(f"no {k_segments} of {len(usable)} motions last {low} to {target_length} frames together")
    return records


def write_composite_records(path: str | Path, records: Sequence[CompositeRecord], metadata: dict[str, object]) -> None:
    """Writes records as JSON lines after a first line `{"metadata": ...}`. The file appears complete or not at all.

    `metadata` describes their origin (dataset, split, seed, options); its `fps` is checked when they are read.
    """
    rows = [{"metadata": metadata}, *(asdict(record) for record in records)]
    with atomic_write(path) as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def ordered_prompt(captions: Sequence[str]) -> str:
    """The composite prompt in the wording of MDM-GRPO.

    Example:
        ordered_prompt(["a man walks.", "he kicks", "he sits"])   # "First a man walks, then he kicks, finally he sits"
    """
    parts = [caption.strip().rstrip(".") for caption in captions]
    return ", ".join(["First " + parts[0], *(f"then {part}" for part in parts[1:-1]), f"finally {parts[-1]}"])


def _choose(
    lengths: np.ndarray, count: int, target_length: int, tolerance: int, rng: np.random.Generator
) -> list[int] | None:
    """Indices into the ascending `lengths`, in random order; None where no last motion fits the others."""
    chosen: list[int] = []
    room = target_length
    for later in range(count - 1, -1, -1):
        longest = int(np.searchsorted(lengths, room - int(lengths[:later].sum()), side="right"))
        first = int(np.searchsorted(lengths, room - tolerance)) if later == 0 else 0
        if first >= longest:
            return None
        index = int(rng.integers(first, longest))
        if index in chosen:
            return None
        chosen.append(index)
        room -= int(lengths[index])
    # The last one was chosen to fill the remaining frames; shuffle, or it would always be the last segment.
    return [chosen[place] for place in rng.permutation(count)]


def _record(parts: Sequence[TextMotion], fps: float) -> CompositeRecord:
    captions = tuple(part.captions[0] for part in parts)
    frames = tuple(part.num_frames for part in parts)
    return CompositeRecord(
        composite_prompt=ordered_prompt(captions),
        sub_prompts=captions,
        durations=tuple(count / fps for count in frames),
        durations_frames=frames,
        source_ids=tuple(part.clip_id for part in parts),
        total_frames=sum(frames),
    )
