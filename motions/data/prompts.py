"""Prompts: the text of a motion to generate, with its segments and their lengths in frames; and files of them.

Formats that are read:
* `.txt`: one prompt a line, its length in seconds after a bar (`a person walks forward | 4.5`); # starts a comment;
* `.jsonl`: one object a line, as `save_prompts` writes them or as described at `prompt_from_record`;
* `.npy`: the composite datasets `composite_k{K}_{split}.npy` of the public project MDM-GRPO (jufan666/text-to-motion),
  read through an unpickler that admits only arrays and plain data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.foreign_files import read_text
from motions.base.safe_files import read_object_array

MIN_SEGMENT_FRAMES = 4
"""Shortest segment, in frames, that the motion encoders can embed: one token."""
MAX_FRAMES = 196
"""Frames of HumanML3D's longest motions."""
DEFAULT_SECONDS = 6.0
OVERLAP_FRAMES = 20
"""Of a motion that is made in parts: last frames of a part from which the next one goes on, a second of HumanML3D's."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One action of a prompt.

    Example:
        Segment(text="a person walks forward", num_frames=60)
    """

    text: str
    num_frames: int

    def divided(self, texts: Sequence[str]) -> tuple[Segment, ...]:
        """Segments of these texts that share the frames equally."""
        ends = np.linspace(0, self.num_frames, len(texts) + 1).round().astype(int)
        return tuple(Segment(text, int(frames)) for text, frames in zip(texts, np.diff(ends), strict=True))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with one segment (a single prompt) or several (a composite prompt).

    Example:
        Prompt(text="walks forward, then kicks", segments=(Segment("walks forward", 60), Segment("kicks", 30)))
    """

    text: str
    segments: tuple[Segment, ...]

    @property
    def num_frames(self) -> int:
        """Length of the whole motion, in frames."""
        return sum(segment.num_frames for segment in self.segments)

    @property
    def boundaries(self) -> tuple[tuple[int, int], ...]:
        """Half-open frame ranges of the segments."""
        ends = []
        start = 0
        for segment in self.segments:
            ends.append((start, start + segment.num_frames))
            start += segment.num_frames
        return tuple(ends)


def seconds_to_frames(seconds: Sequence[float], fps: float) -> tuple[int, ...]:
    """Frames of consecutive segments. The end times are rounded, not the lengths, so that errors do not accumulate.

    Raises UserError for a length that is not a positive number or gives fewer than 4 frames.

    Example:
        seconds_to_frames([1.26, 1.26, 1.26], fps=20)   # (25, 25, 26)
    """
    lengths = np.asarray(seconds, dtype=np.float64)
    if lengths.ndim != 1 or not len(lengths) or not np.isfinite(lengths).all() or (lengths <= 0).any():
        raise UserError(f"durations are {list(seconds)}; expected one positive number of seconds per segment")
    # Halves are rounded up; rounding to even, as NumPy and Python do, would depend on the neighbouring segment.
    ends = np.floor(np.cumsum(lengths) * fps + 0.5 + 1e-9).astype(int)
    frames = np.diff(ends, prepend=0)
    if (frames < MIN_SEGMENT_FRAMES).any():
        segment = int(np.argmin(frames))
        raise UserError(
            f"segment {segment + 1} lasts {lengths[segment]:g} s: {frames[segment]} frames at {fps:g} per second; "
            f"a segment has at least {MIN_SEGMENT_FRAMES}"
        )
    return tuple(int(count) for count in frames)


def load_prompts(
    path: str | Path, fps: float, *, default_frames: int | None = None, num_segments: int | None = None
) -> list[Prompt]:
    """Reads a file of prompts.

    Args:
        fps: frames per second of the motions to generate; it converts seconds to frames and must equal a composite
            file's own.
        default_frames: length of `.txt` and `.jsonl` prompts without one; by default 6 seconds, at most 196 frames.
        num_segments: number of segments that every prompt must have, if given.

    Raises:
        UserError: naming the file and the line or sample, for an unknown ending, a malformed or unsafe file, an empty
            text, a segment under 4 frames, or another number of segments than asked for.
    """
    path = Path(path)
    if default_frames is None:
        default_frames = min(MAX_FRAMES, round(DEFAULT_SECONDS * fps))
    prompts = []
    for place, record in read_records(path, fps):
        try:
            prompt = prompt_from_record(record, fps, default_frames)
            if num_segments is not None and len(prompt.segments) != num_segments:
                raise UserError(f"it has {len(prompt.segments)} segments; expected {num_segments}")
        except UserError as error:
            raise UserError(f"{path}, {place}: {error}") from error
        prompts.append(prompt)
    return prompts


def load_parts(path: str | Path, fps: float, *, default_frames: int | None = None) -> list[list[Prompt]]:
    """Reads a file of prompts, of which those of one motion are together: a line of `jobs.parse_scene` whose `part` is
    above 0 continues the motion of the line before it.

    Raises:
        UserError: as `load_prompts`; or the first line continues something.
    """
    prompts = load_prompts(path, fps, default_frames=default_frames)
    motions: list[list[Prompt]] = []
    for prompt, (place, record) in zip(prompts, read_records(Path(path), fps), strict=True):
        if not (isinstance(record, Mapping) and record.get("part")):
            motions.append([prompt])
        elif motions:
            motions[-1].append(prompt)
        else:
            raise UserError(f"{path}, {place}: it is a later part of a motion whose first part is missing")
    return motions


def read_records(path: Path, fps: float) -> list[tuple[str, object]]:
    """The records of a file of prompts as they are, each with its place in the file for messages.

    Raises:
        UserError: an unknown ending, a malformed or unsafe file, or one made for another frame rate.
    """
    readers = {".txt": _read_text, ".jsonl": _read_jsonl, ".npy": _read_composites}
    if path.suffix not in readers:
        raise UserError(f"{path}: prompts are read from {', '.join(readers)} files")
    return readers[path.suffix](path, fps)


def save_prompts(path: str | Path, prompts: Sequence[Prompt]) -> None:
    """Writes prompts as JSON lines that `load_prompts` reads back to equal prompts; complete or not at all."""
    lines = []
    for prompt in prompts:
        segments = [{"text": segment.text, "num_frames": segment.num_frames} for segment in prompt.segments]
        lines.append(json.dumps({"text": prompt.text, "segments": segments}, ensure_ascii=False))
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def prompt_from_record(record: object, fps: float, default_frames: int) -> Prompt:
    """A prompt from a record of one of these forms; other keys are ignored:

    * `{"text": str, "num_frames": int}` or `"seconds"` instead, or neither;
    * `{"text": str, "segments": [{"text": str, "num_frames": int}, ...]}`, or `"seconds"` in every segment;
    * `{"composite_prompt": str, "sub_prompts": [str, ...], "durations_frames": [int, ...]}`, or `"durations"` in
      seconds; each sub-prompt may be a list of one string.

    Raises UserError where a key or type is wrong, a text empty, or a segment under 4 frames.
    """
    if not isinstance(record, Mapping):
        raise UserError(f"expected an object, found {record!r:.80}")
    if "composite_prompt" in record:
        text = _text(record, "composite_prompt")
        texts = [_sub_prompt(item) for item in _list(record, "sub_prompts")]
        if "durations_frames" in record:
            frames = tuple(_frames(item) for item in _list(record, "durations_frames"))
        else:
            frames = seconds_to_frames([_number(item) for item in _list(record, "durations")], fps)
    elif "segments" in record:
        text = _text(record, "text")
        segments = [item if isinstance(item, Mapping) else {} for item in _list(record, "segments")]
        texts = [_text(segment, "text") for segment in segments]
        if all("num_frames" in segment for segment in segments):
            frames = tuple(_frames(segment["num_frames"]) for segment in segments)
        else:
            frames = seconds_to_frames([_number(segment.get("seconds")) for segment in segments], fps)
    else:
        text = _text(record, "text")
        texts = [text]
        frames = (default_frames,)
        if "num_frames" in record:
            frames = (_frames(record["num_frames"]),)
        elif "seconds" in record:
            frames = seconds_to_frames([_number(record["seconds"])], fps)
    if len(texts) != len(frames) or not texts:
        raise UserError(f"it has {len(texts)} texts and {len(frames)} durations; expected one duration per text")
    return Prompt(text, tuple(Segment(*pair) for pair in zip(texts, frames, strict=True)))


def _read_text(path: Path, fps: float) -> list[tuple[str, object]]:
    records: list[tuple[str, object]] = []
    for number, line in enumerate(_lines(path), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        text, bar, seconds = line.partition("|")
        record: dict[str, object] = {"text": text.strip()}
        if bar:
            try:
                record["seconds"] = float(seconds)
            except ValueError:
                raise UserError(f"{path}, line {number}: {seconds.strip()!r} after | is no number of seconds") from None
        records.append((f"line {number}", record))
    return records


def _read_jsonl(path: Path, fps: float) -> list[tuple[str, object]]:
    records: list[tuple[str, object]] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from error
        if isinstance(record, dict) and set(record) == {"metadata"}:
            _check_metadata(path, record["metadata"], fps)
        else:
            records.append((f"line {number}", record))
    return records


def _read_composites(path: Path, fps: float) -> list[tuple[str, object]]:
    content = read_object_array(path)
    if not isinstance(content, dict) or not isinstance(content.get("samples"), list):
        raise UserError(f"{path} is no composite dataset: expected a dictionary with a list 'samples'")
    _check_metadata(path, content.get("metadata", {}), fps)
    return [(f"sample {index}", record) for index, record in enumerate(content["samples"])]


def _check_metadata(path: Path, metadata: object, fps: float) -> None:
    stored = metadata.get("fps", fps) if isinstance(metadata, Mapping) else fps
    if not isinstance(stored, (int, float, np.number)) or stored != fps:
        raise UserError(f"{path} was made for {stored} frames per second, the motions have {fps:g}")


def _lines(path: Path) -> list[str]:
    try:
        # Not by splitlines: JSON may hold other characters that Unicode calls line ends.
        return read_text(path).split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _text(record: Mapping[Any, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key} is {value!r:.80}; expected a text that is not empty")
    return value


def _sub_prompt(item: object) -> str:
    """The text of a sub-prompt; some versions of the format wrap each one in a list."""
    if isinstance(item, list) and len(item) == 1:
        item = item[0]
    return _text({"sub_prompts": item}, "sub_prompts")


def _list(record: Mapping[Any, Any], key: str) -> list[Any]:
    value = record.get(key)
    if isinstance(value, (tuple, np.ndarray)):
        value = list(value)
    if not isinstance(value, list):
        raise UserError(f"{key} is {value!r:.80}; expected a list")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise UserError(f"a duration is {value!r:.80}; expected a number")
    return float(value)


def _frames(value: object) -> int:
    number = _number(value)
    if not number.is_integer() or number < MIN_SEGMENT_FRAMES:
        raise UserError(f"a segment has {value} frames; expected a whole number of at least {MIN_SEGMENT_FRAMES}")
    return int(number)
