"""Reads the table of captions of motion files: CSV with the columns of `COLUMNS`; file and caption are required.

Rows with the same file and times are several captions of one clip; rows with other times are separate clips. `split` is
train, val or test, the same in all rows of a file. `mirror` is no for a caption that must not be mirrored because its
"left" or "right" is no side ("no strength left").
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from motions.base.errors import MistakesError, UserError
from motions.base.foreign_files import read_text
from motions.data.text_motion import SPLITS

COLUMNS = ("file", "caption", "start", "end", "split", "mirror")
_DELIMITERS = ",;\t"
_ANSWERS = {"": True, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class CaptionedStretch:
    """A stretch of a file and its captions; seconds, None for the file's beginning or end."""

    file: str
    start: float | None
    end: float | None
    captions: tuple[str, ...]
    line: int
    """First line of the table that names it."""
    mirrored: tuple[bool, ...]
    """For each caption, whether the mirrored copy of the clip has it, too."""
    split: str | None = None
    """None where the table leaves it open."""


@dataclass(slots=True)
class _Rows:
    """What the rows of one stretch say."""

    line: int
    captions: dict[str, bool] = field(default_factory=dict)
    """Caption -> whether it may be mirrored."""


def read_caption_table(path: str | Path) -> list[CaptionedStretch]:
    """Reads a CSV file with a header; comma, semicolon or tab between the columns, UTF-8 or UTF-16.

    Raises MistakesError naming file, line and column of every row with an empty file name or caption, a `#` in a
    caption (HumanML3D's separator), times that are no numbers or not in order, or an unknown split; UserError for
    unknown, missing or repeated columns, quotation marks that do not match, another encoding, and a table without rows.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    # Strict, since otherwise a quotation mark without a second one takes all further rows into one caption.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", restval="", strict=True)
    stretches: dict[tuple[str, float | None, float | None], _Rows] = {}
    splits: dict[str, str] = {}
    errors = []
    try:
        _check_header(path, list(reader.fieldnames or ()))
        for row in reader:
            try:
                _read_row(f"{path}:{reader.line_num}", reader.line_num, row, stretches, splits)
            except UserError as error:
                errors.append(str(error))
    except csv.Error as error:
        raise UserError(
            f"{path}:{reader.line_num + 1}: quotation marks do not match in the row that begins here ({error}); a "
            "caption in quotation marks ends with one and doubles those inside it"
        ) from error
    if errors:
        raise MistakesError(errors)
    if not stretches:
        raise UserError(f"{path}: no captions in it")
    return [
        CaptionedStretch(*key, tuple(rows.captions), rows.line, tuple(rows.captions.values()), splits.get(key[0]))
        for key, rows in stretches.items()
    ]


def _read_row(
    place: str,
    line: int,
    row: dict[str, str],
    stretches: dict[tuple[str, float | None, float | None], _Rows],
    splits: dict[str, str],
) -> None:
    """Adds one row to the stretches and the splits of the files. Raises UserError for a mistake in it."""
    if "" in row:
        raise UserError(f"{place}: more values than columns; put a caption with commas into quotes")
    values = {(column or "").strip().lower(): " ".join(value.split()) for column, value in row.items()}
    if not any(values.values()):
        return
    file, caption = _file(place, values), _caption(place, values)
    times = _times(place, values)
    if split := values.get("split", "").lower():
        if split not in SPLITS:
            raise UserError(f"{place}: split is {split!r}, expected {', '.join(SPLITS)} or nothing")
        if splits.setdefault(file, split) != split:
            raise UserError(
                f"{place}: split is {split!r}, but {splits[file]!r} in a row before; a file is in one split"
            )
    mirror = values.get("mirror", "").lower()
    if mirror not in _ANSWERS:
        raise UserError(f"{place}: mirror is {mirror!r}, expected yes, no or nothing")
    captions = stretches.setdefault((file, *times), _Rows(line)).captions
    captions[caption] = captions.get(caption, True) and _ANSWERS[mirror]


def _check_header(path: Path, header: list[str]) -> None:
    names = [name.strip().lower() for name in header]
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"{path}:1: unknown column {name!r}{hint}; the columns are {', '.join(COLUMNS)}")
    for name in ("file", "caption", *names):
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
