"""What a reader of an evaluation must know: how it was made, and what its numbers do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.command_line import main as cli
from jobs.configs.data import MDM_DATASETS
from jobs.evaluation import draws
from jobs.evaluation.settings import EvaluateConfig
from motions.data.dataset import MotionDataset
from motions.data.prompts import Prompt
from motions.skeleton.skeletons import HUMANML3D, Skeleton
from rewards.evaluator.scorer import EvaluatorEmbedder
from rewards.evaluator.words import MAX_WORDS
from rewards.tmr.scorer import Embedder
from rollouts.messages import GroupMotions
from rollouts.one_action.policy import OneActionPolicy
from rollouts.policy import Policy

PUBLISHED_POOL = 32


def facts_of(
    config: EvaluateConfig,
    file: Path,
    policy: Policy,
    network: Embedder | EvaluatorEmbedder,
    replications: Sequence[draws.Replication],
) -> dict[str, Any]:
    """How the numbers were made, by name."""
    sampling, settings = config.sampling, config.protocol
    noise = f"{sampling.sampler}, eta {sampling.eta:g}" if settings.stochastic else "no noise after the first"
    way = f"{policy.num_steps} steps, {noise}, guidance {sampling.guidance_scale:g}"
    if isinstance(policy, OneActionPolicy):
        way = "one action"
    what = "composite prompts" if settings.use_composite_dataset else f"split {settings.eval_split}"
    return {
        "command": cli.command_of(config, "jobs.evaluate"),
        "model": str(file),
        "data": f"{config.data.dataset}, {what}",
        "network": str(network.report),
        "sampler": way,
        "replications": len(replications),
        "generated_per_replication": len(replications[0].samples),
        "pool_size": settings.pool_size,
        "seed": settings.seed,
    }


def notes_of(
    config: EvaluateConfig,
    dataset: MotionDataset | None,
    network: Embedder | EvaluatorEmbedder,
    prompts: Sequence[Prompt],
    real: Mapping[Prompt, GroupMotions],
    num_composites: int,
) -> list[str]:
    """What the numbers depend on beside the policy, one sentence each.

    Args:
        prompts: of one replication.
        real: joined real motions of composites.
    """
    notes = []
    settings = config.protocol
    if config.chosen_network == "tmr":
        notes.append(
            "Matching and R-precision compare unit vectors, because a TMR is trained by the cosine; FID and diversity "
            "are of its embeddings as they are"
        )
    texts = [part.text for prompt in prompts for part in prompt.segments]
    if settings.use_composite_dataset:
        notes.append("Matching and R-precision are of segments and their own texts; FID and diversity of whole motions")
        if dataset is not None:
            notes.append(
                "FID against single motions is against a mismatched ground truth: composites are other motions. "
                "FID itself is against real motions that were joined"
            )
            notes.append(f"real motions of {len(real)} of {num_composites} composites were joined from the split")
    if isinstance(network, EvaluatorEmbedder):
        cut = sum(len(network.tokens(text)) > MAX_WORDS for text in texts)
        if cut:
            notes.append(
                f"{cut} of {len(texts)} texts have more than {MAX_WORDS} words; the evaluator reads the first ones, as "
                "in published evaluations"
            )
    if len(set(texts)) < len(texts):
        notes.append(
            f"{len(texts)} texts of a replication are {len(set(texts))} different ones: R-precision counts a motion of "
            "an equal text as wrong"
        )
    if settings.pool_size != PUBLISHED_POOL:
        notes.append(f"R-precision is in pools of {settings.pool_size}; published figures have {PUBLISHED_POOL}")
    if dataset is not None and (seen := dataset.seen_in_training(settings.eval_split)) is not None:
        notes.append(seen)
    return notes


def comparable(config: EvaluateConfig, skeleton: Skeleton) -> bool:
    """Whether the published figures were made with the same network, data and pools."""
    return (
        config.chosen_network == "mdm"
        and config.data.dataset == "humanml"
        and skeleton == HUMANML3D
        and config.protocol.pool_size == PUBLISHED_POOL
        and config.protocol.eval_split == "test"
        and not config.protocol.use_composite_dataset
    )


def stem_of(config: EvaluateConfig, file: Path) -> str:
    """The name that MDM's evaluation gives its log."""
    data = config.data.dataset if config.data.dataset in MDM_DATASETS else Path(config.data.dataset).name
    scale = config.sampling.guidance_scale
    guidance = "" if scale == 1.0 else f"_gscale{scale:g}"
    step = file.stem.removeprefix("model")
    composites = "_composite" if config.protocol.use_composite_dataset else ""
    return f"eval_{data}_{file.parent.name}_{step.lstrip('_')}{guidance}_{config.protocol.eval_mode}{composites}"
