"""Evaluation of a text-to-motion policy on held-out prompts: fixed seeds, reward terms, and an independent TMR.

Choices:

1. A policy is evaluated with its deterministic sampler (no stochastic steps, its own initial noise for every sample),
so two policies get the same noise for the same (prompt, sample) and their differences are paired.
2. Besides the reward's own terms there is a judge: a TMR that is never used as a reward. Its matching score is the mean
over segments of cos(text, motion of the segment); FID compares its embeddings of generated segments and of held-out
real windows. A second judge, which has neither a TMR's architecture nor its text encoder (`linear_judge`), scores the
same segments.
3. Kinematic figures (`kinematics`) stand beside the rewards, whatever their options.

Legend: P prompts, S samples per prompt, T frames, J joints, d judge's latent width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from motions.base.errors import UserError
from motions.data.prompts import Prompt
from motions.skeleton.features import recover_joints
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.evidence import PairEmbedder
from rewards.evaluation.kinematics import kinematic_figures
from rewards.messages import Mixed
from rewards.settings import BUILTIN_JUDGE_FOLDER, RewardSettings
from rewards.tmr.scorer import Embedder, load_embedder
from rollouts.messages import Boundaries, GroupMotions
from rollouts.settings import CheckpointSettings


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All measurements of one policy.

    Example:
        Evaluation(prompts, groups, {"total": np.ones((P, S), np.float32)}, diversity_m, segment_embeddings)
    """

    prompts: tuple[Prompt, ...]
    groups: tuple[GroupMotions, ...]
    """One group of S motions per prompt."""
    terms: dict[str, np.ndarray]
    """name -> [P, S]: `total`, the reward's terms, `judge_matching` and `second_judge` (with such judges), and those of
    `kinematics.KINEMATICS`."""
    diversity_m: np.ndarray
    """[P] mean distance of root-relative joints over pairs of samples of a prompt, metres."""
    segment_embeddings: np.ndarray | None
    """[P * S * segments, d] the judge's embeddings of the generated segments; without one the second judge's."""
    distance: Literal["fid", "second_fid"] = "fid"
    """Name of the Frechet distance in the space of `segment_embeddings`."""

    @property
    def within_group_std(self) -> float | None:
        """Mean over prompts of the standard deviation of the total reward over a prompt's samples; None for S = 1.

        The divisor is S - 1: S would give 13 % too little for four samples.
        """
        total = self.terms["total"]
        return float(total.std(axis=1, ddof=1).mean()) if total.shape[1] > 1 else None

    def of(self, places: Sequence[int]) -> Evaluation:
        """The evaluation of some of the prompts."""
        rows = list(places)
        embeddings = self.segment_embeddings
        if embeddings is not None:
            counts = [len(group.lengths) * len(group.prompt.segments) for group in self.groups]
            parts = np.split(embeddings, np.cumsum(counts)[:-1])
            embeddings = np.concatenate([parts[place] for place in rows])
        return Evaluation(
            tuple(self.prompts[place] for place in rows),
            tuple(self.groups[place] for place in rows),
            {name: values[rows] for name, values in self.terms.items()},
            self.diversity_m[rows],
            embeddings,
            self.distance,
        )

    def first_samples(self, count: int, skeleton: Skeleton) -> Evaluation:
        """The evaluation of the first samples of every prompt; all of them where there are no more."""
        if count >= self.terms["total"].shape[1]:
            return self
        groups = tuple(
            replace(group, features=group.features[:count], lengths=group.lengths[:count]) for group in self.groups
        )
        embeddings = self.segment_embeddings
        if embeddings is not None:
            parts = [(len(group.lengths), len(group.prompt.segments)) for group in self.groups]
            ends = np.cumsum([samples * segments for samples, segments in parts])[:-1]
            rows = zip(np.split(embeddings, ends), parts, strict=True)
            embeddings = np.concatenate([own[: count * segments] for own, (_, segments) in rows])
        diversity = np.array([group_diversity_m(metre_joints(group, skeleton), group.lengths) for group in groups])
        terms = {name: values[:, :count] for name, values in self.terms.items()}
        return Evaluation(self.prompts, groups, terms, diversity, embeddings, self.distance)


def measure(
    groups: Sequence[GroupMotions],
    rewards: Sequence[Mixed],
    skeleton: Skeleton,
    judge: Embedder | None,
    second_judge: PairEmbedder | None = None,
) -> Evaluation:
    """Evaluates the motions of P prompts and their rewards.

    Raises:
        ValueError: there is no group.
    """
    if not groups:
        raise ValueError("evaluation needs at least one prompt")
    # A term that only some prompts have has no mean over prompts; the physics reward's joint speed is that of below.
    shared = [name for name in rewards[0].terms if all(name in mixed.terms for mixed in rewards)]
    shared = [name for name in shared if name != "joint_speed"]
    terms = {name: np.stack([mixed.terms[name] for mixed in rewards]) for name in shared}
    terms["total"] = np.stack([mixed.total for mixed in rewards])
    measured = [beside_rewards(group, skeleton, judge, second_judge) for group in groups]
    terms |= {name: np.stack([found.terms[name] for found in measured]) for name in measured[0].terms}
    blind = judge is None and second_judge is None
    embeddings = None if blind else np.concatenate([found.embeddings for found in measured])
    diversity = np.array([group_diversity_m(metre_joints(group, skeleton), group.lengths) for group in groups])
    prompts = tuple(group.prompt for group in groups)
    distance = "second_fid" if judge is None else "fid"
    return Evaluation(prompts, tuple(groups), terms, diversity, embeddings, distance)


