"""Files as people have them: text in several encodings, and files that are not what their names say.

A download that went wrong leaves something else under the name of the file: a page in HTML, a pointer of Git LFS, an
archive. Libraries describe these by their own errors, which mislead; here they are named as what they are.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from motions.base.errors import UserError

_HEAD = 512
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks; UTF-32's first, because it begins with UTF-16's."""
_MAGIC = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run `git lfs pull`, or download it again"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"%PDF", "a PDF document"),
    (b"Kaydara FBX", "an FBX file: export it as BVH"),
)
_PAGE = "a web page (HTML), not the file: the download went wrong, such as at a login or a size limit; fetch it again"


def foreign_kind(path: Path, *, zip_is_right: bool = False) -> str | None:
    """What a file is instead of data, to continue the words "this is"; None where it may be what its name says.

    Args:
        zip_is_right: for files that are zip archives by their format, as those of torch and `.npz` are.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "empty (0 bytes)"
    for magic, kind in _MAGIC:
        if head.startswith(magic) and not (zip_is_right and magic.startswith(b"PK")):
            return kind
    plain = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if plain.startswith(b"<!doctype html") or (plain.startswith(b"<") and b"<html" in plain):
        return _PAGE
    if not any(head):
        return "nothing but zero bytes: it was not written or downloaded to its end"
    return None


def refuse_foreign(path: Path, *, zip_is_right: bool = False) -> None:
    """Raises UserError that names the file and what it is instead of data; see `foreign_kind`, also for OSError."""
    if (kind := foreign_kind(path, zip_is_right=zip_is_right)) is not None:
        raise UserError(f"{path} is {kind}")


def read_text(path: str | Path) -> str:
    """The text of a file that a person or a tool wrote, with any line ends: UTF-8, or UTF-16 or UTF-32 with its mark.

    UTF-16 without a mark is recognised by its zero bytes. A byte-order mark is no part of the text.

    Raises:
        UserError: naming the file, and line and byte of what is in another encoding; or what the file is instead.
        FileNotFoundError, IsADirectoryError, PermissionError: the file cannot be read.
    """
    path = Path(path)
    if path.stat().st_size:
        refuse_foreign(path)
    return decode_text(path.read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """The text in the bytes of a file, as `read_text` reads it; `name` is used in messages."""
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    encoding = encoding or _utf16_without_mark(content) or "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        # What follows a byte-order mark: positions in the error count from there.
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise UserError(
            f"{name}, line {line}: byte 0x{byte:02x} is not {error.encoding.upper()}; save the file as UTF-8 "
            "(it looks like Latin-1, Windows-1252 or another encoding of one language)"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _utf16_without_mark(content: bytes) -> str | None:
    """UTF-16 whose letters are mostly ASCII has a zero in every second byte."""
    head = content[:_HEAD]
    zeros = [head[start::2].count(0) for start in (0, 1)]
    if len(head) < 8 or max(zeros) < 0.4 * (len(head) // 2) or min(zeros) > 0.1 * (len(head) // 2):
        return None
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
