"""Compares the evaluation of a policy with that of an earlier one on the same prompts and seeds.

Choices:

1. Samples are paired: the same prompt and initial noise before and after.
2. Confidence intervals are bootstrapped over prompts, because samples of one prompt are not independent.
3. A quantity without values per sample (FID) has no interval.

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
from rewards.evaluation.text import Evaluation, metre_joints

logger = logging.getLogger(__name__)

NUM_RESAMPLES = 10_000

MEASURES = {
    "total": Term("Mixed reward that training maximised"),
    "judge_matching": Term("Cosine of text and motion for a judge that never was a reward"),
    "fid": Term("Distance to held-out real windows in the judge's embedding", "lower"),
    "joint_speed_mps": Term("Mean joint speed, metres per second: a frozen motion would fall", "neutral"),
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
            "better": self.term.better,
        }


def compare(
    before: Evaluation,
    after: Evaluation,
    terms: Mapping[str, Term],
    real_embeddings: np.ndarray | None = None,
) -> list[Change]:
    """Compares every quantity of two evaluations, the mixed reward first.

    Args:
        terms: what the terms of the rewards mean, in the order of the report (`rewards.scorers.reward_terms`).
        real_embeddings: [M, d] of held-out real windows, for the FID.

    Raises:
        ValueError: the evaluations have different prompts or numbers of samples.
    """
    if before.prompts != after.prompts or before.terms["total"].shape != after.terms["total"].shape:
        raise ValueError("only evaluations of the same prompts and samples can be compared")
    known = {**MEASURES, **terms}
    pairs = {name: (values, after.terms[name]) for name, values in before.terms.items()}
    pairs["diversity_m"] = before.diversity_m[:, None], after.diversity_m[:, None]
    changes = [_paired(name, *pair, known.get(name, Term(f"Reward term {name}"))) for name, pair in pairs.items()]
    generated = [evaluation.segment_embeddings for evaluation in (before, after)]
    if real_embeddings is not None:
        fids = [frechet_distance(real_embeddings, latents) for latents in generated if latents is not None]
        if len(fids) == 2:
            changes.append(Change("fid", fids[0], fids[1], None, known["fid"]))
    order = list(known)
    return sorted(changes, key=lambda change: order.index(change.name) if change.name in order else len(order))


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


def paired_interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences [P, S], resampling prompts.

    The percentile bootstrap of Efron (1979); `seed` fixes the resamples.
    """
    per_prompt = differences.mean(axis=1)
    draws = np.random.default_rng(seed).integers(0, len(per_prompt), (NUM_RESAMPLES, len(per_prompt)))
    low, high = np.percentile(per_prompt[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def write_evaluation(
    run_dir: Path,
    before: Evaluation,
    after: Evaluation,
    changes: Sequence[Change],
    skeleton: Skeleton,
    sampler: str,
) -> None:
    """Writes `evaluation.json`, `samples/before.npz`, `samples/after.npz` and `samples/prompts.jsonl`.

    Args:
        sampler: description of the sampling settings, for the report.
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
    }
    with atomic_write(run_dir / "evaluation.json") as file:
        file.write(json.dumps(document, indent=2, allow_nan=False).encode())


def _paired(name: str, before: np.ndarray, after: np.ndarray, term: Term) -> Change:
    return Change(name, float(before.mean()), float(after.mean()), paired_interval(after - before), term)


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
