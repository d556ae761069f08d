"""What `jobs.train_critic` does: pairs, network, the loop of cluster/run/training_loop.py, held-out figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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
from jobs.critic.pairs import Prepared, prepare
from jobs.critic.settings import NEW, CriticConfig
from jobs.report import write_training_report
from jobs.report.document import Chart, Series
from jobs.report.from_training import metric_charts
from jobs.report.records import read_json
from learners.supervised.critic import CriticLearner, PairBatch, calibration, pair_figures
from learners.supervised.critic_pairs import Part
from motions.base.atomic import atomic_write
from motions.base.memory import require_memory, transformer_parameters
from rewards.critic.checkpoints import save_critic
from rewards.critic.network import CriticConfig as Sizes
from rewards.critic.network import MotionCritic
from rewards.critic.scorer import load_critic_of, window_of
from rewards.critic.scoring import score_windows
from rewards.declared.critic import CriticModelSettings
from rollouts.devices import resolve_device

CURVES = ("loss", "accuracy", "grad_norm")


def run(config: CriticConfig) -> None:
    """Trains a critic and writes its folder."""
    pairs = prepare(config)
    run = config.run
    with joined_cluster(), open_run(run, config, pairs.fingerprint, run.num_steps, shown=CURVES) as opened:
        learner = CriticLearner(build_critic(config), config.critic, run.num_steps, run.seed)
        held_out = HeldOut(learner, pairs.held_out, agreement_at_first(learner, pairs))
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
    for line in agreement_lines(held_out.document):
        print(line)
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


def build_critic(config: CriticConfig) -> MotionCritic:
    """The critic to train on the configuration's device: that of a file, or a new one, whose weights are a function of
    the seed.

    Raises:
        UserError: a file that is no critic, or whose longest clip is shorter than `clip_frames`.
    """
    own, given = config.critic, config.start.critic_checkpoint_path
    device = resolve_device(config.run.device)
    if given not in (None, NEW):
        loaded = load_critic_of(CriticModelSettings(critic_checkpoint_path=given))
        window_of(loaded, CriticModelSettings(critic_window=own.clip_frames))
        if own.clip_frames != loaded.clip_frames:
            print(
                f"note: clip_frames is {own.clip_frames}; the critic {loaded.source} learned from {loaded.clip_frames}",
                file=sys.stderr,
            )
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

    def __init__(
        self, learner: CriticLearner, pairs: Mapping[Part, Mapping[str, PairBatch]], choices: Mapping[str, float]
    ) -> None:
        self.figures: dict[str, float] = {}
        """Of the last call."""
        self.document: dict[str, Any] = {"kind": "critic"}
        """What `write` writes."""
        if choices:
            self.document["choices"] = dict(choices)
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
                self.document |= {"num_pairs": len(better), "calibration": bins}
        self.figures = figures
        self.document["figures"] = figures
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items() if not name.startswith("val"))
        # Above the progress bar, where there is one.
        with tqdm.external_write_mode():
            print(f"step {self._learner.num_steps}: {shown}", flush=True)
        return figures

    def write(self, folder: Path) -> None:
        """Writes `evaluation.json` with the last figures, if there are any."""
        if self.figures:
            with atomic_write(folder / "evaluation.json") as file:
                file.write(json.dumps(self.document, indent=1).encode())


def agreement_at_first(learner: CriticLearner, pairs: Prepared) -> dict[str, float]:
    """Numbers about a person's choices, and the shares of those that prefer a motion with which the critic agrees
    before it learns from them: of all, and of those of the test. Empty if the pairs are no choices."""
    if pairs.choices is None:
        return {}
    shares = {"agreed_before": pairs.choices.all(), "test_agreed_before": pairs.held_out["test"]["chosen"]}
    return {
        **pairs.agreement,
        **{name: pair_figures(*learner.scores(batch))["accuracy"] for name, batch in shares.items()},
    }


def agreement_lines(document: Mapping[str, Any]) -> list[str]:
    """How far a person's choices agree with the critic and with themselves, for reading; of `evaluation.json`."""
    choices = document.get("choices")
    if not choices:
        return []
    lines = [
        f"choices: {choices['answers']}, of which {choices['decided']} prefer a motion; the critic before agreed with "
        f"{choices['agreed_before']:.0%} of those"
    ]
    if choices["repeated"]:
        lines.append(f"asked again: {choices['repeated']}, the same answer to {choices['consistent']}")
    if figures := document.get("figures"):
        lines.append(
            f"held out: {document['num_pairs']}, the critic agrees with {figures['test/accuracy']:.0%}, before with "
            f"{choices['test_agreed_before']:.0%}"
        )
    return lines


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
