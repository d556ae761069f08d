"""Checks before and after a scorer: its motions must be valid, and its terms finite and of the right size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rewards.messages import RewardError
from rollouts.messages import GroupMotions


def check_motions(scorer: str, motions: GroupMotions, num_features: int, min_frames: int) -> None:
    """Raises an error for motions that cannot be scored.

    Raises:
        RewardError: wrong shape or width, a length outside min_frames..T, or a valid frame that is not finite.
    """
    features, lengths = motions.features, motions.lengths
    where = f"reward {scorer!r}, prompt {motions.prompt.text!r}"
    if features.ndim != 3 or features.shape[2] != num_features or lengths.shape != features.shape[:1]:
        raise RewardError(
            f"{where}: features {features.shape} and lengths {lengths.shape}, expected [N, T, {num_features}] and [N]"
        )
    for sample, (motion, length) in enumerate(zip(features, lengths, strict=True)):
        if not min_frames <= length <= features.shape[1]:
            raise RewardError(
                f"{where}, sample {sample}: length {length}, legal are {min_frames}..{features.shape[1]} frames"
            )
        if not np.isfinite(motion[:length]).all():
            raise RewardError(f"{where}, sample {sample}: the motion has values that are not finite")


def check_terms(scorer: str, terms: Mapping[str, np.ndarray], prompt_text: str, num_samples: int) -> None:
    """Raises an error for terms that are not [N] or not finite, naming reward, term, prompt and sample.

    Raises:
        RewardError: a term has another shape or a value that is not finite.
    """
    for term, values in terms.items():
        where = f"reward {scorer!r}, term {term!r}, prompt {prompt_text!r}"
        if values.shape != (num_samples,):
            raise RewardError(f"{where}: shape {values.shape}, expected ({num_samples},)")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise RewardError(f"{where}, sample {bad[0]}: {values[bad[0]]} is not finite ({len(bad)} samples)")


def shortened(text: str, limit: int = 60) -> str:
    """A text of a prompt for a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."
