"""Compares the evaluation of a policy with that of an earlier one on the same prompts and seeds.

Choices:

1. Samples are paired: the same prompt and initial noise before and after.
2. Confidence intervals resample clips and their texts (`intervals`), because samples of one prompt, and prompts of one
text or clip, are not independent.
3. A quantity without values per sample (FID) has no interval.
4. A kinematic figure is better where it is nearer to that of real motions of the same texts: a motion that slides or
shakes less than people do is no better than one that does so more.

Legend: P prompts, S samples per prompt.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.data.prompts import save_prompts
from motions.metrics import frechet_distance
from motions.skeleton.skeletons import Skeleton
from rewards.declared.declaration import Term
from rewards.evaluation.intervals import Resamples, bounds
from rewards.evaluation.kinematics import KINEMATICS
from rewards.evaluation.text import Evaluation, metre_joints

logger = logging.getLogger(__name__)

MEASURES = {
    "total": Term("Mixed reward that training maximised"),
    "judge_matching": Term("Cosine of text and motion for a judge that never was a reward"),
    "second_judge": Term("The same for a judge of another kind: statistics of motions, words and their letters"),
    "fid": Term("Distance to held-out real windows in the judge's embedding", "lower"),
    "second_fid": Term("Distance to held-out real windows in the second judge's embedding", "lower"),
    **KINEMATICS,
    "diversity_m": Term("Mean joint distance between samples of one prompt, metres", "neutral"),
}
"""What an evaluation measures beside the terms of the rewards, in the order of the report."""


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity before and after, with the paired 95 % interval of its change if there is one."""

    name: str
    before: float
    after: float
    interval: tuple[float, float] | None
    term: Term
    """What it means."""
    real: float | None = None
    """Value of real motions of the same prompts."""
    nearer: tuple[float, float] | None = None
    """Interval of how much nearer to `real` it came, where nearer is better."""

    @property
    def difference(self) -> float:
        """Value after minus value before."""
        return self.after - self.before

    @property
    def ratio(self) -> float:
        """Value after divided by value before."""
        return self.after / self.before

    def row(self) -> dict[str, Any]:
        """The quantity's row in `evaluation.json` and in the report."""
        interval = None if self.interval is None else list(self.interval)
        return {
            "name": self.name,
            "meaning": self.term.meaning,
            "before": self.before,
            "after": self.after,
            "interval": interval,
            "better": self.term.better if self.nearer is None else "nearer",
            "real": self.real,
            "nearer": None if self.nearer is None else list(self.nearer),
        }


def compare(
    before: Evaluation,
    after: Evaluation,
    terms: Mapping[str, Term],
    real_embeddings: np.ndarray | None = None,
    *,
    real: Mapping[str, float] | None = None,
    clips: Sequence[str | None] | None = None,
) -> list[Change]:
    """Compares every quantity of two evaluations, the mixed reward first.

    Args:
        terms: what the terms of the rewards mean, in the order of the report (`rewards.scorers.reward_terms`).
        real_embeddings: [M, d] of held-out real windows, for the FID.
        real: figures of real motions of the same prompts.
        clips: [P] recordings that the prompts describe, for the intervals.

    Raises:
        ValueError: the evaluations have different prompts or numbers of samples.
    """
    if before.prompts != after.prompts or before.terms["total"].shape != after.terms["total"].shape:
        raise ValueError("only evaluations of the same prompts and samples can be compared")
    known, real = {**MEASURES, **terms}, real or {}
    resamples = Resamples([prompt.text for prompt in before.prompts], clips)
    pairs = {name: (values, after.terms[name]) for name, values in before.terms.items()}
    pairs["diversity_m"] = before.diversity_m[:, None], after.diversity_m[:, None]
    changes = []
    for name, (old, new) in pairs.items():
        term, aim = known.get(name, Term(f"Reward term {name}")), real.get(name)
        nearer = interval = None
        # Resamples of a single text are all alike: they say nothing of other texts.
        several = resamples.num_texts > 1
        if several and aim is not None and term.like_real:
            nearer = bounds(np.abs(resamples.means(old) - aim) - np.abs(resamples.means(new) - aim))
        if several:
            interval = resamples.interval(new.astype(np.float64) - old)
        changes.append(Change(name, float(old.mean()), float(new.mean()), interval, term, aim, nearer))
    fids = [fid(evaluation, real_embeddings) for evaluation in (before, after)]
    if fids[0] is not None and fids[1] is not None:
        name = before.distance
        changes.append(Change(name, fids[0], fids[1], None, known[name], real.get(name)))
    order = list(known)
    return sorted(changes, key=lambda change: order.index(change.name) if change.name in order else len(order))


