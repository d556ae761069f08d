"""Measures of motions made for actions: accuracy, FID with an interval, diversity, multimodality.

Those of Action2Motion (Guo et al. 2020) on the features of its classifier, which begins from zeros, and with pairs that
are drawn by a seed: equal motions give equal figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from motions.base.errors import UserError
from motions.metrics import frechet_distance
from rewards.actions.classifier import ActionClassifier

DIVERSITY_PAIRS = 200
MULTIMODALITY_PAIRS = 20
_BATCH = 64
_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class ActionFeatures:
    """What the classifier says of N motions."""

    features: np.ndarray
    """[N, 30]."""
    predicted: np.ndarray
    """Most probable action [N] int64."""
    actions: np.ndarray
    """Action that each motion was made for [N] int64."""


def action_features(
    classifier: ActionClassifier,
    joints: np.ndarray,
    lengths: np.ndarray,
    actions: np.ndarray,
    rng: np.random.Generator | None = None,
) -> ActionFeatures:
    """Reads motions in batches of 64.

    Args:
        joints: [N, 24, 3, T] metres.
        lengths: [N] int64.
        actions: [N] int64.
        rng: of random first states, as the public code has them at every call; None: zeros.

    Raises:
        UserError: an action that the classifier does not know, or joints that are not finite.
    """
    num_actions = classifier.linear2.out_features
    if len(actions) and not (actions.min() >= 0 and actions.max() < num_actions):
        worst = int(actions.max() if actions.max() >= num_actions else actions.min())
        raise UserError(f"action {worst}: the classifier knows 0 to {num_actions - 1}")
    if not np.isfinite(joints).all():
        raise UserError(f"motion {int(np.argwhere(~np.isfinite(joints))[0, 0])} has joints that are not finite")
    features, predicted = [], []
    with torch.inference_mode():
        for start in range(0, len(joints), _BATCH):
            batch = torch.from_numpy(np.asarray(joints[start : start + _BATCH], np.float32))
            first = None
            if rng is not None:
                layers, width = classifier.recurrent.num_layers, classifier.recurrent.hidden_size
                first = torch.from_numpy(rng.standard_normal((layers, len(batch), width), np.float32))
            found, logits = classifier(batch, torch.from_numpy(lengths[start : start + _BATCH]), first)
            features.append(found.numpy())
            predicted.append(logits.argmax(dim=1).numpy())
    return ActionFeatures(np.concatenate(features), np.concatenate(predicted), np.asarray(actions))


def measure_actions(real: ActionFeatures, made: ActionFeatures, seed: int = 0) -> dict[str, float]:
    """Figures of made motions, FID against real ones.

    Returns:
        accuracy, fid with fid_low and fid_high (95 % interval by resampling both sets), diversity, multimodality (if an
        action has at least two motions), and num_real and num_made, on which a FID depends.

    Raises:
        UserError: fewer than two motions on a side.
    """
    for name, side in (("real", real), ("made", made)):
        if len(side.features) < 2:
            raise UserError(f"{len(side.features)} {name} motions: FID needs at least 2")
    rng = np.random.default_rng(seed)
    low, high = _fid_interval(real.features, made.features, rng)
    figures = {
        "accuracy": float((made.predicted == made.actions).mean()),
        "fid": frechet_distance(real.features, made.features),
        "fid_low": low,
        "fid_high": high,
        "diversity": _pair_distance(made.features, DIVERSITY_PAIRS, rng),
        "num_real": float(len(real.features)),
        "num_made": float(len(made.features)),
    }
    groups = [made.features[made.actions == action] for action in np.unique(made.actions)]
    if groups := [group for group in groups if len(group) > 1]:
        figures["multimodality"] = float(np.mean([_pair_distance(group, MULTIMODALITY_PAIRS, rng) for group in groups]))
    return figures


def block_fids(features: np.ndarray, blocks: Sequence[np.ndarray]) -> list[float]:
    """FID of each block of rows against all rows of `features` [N, 30]."""
    return [frechet_distance(features, features[block]) for block in blocks]


def score_blocks(scores: np.ndarray, num_blocks: int = 5) -> list[np.ndarray]:
    """Rows in blocks by falling score, the best first; of almost equal size, for any number of rows."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [np.asarray(block) for block in np.array_split(order, num_blocks)]


def _pair_distance(features: np.ndarray, num_pairs: int, rng: np.random.Generator) -> float:
    """Mean distance of pairs drawn with replacement, of any number of rows."""
    one, other = rng.integers(len(features), size=(2, num_pairs))
    return float(np.linalg.norm(features[one] - features[other], axis=1).mean())


def _fid_interval(real: np.ndarray, made: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    drawn = [
        frechet_distance(real[rng.integers(len(real), size=len(real))], made[rng.integers(len(made), size=len(made))])
        for _ in range(_RESAMPLES)
    ]
    return float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))
