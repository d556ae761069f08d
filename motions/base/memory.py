"""Whether this machine has the memory for a network, before it is built."""

from __future__ import annotations

import os

from motions.base.errors import UserError

TRAINING_BYTES = 16
"""Bytes of a parameter that is trained: it, its gradient and the two moments of Adam."""


def require_memory(num_parameters: int, what: str) -> None:
    """Checks that a network can be trained here; nothing is allocated.

    Args:
        what: the network and its sizes, for the message.

    Raises:
        UserError: this machine's memory is less than parameters, gradients and optimizer need.
    """
    needed, there = TRAINING_BYTES * num_parameters, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"{what}: {num_parameters / 1e6:.0f} M parameters need {needed / 1e9:.1f} GB to be trained; this machine "
            f"has {there / 1e9:.1f} GB"
        )


def transformer_parameters(width: int, inner: int) -> int:
    """Parameters of the matrices of a transformer layer: attention of `width`, feed-forward layers of width `inner`."""
    return 4 * width**2 + 2 * width * inner
