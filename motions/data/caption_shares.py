"""Two halves of a training split's captions: for a judge, and for the reward that it must be independent of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from motions.base.errors import UserError
from motions.data.text_motion import TextMotion

JUDGE, REWARD = "judge", "reward"
SHARES = (JUDGE, REWARD)


def share_of_captions(items: Sequence[TextMotion], share: str) -> tuple[TextMotion, ...]:
    """The motions of a training split with the captions of one share.

    Of the captions of a motion every second one is the judge's. Where most motions have only one, whole recordings
    belong to one share or the other, by a hash of their name.

    Raises:
        UserError: no motion is left.
    """
    if sum(len(item.captions) > 1 for item in items) * 2 > len(items):
        first = 1 if share == JUDGE else 0
        cut = (replace(item, captions=item.captions[first::2]) for item in items)
        found = tuple(item for item in cut if item.captions)
    else:
        found = tuple(item for item in items if _is_judges(item.source) == (share == JUDGE))
    if not found:
        raise UserError(f"captions {share}: {len(items)} motions with one caption each are too few to be shared out")
    return found


def _is_judges(source: str) -> bool:
    return hashlib.sha256(source.encode()).digest()[0] % 2 == 1
