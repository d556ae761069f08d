"""Files that are either complete or not there.

Checkpoints, manifests and reports are written through `atomic_write`: the bytes go to a hidden temporary file in the
same folder, are flushed to the disk, and replace the old file with one rename. A killed process, a full disk or an
exception leaves the old file unchanged and no temporary file behind.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class WriteError(OSError):
    """A file could not be written. The message names the file and the reason; an older file of that name is unchanged.

    `errno` and `filename` are those of the failed call and of the file that was asked for.
    """

    @classmethod
    def of(cls, path: Path, cause: OSError) -> WriteError:
        """The error about `path` that a failed call makes."""
        return cls(cause.errno or errno.EIO, cause.strerror or str(cause), str(path))

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}; nothing was overwritten"


class _RecordingFile(io.FileIO):
    """Remembers the first failed write: `torch.save` turns an OSError of its file into an obscure RuntimeError."""

    error: OSError | None = None

    def write(self, data, /) -> int:
        """Writes `data` and keeps the OSError of a failure. Returns the number of bytes written."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Yields a binary file that becomes `path` when the block ends normally and is removed when it raises.

    The folder must exist. The new file has the permissions a plain `open` would give it.

    Raises:
        WriteError: the disk is full, the folder is missing or not writable, ... The old file, if any, is untouched.

    Example:
        with atomic_write(folder / "manifest.json") as file:
            file.write(json.dumps(manifest).encode())
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise WriteError.of(target, error) from error
    raw = _RecordingFile(descriptor, "wb")
    try:
        with io.BufferedWriter(raw, buffer_size=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        cause = raw.error or error
        # An OSError that the caller's block raises for another file keeps its own type and message.
        if isinstance(cause, OSError) and (cause is raw.error or cause.filename in (None, str(temporary))):
            raise WriteError.of(target, cause) from cause
        raise


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk; some network file systems cannot, and say so with EINVAL."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
