"""What `jobs.train_retrieval` does: data, network, the loop of cluster/run/training_loop.py, held-out figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.configs.retrieval import RetrievalConfig
from jobs.report import write_training_report
from jobs.text.training_folder import describe_training
from learners.supervised.retrieval import RetrievalBatch, RetrievalLearner
from learners.supervised.retrieval_data import RetrievalData
from motions.base.atomic import atomic_write
from motions.base.memory import require_memory, transformer_parameters
from motions.data.dataset import MotionDataset, load_dataset
from rewards.tmr.checkpoints import save_tmr
from rewards.tmr.network import TMR, TMRConfig
from rollouts.devices import resolve_device
from rollouts.text.encoders import TextEncoder, load_new_text_encoder

CURVES = ("loss", "contrastive", "recons", "grad_norm")
SHOWN = ("t2m/R01", "t2m/R03", "m2t/R01", "m2t/R03", "cosine_right", "cosine_wrong")
"""Held-out figures that are printed; all of them are kept."""


def run(config: RetrievalConfig) -> None:
    """Trains a TMR and writes its folder."""
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    encoder = load_checked_encoder(config, dataset)
    run = config.run
    with joined_cluster(), open_run(run, config, dataset.fingerprint, run.num_steps, shown=CURVES) as opened:
        learner = RetrievalLearner(build_tmr(config, dataset, encoder), config.retrieval, run.num_steps, run.seed)
        data = pairs_of(config, dataset, config.data.captions, encoder)
        held_out = None
        if "test" in dataset.splits:
            test = pairs_of(config, dataset, "test", encoder)
            held_out = HeldOut(learner, test.pairs(np.random.default_rng(run.seed)))
        training = BatchTraining(
            learner,
            run.num_steps,
            make_batch=lambda step: data.sample(np.random.default_rng([run.seed, step])),
            export=lambda folder: save_model(config, folder, learner, held_out),
        )
        train(opened, training, run.save_interval, curves=CURVES, evaluate=held_out)
        if held_out is not None and held_out.figures:
            held_out.write(opened.path)
        report = write_training_report(opened.path, f"A TMR, trained on {dataset.name}", CURVES)
    print(f"report: {report}")
    print(f"TMR in {run.save_dir}: python -m jobs.grpo --tmr_checkpoint_path {run.save_dir} ...")


def plan(config: RetrievalConfig) -> None:
    """Loads data and text encoder, builds the network, and prints what would be trained."""
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    encoder = load_checked_encoder(config, dataset)
    print(describe_training(config, config.run, dataset, build_tmr(config, dataset, encoder)))


def pairs_of(config: RetrievalConfig, dataset: MotionDataset, split: str, encoder: TextEncoder) -> RetrievalData:
    """The motions and captions of a split."""
    items, max_frames = dataset.items(split), config.data.max_frames
    return RetrievalData(items, encoder, config.retrieval, dataset.normalizer, max_frames)


def load_checked_encoder(config: RetrievalConfig, dataset: MotionDataset) -> TextEncoder:
    """The text encoder; says where nothing is held out.

    Raises:
        UserError: it has no sentence embeddings, which tell captions that mean the same, the data lacks the split of
            `captions`, or a caption is over the encoder's limit.
    """
    encoder = load_new_text_encoder(config.text)
    held_out = dataset.items("test") if "test" in dataset.splits else ()
    if not held_out:
        print(f"dataset {dataset.name} has no test split: retrieval will not be measured")
    elif (seen := dataset.seen_in_training("test")) is not None:
        print(f"dataset {dataset.name}: {seen}")
    items = (*dataset.items(config.data.captions), *held_out)
    encoder.check_texts([caption for item in items for caption in item.captions])
    return encoder


def build_tmr(config: RetrievalConfig, dataset: MotionDataset, encoder: TextEncoder) -> TMR:
    """A new TMR on the configuration's device; weights are a function of the seed."""
    options = config.retrieval
    width, inner, layers = options.tmr_latent_dim, options.tmr_ff_size, options.tmr_layers
    # Two encoders and a decoder.
    require_memory(
        3 * layers * transformer_parameters(width, inner),
        f"tmr_latent_dim {width}, tmr_ff_size {inner}, tmr_layers {layers}",
    )
    sizes = TMRConfig(
        num_features=dataset.skeleton.num_features,
        text_dim=encoder.dim,
        latent_dim=options.tmr_latent_dim,
        ff_size=options.tmr_ff_size,
        num_layers=options.tmr_layers,
        num_heads=options.tmr_heads,
        dropout=options.tmr_dropout,
        fps=dataset.skeleton.fps,
    )
    with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
        torch.manual_seed(config.run.seed)
        tmr = TMR(
            sizes,
            dataset.normalizer,
            encoder.name,
            text_encoder_fingerprint=encoder.fingerprint,
            with_decoder=options.lambda_recons > 0,
        )
    return tmr.to(resolve_device(config.run.device))


class HeldOut:
    """Retrieval on held-out pairs, measured when it is called."""

    def __init__(self, learner: RetrievalLearner, pairs: RetrievalBatch) -> None:
        self.num_pairs = len(pairs.lengths)
        self.figures: dict[str, float] = {}
        """Of the last call."""
        self._learner = learner
        self._pairs = pairs

    def __call__(self) -> dict[str, float]:
        """Measures, prints and returns the figures."""
        self.figures = self._learner.evaluate(self._pairs)
        shown = "  ".join(f"{name} {self.figures[name]:.3g}" for name in SHOWN)
        # Above the progress bar, where there is one.
        with tqdm.external_write_mode():
            print(f"step {self._learner.num_steps}, {self.num_pairs} held-out pairs: {shown}", flush=True)
        return self.figures

    def write(self, folder: Path) -> None:
        """Writes `evaluation.json` with the last figures."""
        document = {"kind": "retrieval", "num_pairs": self.num_pairs, "figures": self.figures}
        with atomic_write(folder / "evaluation.json") as file:
            file.write(json.dumps(document, indent=1).encode())


def save_model(config: RetrievalConfig, folder: Path, learner: RetrievalLearner, held_out: HeldOut | None) -> None:
    """Writes the model's files, with the held-out figures if there are any."""
    provenance = {
        "command": cli.command_of(config, "jobs.train_retrieval"),
        "step": learner.num_steps,
        "seed": config.run.seed,
        "captions": config.data.captions,
        "held_out_pairs": 0 if held_out is None else held_out.num_pairs,
        "held_out": {} if held_out is None else held_out.figures,
    }
    save_tmr(folder, learner.tmr, dtype=config.run.weights_dtype, with_decoder=True, provenance=provenance)
