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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.data.prompts import save_prompts
from motions.metrics import frechet_distance
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.text import Evaluation, metre_joints

logger = logging.getLogger(__name__)

NUM_RESAMPLES = 10_000
Better = Literal["higher", "lower", "neutral"]

MEANINGS: dict[str, tuple[str, Better]] = {
    "total": ("Mixed reward that training maximised", "higher"),
    "judge_matching": ("Cosine of text and motion for a judge that never was a reward", "higher"),
    "fid": ("Distance to held-out real windows in the judge's embedding", "lower"),
    "joint_speed_mps": ("Mean joint speed, metres per second: a frozen motion would fall", "neutral"),
    "diversity_m": ("Mean joint distance between samples of one prompt, metres", "neutral"),
    "semantic": ("Semantic reward R_sem", "higher"),
    "r_pos": ("Similarity of each segment and its own text", "higher"),
    "r_neg": ("Similarity of each segment and the other segments' texts, beyond the texts' own", "lower"),
    "margin_active": ("Share of segment pairs beyond that margin", "neutral"),
    "logic_accuracy": ("Share of segments whose nearest text is their own", "higher"),
    "physics": ("Physics reward R_phy", "higher"),
    "skate": ("Squared sliding speed of standing feet, (m/s)^2", "lower"),
    "jerk": ("Mean jerk in units of jerk_scale", "lower"),
    "skating_ratio": ("Share of frames with a sliding foot", "lower"),
    "speed_gate": ("Factor of R_phy against frozen motion", "neutral"),
    "contact_share": ("Share of frames a foot stands", "neutral"),
    "contact_denied": ("Share of standing feet that the motion denies", "lower"),
    "tracking": ("Tracking reward R_track", "higher"),
    "tracked_fraction": ("Share of the motion that a simulated humanoid follows", "higher"),
    "tracking_accuracy": ("Closeness of the humanoid to the motion, 0 to 1", "higher"),
    "tracking_fall": ("Share of motions that it loses", "lower"),
    "tracking_error_m": ("Its mean distance while it follows, metres", "lower"),
    "tracking_slip_mps": ("Mean speed of its feet on the ground, metres per second", "lower"),
    "tracking_assist": ("Share of the help at its root that was used", "lower"),
    "tracking_contact_f1": ("Agreement with the motion about which feet stand", "higher"),
    "tracking_penetration_m": ("Depth of the motion in the floor, metres", "lower"),
    "tracking_speed_gate": ("Factor of R_track against frozen motion", "neutral"),
    "tracking_failed": ("Share of motions that could not be simulated", "lower"),
}
"""Meaning of each quantity and the direction that is better; in the order of the report."""


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity before and after, with the paired 95 % interval of its change if there is one."""

    name: str
    before: float
    after: float
    interval: tuple[float, float] | None

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
        meaning, better = MEANINGS.get(self.name, (f"Reward term {self.name}", "higher"))
        interval = None if self.interval is None else list(self.interval)
        return {
            "name": self.name,
            "meaning": meaning,
            "before": self.before,
            "after": self.after,
            "interval": interval,
            "better": better,
        }


def compare(before: Evaluation, after: Evaluation, real_embeddings: np.ndarray | None = None) -> list[Change]:
    """Compares every quantity of two evaluations, the mixed reward first.

    Args:
        real_embeddings: [M, d] of held-out real windows, for the FID.

    Raises:
        ValueError: the evaluations have different prompts or numbers of samples.
    """
    if before.prompts != after.prompts or before.terms["total"].shape != after.terms["total"].shape:
        raise ValueError("only evaluations of the same prompts and samples can be compared")
    changes = [_paired(name, values, after.terms[name]) for name, values in before.terms.items()]
    changes.append(_paired("diversity_m", before.diversity_m[:, None], after.diversity_m[:, None]))
    generated = [evaluation.segment_embeddings for evaluation in (before, after)]
    if real_embeddings is not None:
        fids = [frechet_distance(real_embeddings, latents) for latents in generated if latents is not None]
        if len(fids) == 2:
            changes.append(Change("fid", fids[0], fids[1], None))
    order = list(MEANINGS)
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


def _paired(name: str, before: np.ndarray, after: np.ndarray) -> Change:
    return Change(name, float(before.mean()), float(after.mean()), paired_interval(after - before))


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
