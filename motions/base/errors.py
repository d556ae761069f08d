"""Errors that a user can mend, and how to tell them from bugs."""

import errno
from collections.abc import Sequence

from pydantic import ValidationError

_CODE_MISTAKES = ("missing", "extra_forbidden", "unexpected_keyword_argument")
"""Kinds of a `ValidationError` that no value of an option has: a model is built by the wrong names."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class UserError(ValueError):
    """A file, an option or a machine is not as a run needs it, and the message says what to do.

    The command line prints it as one line, without traceback. Any other exception is a bug and keeps its traceback
    (see `is_mendable`).
    """


class MistakesError(UserError):
    """Several mistakes that were found in one pass; the command line prints each of `lines` as an error of its own."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class RemoteError(RuntimeError):
    """Something failed that another process did for this one (an actor, a training worker).

    `cause` is what was raised there; None where nothing was: the machine is too small, a process was killed or hung.
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.__cause__ = cause


class PeerLost(RuntimeError):  # noqa: N818 - names what happened
    """Processes that work together lost one of them: it is gone, or did not come in time. The others cannot go on."""


def is_mendable(error: BaseException) -> bool:
    """Whether a user can mend an error, so that its message is enough.

    True for a `UserError`, for a settings model that refuses values (a job that builds another's options from its own,
    or from a file), for a system error that names a file (missing, not readable) or is the disk's (full), and
    for a `RemoteError` that has such a cause or none.
    """
    if isinstance(error, RemoteError):
        return error.cause is None or is_mendable(error.cause)
    if isinstance(error, UserError):
        return True
    if isinstance(error, ValidationError):
        return all(detail["type"] not in _CODE_MISTAKES for detail in error.errors(include_url=False))
    return isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK_ERRORS)
