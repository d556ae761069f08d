"""Reads the table of captions of motion files: CSV columns `file, caption` and, optionally, `start, end`.

Rows with the same file and times are several captions of one clip; rows with other times are separate clips.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from dataclasses import dataclass
from pathlib import Path

from motions.base.errors import UserError

COLUMNS = ("file", "caption", "start", "end")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class CaptionedStretch:
    """A stretch of a file and its captions; seconds, None for the file's beginning or end."""

    file: str
    start: float | None
    end: float | None
    captions: tuple[str, ...]
    line: int
    """First line of the table that names it."""


def read_caption_table(path: str | Path) -> list[CaptionedStretch]:
    """Reads a CSV file with a header; comma, semicolon or tab between the columns.

    Raises UserError naming file, line and column for unknown or missing columns, an empty file name or caption, a `#`
    in a caption (HumanML3D's separator), times that are no numbers or not in order, and a table without rows.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), restkey="", restval=""
    )
    _check_header(path, list(reader.fieldnames or ()))
    captions: dict[tuple[str, float | None, float | None], list[str]] = {}
    first_line: dict[tuple[str, float | None, float | None], int] = {}
    for row in reader:
        place = f"{path}:{reader.line_num}"
        if "" in row:
            raise UserError(f"{place}: more values than columns; put a caption with commas into quotes")
        values = {(column or "").strip().lower(): " ".join(value.split()) for column, value in row.items()}
        if not any(values.values()):
            continue
        key = (_file(place, values), *_times(place, values))
        first_line.setdefault(key, reader.line_num)
        captions.setdefault(key, []).append(_caption(place, values))
    if not captions:
        raise UserError(f"{path}: no captions in it")
    return [CaptionedStretch(*key, tuple(dict.fromkeys(texts)), first_line[key]) for key, texts in captions.items()]


def _check_header(path: Path, header: list[str]) -> None:
    names = [name.strip().lower() for name in header]
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"{path}:1: unknown column {name!r}{hint}; the columns are {', '.join(COLUMNS)}")
    for name in ("file", "caption"):
        if names.count(name) != 1:
            raise UserError(f"{path}:1: expected one column {name!r}; the columns are {', '.join(COLUMNS)}")


def _file(place: str, values: dict[str, str]) -> str:
    name = values["file"]
    if not name:
        raise UserError(f"{place}: file is empty")
    return name.replace("\\", "/").removeprefix("./")


def _caption(place: str, values: dict[str, str]) -> str:
    caption = values["caption"]
    if not caption:
        raise UserError(f"{place}: caption is empty")
    if "#" in caption:
        raise UserError(f"{place}: caption {caption!r} has a '#', which separates fields in HumanML3D's text files")
    return caption


def _times(place: str, values: dict[str, str]) -> tuple[float | None, float | None]:
    times: list[float | None] = []
    for column in ("start", "end"):
        value = values.get(column, "")
        try:
            time = float(value) if value else None
        except ValueError:
            time = math.nan
        if time is not None and not (math.isfinite(time) and time >= 0):
            raise UserError(f"{place}: {column} is {value!r}, expected seconds, 0 or more")
        times.append(time)
    start, end = times
    if start is not None and end is not None and start >= end:
        raise UserError(f"{place}: start {start:g} is not before end {end:g}")
    return start, end
