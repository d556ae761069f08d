"""How good a policy is on held-out prompts: fixed seeds, the reward's terms, and an independent judge.

Choices:

1. A policy is judged by its deterministic sampler (no stochastic steps, own starting noise for every sample), so two
   policies get the same noise for the same (prompt, sample) and their differences are paired.
2. Beside the reward's own terms there is a judge, a retrieval model that never was a reward. Its matching score is the
   mean over segments of cos(text, motion of the segment); FID is taken between its embeddings of generated segments
   and of held-out real windows.

Legend: P prompts, S samples per prompt, T frames, J joints, d judge's latent width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from motions.prompts import Prompt
    from motions.skeletons import Skeleton
    from rewards.scorers import Scorer
    from rewards.semantic import Embedder
    from rewards.settings import RewardSettings
    from rollouts.messages import GroupMotions
    from rollouts.policy import DiffusionPolicy
    from rollouts.text_encoders import TextEncoder


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured on one policy.

    Example:
        Evaluation(prompts, groups, {"total": np.ones((P, S), np.float32)}, diversity_m, segment_embeddings)
    """

    prompts: tuple[Prompt, ...]
    groups: tuple[GroupMotions, ...]
    """One group of S motions per prompt."""
    terms: dict[str, np.ndarray]
    """name -> [P, S]: `total`, the reward's terms, `judge_matching` (with a judge) and `joint_speed_mps`."""
    diversity_m: np.ndarray
    """[P] mean distance of root-relative joints over pairs of samples of a prompt, metres."""
    segment_embeddings: np.ndarray | None
    """[P * S * segments, d] the judge's embeddings of the generated segments."""

    @property
    def within_group_std(self) -> float:
        """Mean over prompts of the standard deviation of the total reward over a prompt's samples."""
        return float(self.terms["total"].std(axis=1).mean())


def evaluate(
    policy: DiffusionPolicy,
    encoder: TextEncoder,
    prompts: Sequence[Prompt],
    scorers: Mapping[str, Scorer],
    settings: RewardSettings,
    judge: Embedder | None,
    *,
    num_samples: int,
    seed: int,
) -> Evaluation:
    """Samples every prompt `num_samples` times with the deterministic sampler and scores the motions.

    Args:
        encoder: the policy's text encoder.
        scorers: the rewards by name, mixed as `settings` says.
        judge: embeds texts and motions; never one of the rewards.
        seed: keys the starting noise, with the prompt's place and the sample's.

    Raises:
        ValueError: there is no prompt.
        RewardError: a reward fails or is not finite.
    """
    from rewards.mixing import combine

    if not prompts:
        raise ValueError("evaluation needs at least one prompt")
    groups = generate(policy, encoder, prompts, num_samples, seed)
    mixed = [
        combine([scorer.score(group) for scorer in scorers.values()], settings, group.prompt.text) for group in groups
    ]
    # A term that only some prompts have (logic accuracy needs segments) has no mean over prompts.
    shared = [name for name in mixed[0].terms if all(name in rewards.terms for rewards in mixed)]
    terms = {name: np.stack([rewards.terms[name] for rewards in mixed]) for name in shared}
    terms["total"] = np.stack([rewards.total for rewards in mixed])
    joints = [metre_joints(group, policy.skeleton) for group in groups]
    pairs = [(motions, group.lengths) for motions, group in zip(joints, groups, strict=True)]
    terms["joint_speed_mps"] = np.stack([joint_speed_mps(*pair, policy.skeleton.fps) for pair in pairs])
    embeddings = None
    if judge is not None:
        scores = [judge_group(judge, group) for group in groups]
        terms["judge_matching"] = np.stack([matching for matching, _ in scores])
        embeddings = np.concatenate([latents for _, latents in scores])
    diversity = np.array([group_diversity_m(*pair) for pair in pairs])
    return Evaluation(tuple(prompts), tuple(groups), terms, diversity, embeddings)


def judge_group(judge: Embedder, group: GroupMotions) -> tuple[np.ndarray, np.ndarray]:
    """The judge's matching score of each motion [S], and its embeddings of all their segments [S * segments, d]."""
    texts = judge.embed_texts([segment.text for segment in group.prompt.segments])
    clips = [
        motion[start : min(end, int(length))]
        for motion, length in zip(group.features, group.lengths, strict=True)
        for start, end in group.prompt.boundaries
    ]
    embeddings = judge.embed_motions(clips)
    latents = _unit(embeddings).reshape(len(group.lengths), len(texts), -1)
    return (latents * _unit(texts)).sum(-1).mean(-1), embeddings


def joint_speed_mps(joints: np.ndarray, lengths: np.ndarray, fps: float) -> np.ndarray:
    """Mean speed over joints and valid frames, metres per second: joints [S, T, J, 3] metres, lengths [S] -> [S]."""
    speeds = np.linalg.norm(np.diff(joints, axis=1), axis=-1).mean(axis=-1) * fps
    return np.array([row[: max(int(length) - 1, 1)].mean() for row, length in zip(speeds, lengths, strict=True)])


def group_diversity_m(joints: np.ndarray, lengths: np.ndarray) -> float:
    """Mean distance in metres between root-relative joints over all pairs of samples, in the frames both have.

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
    import torch

    from motions.features import recover_joints

    return recover_joints(torch.tensor(group.features), skeleton).numpy() * skeleton.metres_per_unit


def generate(
    policy: DiffusionPolicy, encoder: TextEncoder, prompts: Sequence[Prompt], num_samples: int, seed: int
) -> list[GroupMotions]:
    """`num_samples` motions of each prompt from the deterministic sampler, a function of policy, prompts and seed.

    Raises:
        RolloutError: a prompt without frames, or motions that are not finite.
        PromptTooLongError: a prompt is over the text encoder's limit.
    """
    from rollouts.groups import RolloutWorker
    from rollouts.messages import PolicyVersion, RolloutRequest, TextCondition

    worker = RolloutWorker(policy)
    version = PolicyVersion(0, policy.weights())
    pooled = encoder.encode_pooled([prompt.text for prompt in prompts])
    requests = [
        RolloutRequest(
            step=0,
            prompt_index=index,
            prompt=prompt,
            condition=TextCondition(values=pooled[index][None]),
            num_samples=num_samples,
            seed=seed,
            stochastic_steps=(),
            trained_steps=(),
            share_initial_noise=False,
            policy_version=0,
        )
        for index, prompt in enumerate(prompts)
    ]
    return [worker.run(request, version)[0] for request in requests]


def _unit(latents: np.ndarray) -> np.ndarray:
    return latents / np.linalg.norm(latents, axis=-1, keepdims=True)