@dataclass(frozen=True, slots=True)
class BesideRewards:
    """What is measured of one group beside the rewards."""

    terms: dict[str, np.ndarray]
    """name -> [S]."""
    embeddings: np.ndarray
    """[S * segments, d] of the judge, or of the second one where there is no other; [0, 0] without any."""


def beside_rewards(
    group: GroupMotions, skeleton: Skeleton, judge: Embedder | None, second_judge: PairEmbedder | None
) -> BesideRewards:
    """Kinematic figures of a group's motions, and the scores of both judges as far as there are any."""
    terms = kinematic_figures(metre_joints(group, skeleton), group.lengths, skeleton)
    embeddings = np.zeros((0, 0))
    if judge is not None:
        terms["judge_matching"], embeddings = judge_group(judge, group)
    if second_judge is not None:
        terms["second_judge"], own = judge_group(second_judge, group)
        embeddings = own if judge is None else embeddings
    return BesideRewards(terms, embeddings)


def judge_group(judge: PairEmbedder, group: GroupMotions) -> tuple[np.ndarray, np.ndarray]:
    """The judge's matching score of each motion [S], and its embeddings of all segments [S * segments, d]."""
    texts = judge.embed_texts([segment.text for segment in group.prompt.segments])
    clips = [
        motion[start : min(end, int(length))]
        for motion, length in zip(group.features, group.lengths, strict=True)
        for start, end in group.prompt.boundaries
    ]
    embeddings = judge.embed_motions(clips)
    latents = _unit(embeddings).reshape(len(group.lengths), len(texts), -1)
    return (latents * _unit(texts)).sum(-1).mean(-1), embeddings


def border_jerk(joints: np.ndarray, boundaries: Boundaries, fps: float) -> np.ndarray:
    """Mean jerk over joints where one segment passes into the next: [S], m/s^3.

    The third differences that span a border are those of its last three frames before it.

    Args:
        joints: [S, T, J, 3] metres.
        boundaries: frames of two segments or more.
    """
    jerk = np.linalg.norm(np.diff(joints, n=3, axis=1), axis=-1).mean(axis=-1) * fps**3
    return np.mean([jerk[:, start - 3 : start].mean(axis=1) for start, _ in boundaries[1:]], axis=0)


def group_diversity_m(joints: np.ndarray, lengths: np.ndarray) -> float:
    """Mean distance in metres between root-relative joints over all pairs of samples, in the frames that both have.

    Args:
        joints: [S, T, J, 3] metres; joint 0 is the root.
        lengths: [S] valid frames.
    """
    relative = joints - joints[:, :, :1]
    distances = [
        np.linalg.norm(relative[i, :common] - relative[j, :common], axis=-1).mean()
        for i in range(len(joints))
        for j in range(i)
        if (common := int(min(lengths[i], lengths[j]))) > 0
    ]
    return float(np.mean(distances)) if distances else 0.0


def metre_joints(group: GroupMotions, skeleton: Skeleton) -> np.ndarray:
    """Joint positions [S, T, J, 3] of a group in metres, y up."""
    return recover_joints(torch.tensor(group.features), skeleton).numpy() * skeleton.metres_per_unit


def load_judge(
    path: str,
    skeleton: Skeleton,
    texts: CheckpointSettings | None = None,
    text_model: str | None = None,
    device: str = "cpu",
) -> Embedder | None:
    """The judge that `judge_path` selects: `builtin`, the folder or file of a TMR, or `none`.

    Args:
        skeleton: skeleton of the motions.
        text_model: name of its text encoder; by default what its config.json says.
        texts: options of the text encoder, as in `rewards.tmr.scorer.load_embedder`.

    Raises:
        UserError: the files (see `rewards.tmr.checkpoints.load_tmr`), or it was trained on features of another
            skeleton.
    """
    if path == "none":
        return None
    folder = str(BUILTIN_JUDGE_FOLDER) if path == "builtin" else path
    try:
        options = {"tmr_checkpoint_path": folder, "tmr_text_model": text_model, "reward_device": device}
        judge = load_embedder(RewardSettings.of(options), texts)
        judge.check_skeleton(skeleton)
    except ValueError as error:
        raise UserError(f"judge_path {path}: {error}") from error
    return judge


def embed_clips(judge: PairEmbedder, clips: Sequence[np.ndarray], chunk: int = 64) -> np.ndarray:
    """The judge's embeddings [N, d] of motions [T_i, D] in physical units."""
    chunks = [list(clips[start : start + chunk]) for start in range(0, len(clips), chunk)]
    return np.concatenate([judge.embed_motions(part) for part in chunks])


def _unit(latents: np.ndarray) -> np.ndarray:
    return latents / np.linalg.norm(latents, axis=-1, keepdims=True)
