"""The report of an import: what was done to each file, its figures, and what the dataset holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from motions.bvh.importer import Import, Recording
from motions.data.folder_writer import FolderClip
from motions.skeleton.mirroring import mirror_caption
from motions.skeleton.skeletons import HUMANML3D

_MOST_SWAPS = 40


@dataclass(slots=True)
class _SplitCounts:
    clips: int = 0
    captions: int = 0
    frames: int = 0
    mirrored: int = 0
    files: set[str] = field(default_factory=set)


@dataclass(slots=True)
class ClipCounts:
    """What clips there are, counted while they pass by."""

    splits: dict[str, _SplitCounts] = field(default_factory=lambda: defaultdict(_SplitCounts))
    swapped: dict[str, str] = field(default_factory=dict)
    """Captions that mirroring changed, and what they became."""

    def watch(self, clips: Iterable[FolderClip]) -> Iterator[FolderClip]:
        """The same clips, counted."""
        for clip in clips:
            counts = self.splits[clip.split]
            counts.clips += 1
            counts.captions += len(clip.captions)
            counts.frames += len(clip.features)
            counts.files.add(clip.source)
            if clip.mirrored is not None:
                counts.mirrored += 1
                changed = {caption: mirror_caption(caption) for caption in clip.captions}
                self.swapped |= {old: new for old, new in changed.items() if new != old and new in clip.mirrored[1]}
            yield clip


def describe(imported: Import, counts: ClipCounts) -> str:
    """What was mapped, placed and left out, units, axes and frame rates, the figures of each file and what is odd about
    it, what mirroring swapped, and what the dataset holds."""
    recordings = imported.recordings
    lines = []
    for mapping, files in _grouped(recordings):
        lines += [f"skeleton of {_some(files)}:", *(f"  {line}" for line in mapping.splitlines())]
    conversions = [recording.conversion for recording in recordings if recording.conversion is not None]
    axes = dict.fromkeys(conversion.up_axis for conversion in conversions)
    units = sorted({f"{conversion.unit} ({conversion.metres:.4g} m)" for conversion in conversions})
    lines.append(f"up axis: {', '.join(axes)}; unit: {', '.join(units)}")
    rates = sorted({f"{recording.fps:.4g}" for recording in recordings}, key=float)
    lines.append(f"frames per second: {', '.join(rates)}, resampled to {HUMANML3D.fps:g}")
    lines.append("figures of each file (knees, elbows, feet: +1 bend or point as people's do, -1 the other way):")
    for recording in recordings:
        axis = recording.conversion.up_axis if recording.conversion and len(axes) > 1 else ""
        lines.append(f"  {recording.file}: {recording.figures}{f', {axis} up' if axis else ''}")
        lines += [f"    note: {note}" for note in recording.notes]
        lines += [f"    warning: {warning}" for warning in recording.warnings]
    if imported.problems:
        lines.append(f"left out, {imported.num_bad_files} files as a whole ({len(imported.problems)} problems):")
        lines += [f"  {problem}" for problem in imported.problems]
    if counts.swapped:
        lines.append(f"mirroring changed {len(counts.swapped)} captions (mirror: no in the table keeps one as it is):")
        shown = list(counts.swapped.items())[:_MOST_SWAPS]
        lines += [f"  {old!r} -> {new!r}" for old, new in shown]
        if len(counts.swapped) > len(shown):
            lines.append(f"  and {len(counts.swapped) - len(shown)} more")
    num_stretches = sum(len(recording.stretches) for recording in recordings)
    num_clips = sum(split.clips for split in counts.splits.values())
    if num_clips > num_stretches:
        lines.append(f"longer than max_frames, cut into parts: {num_stretches} stretches became {num_clips} clips")
    for name, split in counts.splits.items():
        lines.append(
            f"{name}: {split.clips} clips of {len(split.files)} files, {split.captions} captions, "
            f"{split.frames / HUMANML3D.fps:.1f} s"
            + (f", and {split.mirrored} mirrored copies" if split.mirrored else "")
        )
    return "\n".join(lines)


def _grouped(recordings: Sequence[Recording]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for recording in recordings:
        groups.setdefault(recording.mapping, []).append(recording.file)
    return list(groups.items())


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
