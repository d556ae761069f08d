"""Sets of composite prompts from any dataset, in the format of the public project MDM-GRPO (jufan666/text-to-motion).

A composite joins the captions of K motions to "First A, then B, finally C"; their lengths add up to nearly the longest
motion that a policy generates. That project's builder draws K clips and rejects those that do not fit. Here the last
clip is drawn among those that fit, so composites of four or five segments are found where they exist; and where even
the shortest clips are too long together, segments may last a part of their clips. They are written as JSON lines, which
`load_prompts` reads, or in that project's own format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.data.prompts import MIN_SEGMENT_FRAMES, load_prompts, read_records
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
    b_matrix: tuple[tuple[float, ...], ...] | None = None
    """Cosines [K][K] of the sub-prompts, if they were computed."""

    @property
    def row(self) -> dict[str, object]:
        """The record with the names of MDM-GRPO."""
        values = asdict(self)
        matrix = values.pop("b_matrix")
        return values if matrix is None else values | {"B_matrix": matrix}


def build_composite_records(
    items: Sequence[TextMotion],
    *,
    k_segments: int,
    fps: float,
    rng: np.random.Generator,
    target_length: int = 196,
    tolerance: int = 20,
    max_samples: int = 1000,
    shorten: float = 1.0,
) -> list[CompositeRecord]:
    """Up to `max_samples` composites of `k_segments` different motions each; no set of motions occurs twice.

    The total length is at most `target_length` frames and at least `target_length - tolerance`. Sub-prompts are the
    motions' first captions. Equal generators give equal records.

    Args:
        shorten: a segment may last this share of its motion where the whole ones would be too long together; all
            segments of a composite are then shortened alike.

    Raises:
        UserError: an option out of range, or no `k_segments` of the motions have such a total length.
    """
    if not 2 <= k_segments <= 5:
        raise UserError(f"k_segments is {k_segments}; legal: 2 to 5")
    if not 0.0 < shorten <= 1.0:
        raise UserError(f"shorten is {shorten:g}; legal: above 0 to 1")
    if not 0 <= tolerance < target_length or max_samples < 1:
        raise UserError(
            f"target_length is {target_length}, tolerance {tolerance}, max_samples {max_samples}; legal: a tolerance "
            "from 0 to below target_length, at least one sample"
        )
    usable = sorted((item for item in items if item.num_frames >= MIN_SEGMENT_FRAMES), key=lambda item: item.num_frames)
    # What a motion takes at least; shares keep the order.
    lengths = np.array([max(math.ceil(shorten * item.num_frames), MIN_SEGMENT_FRAMES) for item in usable])
    shortest = int(lengths[:k_segments].sum())
    if len(usable) < k_segments or shortest > target_length:
        raise UserError(
            f"k_segments is {k_segments}: of {len(usable)} motions the {k_segments} shortest last {shortest} frames"
            f"{'' if shorten == 1.0 else f', shortened to {shorten:g},'}; target_length is {target_length}"
        )
    records: list[CompositeRecord] = []
    tried: set[frozenset[int]] = set()
    dry = 0
    while len(records) < max_samples and dry < _MAX_DRY_DRAWS:
        chosen = _choose(lengths, k_segments, target_length, tolerance, rng)
        dry += 1
        if chosen is None or frozenset(chosen) in tried:
            continue
        parts = [usable[index] for index in chosen]
        frames = _fitted([part.num_frames for part in parts], target_length)
        if sum(frames) >= target_length - tolerance:
            dry = 0
            tried.add(frozenset(chosen))
            records.append(_record(parts, frames, fps))
    if not records:
        low = target_length - tolerance
        raise UserError(f"no {k_segments} of {len(usable)} motions last {low} to {target_length} frames together")
    return records


def write_composite_records(path: str | Path, records: Sequence[CompositeRecord], metadata: dict[str, object]) -> None:
    """Writes records as JSON lines after a first line `{"metadata": ...}`. The file appears complete or not at all.

    `metadata` describes their origin (dataset, split, seed, options); its `fps` is checked when they are read.
    """
    rows = [{"metadata": metadata}, *(record.row for record in records)]
    with atomic_write(path) as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def write_composite_array(path: str | Path, records: Sequence[CompositeRecord], metadata: dict[str, object]) -> None:
    """Writes records as MDM-GRPO does, for its own tools: a pickled dictionary of `samples` and `metadata` in a `.npy`.

    Whoever reads such a file runs what it holds, unless by `load_prompts`; JSON lines are the safe format.
    """
    samples = [{name: _lists(value) for name, value in record.row.items()} for record in records]
    with atomic_write(path) as file:
        np.save(file, np.array({"samples": samples, "metadata": metadata}, dtype=object))


def read_composite_records(path: str | Path, fps: float) -> list[CompositeRecord]:
    """The records of a file of MDM-GRPO or of `write_composite_records`, read without running code from it.

    Ids of motions are empty where the file has none for each segment; a `B_matrix` is not read.

    Raises:
        UserError: as `motions.data.prompts.load_prompts`.
    """
    rows = [row for _, row in read_records(Path(path), fps)]
    return [
        CompositeRecord(
            composite_prompt=prompt.text,
            sub_prompts=tuple(segment.text for segment in prompt.segments),
            durations=tuple(segment.num_frames / fps for segment in prompt.segments),
            durations_frames=tuple(segment.num_frames for segment in prompt.segments),
            source_ids=_ids(row, len(prompt.segments)),
            total_frames=prompt.num_frames,
        )
        for row, prompt in zip(rows, load_prompts(path, fps), strict=True)
    ]


def _ids(row: object, count: int) -> tuple[str, ...]:
    found = row.get("source_ids") if isinstance(row, Mapping) else None
    if not isinstance(found, list | tuple) or len(found) != count:
        return ("",) * count
    return tuple(str(one) for one in found)


def _lists(value: object) -> object:
    """A value with lists in place of tuples, as that project's files have them."""
    return [_lists(item) for item in value] if isinstance(value, tuple | list) else value


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


def _fitted(frames: Sequence[int], target_length: int) -> tuple[int, ...]:
    """The lengths, shortened alike where their sum is over the target."""
    total = sum(frames)
    if total <= target_length:
        return tuple(frames)
    return tuple(max(count * target_length // total, MIN_SEGMENT_FRAMES) for count in frames)


def _record(parts: Sequence[TextMotion], frames: tuple[int, ...], fps: float) -> CompositeRecord:
    captions = tuple(part.captions[0] for part in parts)
    return CompositeRecord(
        composite_prompt=ordered_prompt(captions),
        sub_prompts=captions,
        durations=tuple(count / fps for count in frames),
        durations_frames=frames,
        source_ids=tuple(part.clip_id for part in parts),
        total_frames=sum(frames),
    )