def fid(evaluation: Evaluation, real_embeddings: np.ndarray | None) -> float | None:
    """FID of an evaluation's segments to real windows [M, d]; None without a judge, or for fewer than two segments."""
    generated = evaluation.segment_embeddings
    if real_embeddings is None or generated is None or min(len(generated), len(real_embeddings)) < 2:
        return None
    return frechet_distance(real_embeddings, generated)


def figures(evaluation: Evaluation, real_embeddings: np.ndarray | None = None) -> dict[str, float]:
    """Means of every quantity of an evaluation by name; the diversity only where a prompt has several samples."""
    found = {name: float(values.mean()) for name, values in evaluation.terms.items()}
    if evaluation.terms["total"].shape[1] > 1:
        found["diversity_m"] = float(evaluation.diversity_m.mean())
    distance = fid(evaluation, real_embeddings)
    return found if distance is None else {**found, evaluation.distance: distance}


def shared_places(before: Collection[int], after: Collection[int]) -> list[int]:
    """Indices of the prompts that have a group both before and after, in order. With `on_reward_error drop_group` a
    reward may have failed on one side only, and the prompt cannot be paired.

    Raises:
        UserError: there is no such prompt.
    """
    places = sorted(set(before) & set(after))
    if not places:
        raise UserError(
            f"no held-out prompt has rewards both before and after: {len(before)} groups are left before, {len(after)} "
            "after (on_reward_error is drop_group)"
        )
    if lost := len(set(before) | set(after)) - len(places):
        logger.warning("%d held-out prompts lost their group before or after, and are not compared", lost)
    return places


def write_evaluation(
    run_dir: Path,
    before: Evaluation,
    after: Evaluation,
    changes: Sequence[Change],
    skeleton: Skeleton,
    sampler: str,
    further: Mapping[str, Any] | None = None,
) -> None:
    """Writes `evaluation.json`, `samples/before.npz`, `samples/after.npz` and `samples/prompts.jsonl`.

    Args:
        sampler: description of the sampling settings, for the report.
        further: more entries of `evaluation.json`, such as those of `breakdown`.
    """
    samples = run_dir / "samples"
    samples.mkdir(exist_ok=True)
    save_prompts(samples / "prompts.jsonl", list(before.prompts))
    for name, evaluation in (("before", before), ("after", after)):
        _save_samples(samples / f"{name}.npz", evaluation, skeleton)
    document = {
        "kind": "text",
        "num_prompts": len(before.prompts),
        "num_seeds": before.terms["total"].shape[1],
        "sampler": sampler,
        "skeleton": skeleton.name,
        "within_group_std": before.within_group_std,
        "rows": [change.row() for change in changes],
        **(further or {}),
    }
    with atomic_write(run_dir / "evaluation.json") as file:
        file.write(json.dumps(document, indent=2, allow_nan=False).encode())


def _save_samples(path: Path, evaluation: Evaluation, skeleton: Skeleton) -> None:
    joints = [metre_joints(group, skeleton) for group in evaluation.groups]
    num_frames = max(motions.shape[1] for motions in joints)
    padded = [np.pad(m, ((0, 0), (0, num_frames - m.shape[1]), (0, 0), (0, 0)), mode="edge") for m in joints]
    prompts, samples = evaluation.terms["total"].shape
    arrays = {
        "joints": np.concatenate(padded).astype(np.float32),
        "lengths": np.concatenate([group.lengths for group in evaluation.groups]),
        "prompt_index": np.repeat(np.arange(prompts), samples),
        "sample_index": np.tile(np.arange(samples), prompts),
    }
    terms = {f"terms/{name}": values.reshape(-1) for name, values in evaluation.terms.items()}
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays, **terms)
