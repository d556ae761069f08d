"""What `jobs.train_critic` does: pairs, network, the loop of cluster/run/training_loop.py, held-out figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cluster.records.opening import inspect
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.critic.settings import CriticConfig
from jobs.report import write_training_report
from jobs.report.document import Chart, Series
from jobs.report.from_training import metric_charts
from jobs.report.records import read_json
from learners.supervised.critic import CriticLearner, PairBatch, calibration, pair_figures
from learners.supervised.critic_pairs import (
    ROUND_OF_LISTS,
    ROUND_OF_RECORDINGS,
    ListedPairs,
    Part,
    SyntheticPairs,
    part_of_group,
    read_pairs,
)
from motions.base.atomic import atomic_write
from motions.base.errors import UserError
from motions.base.memory import require_memory, transformer_parameters
from motions.data.dataset import load_dataset
from rewards.critic.checkpoints import save_critic
from rewards.critic.network import CriticConfig as Sizes
from rewards.critic.network import MotionCritic
from rewards.critic.scorer import load_critic_of, window_of
from rewards.critic.scoring import score_windows
from rewards.declared.critic import CriticModelSettings
from rollouts.devices import resolve_device

CURVES = ("loss", "accuracy", "grad_norm")
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


def run(config: CriticConfig) -> None:
    """Trains a critic and writes its folder."""
    pairs = prepare(config)
    run = config.run
    with joined_cluster(), open_run(run, config, pairs.fingerprint, run.num_steps, shown=CURVES) as opened:
        learner = CriticLearner(build_critic(config), config.critic, run.num_steps, run.seed)
        held_out = HeldOut(learner, pairs.held_out)
        training = BatchTraining(
            learner,
            run.num_steps,
            make_batch=pairs.make_batch,
            export=lambda folder: save_model(config, folder, learner, held_out, pairs.good),
        )
        train(opened, training, run.save_interval, curves=CURVES, evaluate=held_out)
        held_out.write(opened.path)
        report = write_training_report(
            opened.path,
            f"A critic, trained on {pairs.name}",
            ("loss", "accuracy"),
            lambda records: [*metric_charts(records), *calibration_chart(opened.path)],
        )
    print(f"report: {report}")
    print(f"critic in {run.save_dir}")


def plan(config: CriticConfig) -> None:
    """Reads the pairs, builds the network, and prints what would be trained."""
    pairs = prepare(config)
    opening = inspect(config.run, config=config)
    number = sum(parameter.numel() for parameter in build_critic(config).parameters())
    print(cli.settings_yaml(config))
    print(f"\nsave_dir {config.run.save_dir}: {opening}")
    print(pairs.described)
    print(f"network: {number / 1e6:.2f} M parameters")


def prepare(config: CriticConfig) -> Prepared:
    """The pairs that the options name.

    Raises:
        UserError: files that cannot be read, or nothing to train on.
    """
    return _synthetic(config) if config.data.pairs_path is None else _listed(config, config.data.pairs_path)


def _synthetic(config: CriticConfig) -> Prepared:
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    items = [item for split in ("train", "test") if split in dataset.splits for item in dataset.items(split)]
    recordings = sorted({item.source for item in items})
    part = {name: part_of_group(place, ROUND_OF_RECORDINGS) for place, name in enumerate(recordings)}
    if len(recordings) < ROUND_OF_RECORDINGS:
        raise UserError(
            f"dataset {dataset.name} has motions of {len(recordings)} recordings; training, validation and test need "
            f"{ROUND_OF_RECORDINGS} or more, because none is in two of them"
        )
    least, most = config.critic.min_crop_frames, config.critic.clip_frames
    sources = {
        name: SyntheticPairs([item for item in items if part[item.source] == name], dataset.skeleton, least, most)
        for name in SYNTHETIC_PARTS
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
    size, seed = config.critic.batch_size, config.run.seed
    counts = ", ".join(f"{len(pairs)} {name}" for name, pairs in parts.items())
    return Prepared(
        name=path.name,
        fingerprint=digest.hexdigest(),
        make_batch=lambda step: train_pairs.sample(np.random.default_rng([seed, step]), size),
        held_out={name: {"listed": parts[name].all()} for name in SYNTHETIC_PARTS if name != "train"},
        good=train_pairs.better(_NUM_TYPICAL),
        described=f"pairs of {path}: {counts}",
    )


def build_critic(config: CriticConfig) -> MotionCritic:
    """The critic to train on the configuration's device: that of a file, or a new one, whose weights are a function of
    the seed.

    Raises:
        UserError: a file that is no critic, or whose longest clip is shorter than `clip_frames`.
    """
    own, given = config.critic, config.start.critic_checkpoint_path
    device = resolve_device(config.run.device)
    if given is not None:
        loaded = load_critic_of(CriticModelSettings(critic_checkpoint_path=given))
        window_of(loaded, CriticModelSettings(critic_window=own.clip_frames))
        return loaded.critic.to(device)
    width, depth = own.critic_dim_feat, own.critic_depth
    # Each layer has two streams of two transformer layers each; the score's first layer is the largest matrix.
    layers = 4 * depth * transformer_parameters(width, own.critic_mlp_ratio * width)
    require_memory(
        layers + 50 * own.critic_dim_rep**2,
        f"critic_dim_feat {width}, critic_dim_rep {own.critic_dim_rep}, critic_depth {depth}",
    )
    sizes = Sizes(
        dim_feat=width,
        dim_rep=own.critic_dim_rep,
        depth=depth,
        num_heads=own.critic_heads,
        mlp_ratio=own.critic_mlp_ratio,
        inputs=own.critic_inputs,
    )
    with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
        torch.manual_seed(config.run.seed)
        critic = MotionCritic(sizes)
    return critic.to(device)


class HeldOut:
    """Figures of held-out pairs, measured when it is called."""

    def __init__(self, learner: CriticLearner, pairs: Mapping[Part, Mapping[str, PairBatch]]) -> None:
        self.figures: dict[str, float] = {}
        """Of the last call."""
        self._document: dict[str, Any] = {}
        self._learner = learner
        self._pairs = pairs

    def __call__(self) -> dict[str, float]:
        """Measures, prints and returns the figures."""
        figures: dict[str, float] = {}
        for part, by_flaw in self._pairs.items():
            scores = {flaw: self._learner.scores(batch) for flaw, batch in by_flaw.items()}
            better, worse = (np.concatenate([both[place] for both in scores.values()]) for place in (0, 1))
            figures |= {f"{part}/{name}": value for name, value in pair_figures(better, worse).items()}
            if len(scores) > 1:
                figures |= {f"{part}_accuracy/{flaw}": pair_figures(*both)["accuracy"] for flaw, both in scores.items()}
            if part == "test":
                bins = [[one.confidence, one.right, one.num_pairs] for one in calibration(better, worse)]
                self._document = {"kind": "critic", "num_pairs": len(better), "calibration": bins}
        self.figures = figures
        self._document["figures"] = figures
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items() if not name.startswith("val"))
        # Above the progress bar, where there is one.
        with tqdm.external_write_mode():
            print(f"step {self._learner.num_steps}: {shown}", flush=True)
        return figures

    def write(self, folder: Path) -> None:
        """Writes `evaluation.json` with the last figures, if there are any."""
        if self.figures:
            with atomic_write(folder / "evaluation.json") as file:
                file.write(json.dumps(self._document, indent=1).encode())


def calibration_chart(folder: Path) -> list[Chart]:
    """How often the critic is right by how sure it is, as `evaluation.json` says it."""
    bins = read_json(folder / "evaluation.json").get("calibration", [])
    if not bins:
        return []
    note = (
        "Pairs of the test in groups of equal number: the probability that the critic gave to the motion of the higher "
        "score, and how often that was the better one. On the diagonal it is as sure as it should be."
    )
    points = [(confidence, right) for confidence, right, _ in bins]
    diagonal = Series("as sure as right", [(0.5, 0.5), (1.0, 1.0)])
    measured = Series("share right", points, dots=True)
    return [Chart("Calibration", note, [measured, diagonal], x_label="probability")]


def save_model(
    config: CriticConfig, folder: Path, learner: CriticLearner, held_out: HeldOut, good: list[Tensor]
) -> None:
    """Writes the model's files, with the held-out figures and the median score of good motions."""
    learner.critic.eval()
    typical = float(
        np.median([scores.mean() for scores in score_windows(learner.critic, good, config.critic.clip_frames)])
    )
    provenance = {
        "command": cli.command_of(config, "jobs.train_critic"),
        "step": learner.num_steps,
        "seed": config.run.seed,
        "held_out": held_out.figures,
    }
    save_critic(
        folder,
        learner.critic,
        dtype=config.run.weights_dtype,
        typical_score=typical,
        clip_frames=config.critic.clip_frames,
        provenance=provenance,
    )
