"""From what was measured of motions to the metrics of each replication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluation.draws import Replication
from jobs.evaluation.settings import ProtocolSettings
from motions import metrics
from rewards.evaluation.protocol.measuring import MeasuredGroup
from rewards.evaluation.protocol.replications import Embeddings, distances_to, replication_metrics

Measured = tuple[MeasuredGroup, int]
"""One motion: its group and its place in it."""


@dataclass(frozen=True)
class References:
    """Embeddings of real motions that FID compares with."""

    own: np.ndarray | None
    """[M, d] of motions of the same kind as the texts ask for; None where there are none."""
    single: np.ndarray | None = None
    """[M, d] of single motions, where the texts ask for composites: a mismatched ground truth."""


def metrics_of(
    motions: Sequence[Measured],
    references: References,
    settings: ProtocolSettings,
    rng: np.random.Generator,
    *,
    by_cosine: bool,
    repeats: Sequence[Sequence[Measured]] = (),
) -> dict[str, float]:
    """All metrics of one replication.

    Args:
        motions: one for each text, in the order of the replication.
        repeats: for MultiModality, the motions of each of its texts.
    """
    whole = np.stack([group.motions[place] for group, place in motions])
    found = Embeddings(
        np.concatenate([group.texts for group, _ in motions]),
        np.concatenate([group.parts[place] for group, place in motions]),
        whole,
    )
    values = replication_metrics(
        found, rng, pool_size=settings.pool_size, diversity_times=settings.diversity_times, by_cosine=by_cosine
    )
    if references.own is not None:
        values |= distances_to(references.own, whole)
    if references.single is not None:
        values |= distances_to(references.single, whole, "_mismatched")
    if repeats:
        embedded = np.stack([[group.motions[place] for group, place in text] for text in repeats])
        values["multimodality"] = metrics.multimodality(embedded, num_pairs=settings.mm_num_times, rng=rng)
    return values | figures_of(motions)


def figures_of(motions: Sequence[Measured]) -> dict[str, float]:
    """Mean over motions of each figure that all of them have. `logic_accuracy` is the share of all segments; the mean
    of each motion's share is `logic_accuracy_by_motion`."""
    first, _ = motions[0]
    names = [name for name in first.figures if all(name in group.figures for group, _ in motions)]
    columns = {name: np.array([group.figures[name][place] for group, place in motions], np.float64) for name in names}
    values = {name: float(column.mean()) for name, column in columns.items()}
    if "logic_accuracy" in columns:
        counts = np.array([len(group.texts) for group, _ in motions], np.float64)
        values["logic_accuracy_by_motion"] = values["logic_accuracy"]
        values["logic_accuracy"] = float((columns["logic_accuracy"] * counts).sum() / counts.sum())
    return values


def generated(replication: Replication, groups: Sequence[MeasuredGroup]) -> list[Measured]:
    """The generated motions of a replication."""
    return [(groups[sample.request], sample.place) for sample in replication.samples]


def repeated(replication: Replication, groups: Sequence[MeasuredGroup]) -> list[list[Measured]]:
    """Its motions for MultiModality."""
    return [[(groups[sample.request], sample.place) for sample in text] for text in replication.repeats]
