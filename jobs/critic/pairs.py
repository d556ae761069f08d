"""Pairs for the training of a critic: synthetic ones, those of a list, and a person's choices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from jobs.critic.settings import CHOICES, CriticConfig
from learners.supervised.choices import read_choices
from learners.supervised.critic import PairBatch
from learners.supervised.critic_pairs import (
    ROUND_OF_LISTS,
    ROUND_OF_RECORDINGS,
    ListedPairs,
    Part,
    SyntheticPairs,
    read_pairs,
    split_recordings,
)
from motions.base.errors import UserError
from motions.data.dataset import load_dataset

SYNTHETIC_PARTS: tuple[Part, ...] = ("train", "validation", "test")
_NUM_TYPICAL = 64
"""Good motions whose median score is the typical one."""


@dataclass(frozen=True)
class Prepared:
    """Pairs for a training."""

    name: str
    """What the pairs are made of."""
    fingerprint: str
    """SHA-256 of the data."""
    make_batch: Callable[[int], PairBatch]
    """The batch of a step, counted from 0."""
    held_out: Mapping[Part, Mapping[str, PairBatch]]
    """Pairs of the validation and of the test, by flaw."""
    good: list[Tensor]
    """Good motions of the training part, [T_i, 25, 3]."""
    described: str
    choices: ListedPairs | None = None
    """All pairs that a person decided, if they are choices."""
    agreement: Mapping[str, int] = field(default_factory=dict)
    """Numbers about a person's choices, see `learners.supervised.choices`."""


def prepare(config: CriticConfig) -> Prepared:
    """The pairs that the options name.

    Raises:
        UserError: files that cannot be read, or nothing to train on.
    """
    path = config.data.pairs_path
    if path is None:
        return _synthetic(config)
    return _chosen(config, path) if path.suffix.lower() == CHOICES else _listed(config, path)


def _synthetic(config: CriticConfig) -> Prepared:
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    items = [item for split in ("train", "test") if split in dataset.splits for item in dataset.items(split)]
    recordings = {item.source for item in items}
    if len(recordings) < ROUND_OF_RECORDINGS:
        raise UserError(
            f"dataset {dataset.name} has motions of {len(recordings)} recordings; training, validation and test need "
            f"{ROUND_OF_RECORDINGS} or more, because none is in two of them"
        )
    least, most = config.critic.min_crop_frames, config.critic.clip_frames
    sources = {
        name: SyntheticPairs(some, dataset.skeleton, least, most) for name, some in split_recordings(items).items()
    }
    size, graded, seed = config.critic.batch_size, config.critic.graded_share, config.run.seed
    held_out: dict[Part, Mapping[str, PairBatch]] = {
        name: sources[name].held_out(np.random.default_rng([place, seed]), config.data.num_eval_pairs)
        for place, name in enumerate(SYNTHETIC_PARTS)
        if name != "train"
    }
    shown = "; ".join(f"{name}: {', '.join(source.sources)}" for name, source in sources.items())
    return Prepared(
        name=f"synthetic pairs of {dataset.name}",
        fingerprint=dataset.fingerprint,
        make_batch=lambda step: sources["train"].sample(np.random.default_rng([seed, step]), size, graded),
        held_out=held_out,
        good=sources["train"].clean(np.random.default_rng(seed), _NUM_TYPICAL),
        described=f"synthetic pairs from {len(items)} motions of {len(recordings)} recordings ({shown})",
    )


def _listed(config: CriticConfig, path: Path) -> Prepared:
    parts = read_pairs(path).split(ROUND_OF_LISTS)
    digest = hashlib.sha256(path.read_bytes())
    given = config.data.eval_pairs_path
    if given is not None:
        tested = read_pairs(given)
        parts = {"train": parts["train"].joined(parts["test"]), "validation": parts["validation"], "test": tested}
        digest.update(given.read_bytes())
    for name, pairs in parts.items():
        if not len(pairs):
            raise UserError(
                f"pairs_path {path}: no pair is left for the {name} part; pairs that share a motion are one group, of "
                f"{ROUND_OF_LISTS} groups one is for validation and one for the test"
            )
    train_pairs: ListedPairs = parts["train"]
    size, seed, clip = config.critic.batch_size, config.run.seed, config.critic.clip_frames
    counts = ", ".join(f"{len(pairs)} {name}" for name, pairs in parts.items())
    return Prepared(
        name=path.name,
        fingerprint=digest.hexdigest(),
        make_batch=lambda step: train_pairs.sample(np.random.default_rng([seed, step]), size, clip),
        held_out={name: {"listed": parts[name].all()} for name in SYNTHETIC_PARTS if name != "train"},
        good=train_pairs.better(_NUM_TYPICAL),
        described=f"pairs of {path}: {counts}",
    )


def _chosen(config: CriticConfig, path: Path) -> Prepared:
    choices = read_choices(path)
    pairs = ListedPairs(choices.pairs())
    groups = pairs.groups()
    apart = max(groups) + 1 >= ROUND_OF_LISTS
    if not apart and len(pairs) < ROUND_OF_LISTS:
        raise UserError(
            f"pairs_path {path}: {len(pairs)} choices prefer a motion; training, validation and test need "
            f"{ROUND_OF_LISTS} or more"
        )
    parts = pairs.parts(groups if apart else range(len(pairs)))
    digest = hashlib.sha256()
    for file in choices.files:
        digest.update(file.read_bytes())
    size, seed, clip = config.critic.batch_size, config.run.seed, config.critic.clip_frames
    counts = choices.agreement()
    shared = "" if apart else "; held-out pairs have motions that are also in others, so their figures flatter"
    return Prepared(
        name=path.name,
        fingerprint=digest.hexdigest(),
        make_batch=lambda step: parts["train"].sample(np.random.default_rng([seed, step]), size, clip),
        held_out={name: {"chosen": parts[name].all()} for name in SYNTHETIC_PARTS if name != "train"},
        good=parts["train"].better(_NUM_TYPICAL),
        described=(
            f"choices of {path}: {counts['answers']} answers, {counts['decided']} of which prefer a motion "
            f"({', '.join(f'{len(some)} {name}' for name, some in parts.items())}), {counts['equal']} equal, "
            f"{counts['skipped']} skipped{shared}"
        ),
        choices=pairs,
        agreement=counts,
    )
