"""Which errors a user can mend; all others are bugs and keep their traceback."""

from __future__ import annotations

import errno
import pickle

import pytest
from pydantic import Field, ValidationError

from motions.base.errors import RemoteError, UserError, is_mendable
from motions.settings import Settings


class Blade(Settings):
    """A blade."""

    length_m: float = Field(gt=0)
    """Its length."""


@pytest.mark.parametrize("values", [{"length_m": -1.0}, {}, {"length_m": 1.0, "colour": "red"}])
def test_values_are_the_user_s_and_names_are_ours(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Blade.model_validate(values)
    assert is_mendable(caught.value) is (values == {"length_m": -1.0})


@pytest.mark.parametrize(
    ("error", "mendable"),
    [
        (UserError("no such clip"), True),
        (ValueError("operands could not be broadcast together"), False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "clip.bvh"), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EBADF, "Bad file descriptor"), False),
        (RemoteError("the cluster is too small"), True),
        (RemoteError("an actor failed", UserError("no such clip")), True),
        (RemoteError("an actor failed", RemoteError("one of its own failed", TypeError("no clip"))), False),
    ],
)
def test_kinds_of_errors(error: Exception, mendable: bool) -> None:
    assert is_mendable(error) is mendable


def test_a_remote_error_keeps_its_cause_in_another_process() -> None:
    again = pickle.loads(pickle.dumps(RemoteError("an actor failed", TypeError("no clip"))))
    assert str(again) == "an actor failed" and isinstance(again.cause, TypeError)
