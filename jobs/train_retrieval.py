"""Training of a TMR, the network that compares text and motion: a reward, or the judge of an evaluation.

    python -m jobs.train_retrieval --preset retrieval_small --save_dir runs/tmr
    python -m jobs.train_retrieval --preset retrieval_small --captions judge --seed 77 --save_dir runs/judge

`--save_dir` gets the original's layout (`last_weights/*.pt`, `stats/{mean,std}.pt`, `config.json`), so it can be given
as `--tmr_checkpoint_path` to `jobs.grpo`. Retrieval on the held-out clips, where the data has any, is measured and
printed at every checkpoint; `config.json` keeps it under `provenance`. `--resume` continues a training that was
stopped, to the same bits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.command_line import main as cli
from jobs.configs.retrieval import RetrievalConfig

if TYPE_CHECKING:
    from learners.supervised.retrieval import RetrievalBatch, RetrievalLearner
    from motions.data.dataset import MotionDataset
    from rewards.tmr.network import TMR
    from rollouts.text.encoders import TextEncoder

CURVES = ("loss", "contrastive", "recons", "grad_norm")
SHOWN = ("t2m/R01", "t2m/R03", "m2t/R01", "m2t/R03", "cosine_right", "cosine_wrong")
"""Held-out figures that are printed; all of them are kept."""


def run(config: RetrievalConfig) -> None:
    """Trains a TMR and writes its folder."""
    from jobs.text.training_folder import open_training_folder
    from learners.supervised.retrieval import RetrievalLearner
    from learners.supervised.retrieval_data import RetrievalData
    from motions.data.dataset import load_dataset

    dataset = load_dataset(config.data_source)
    encoder = load_checked_encoder(config, dataset)
    with open_training_folder(config, dataset.fingerprint) as folder:
        learner = RetrievalLearner(build_tmr(config, dataset, encoder), config, seed=config.seed)
        train = RetrievalData(dataset.items(config.captions), encoder, config, dataset.normalizer, config.max_frames)
        pairs = None
        if "test" in dataset.splits:
            held_out = RetrievalData(dataset.items("test"), encoder, config, dataset.normalizer, config.max_frames)
            pairs = held_out.pairs(np.random.default_rng(config.seed))
        folder.train(
            learner,
            config.num_steps,
            make_batch=lambda step: train.sample(np.random.default_rng([config.seed, step])),
            save_model=lambda step: save_model(config, folder.path, learner, pairs, step),
            curves=CURVES,
        )
    print(f"TMR in {config.save_dir}: python -m jobs.grpo --tmr_checkpoint_path {config.save_dir} ...")


def plan(config: RetrievalConfig) -> None:
    """Loads data and text encoder, builds the network, and prints what would be trained."""
    from jobs.text.training_folder import describe_training
    from motions.data.dataset import load_dataset

    dataset = load_dataset(config.data_source)
    encoder = load_checked_encoder(config, dataset)
    print(describe_training(config, dataset, build_tmr(config, dataset, encoder)))


def load_checked_encoder(config: RetrievalConfig, dataset: MotionDataset) -> TextEncoder:
    """The text encoder; says where nothing is held out.

    Raises:
        UserError: it has no sentence embeddings, which tell captions that mean the same, the data lacks the split of
            `captions`, or a caption is over the encoder's limit.
    """
    from rollouts.text.encoders import load_new_text_encoder

    encoder = load_new_text_encoder(config)
    held_out = dataset.items("test") if "test" in dataset.splits else ()
    if not held_out:
        print(f"dataset {dataset.name} has no test split: retrieval will not be measured")
    items = (*dataset.items(config.captions), *held_out)
    encoder.check_lengths([caption for item in items for caption in item.captions])
    return encoder


def build_tmr(config: RetrievalConfig, dataset: MotionDataset, encoder: TextEncoder) -> TMR:
    """A new TMR on the configuration's device; weights are a function of the seed."""
    import torch

    from rewards.tmr.network import TMR, TMRConfig
    from rollouts.devices import resolve_device

    sizes = TMRConfig(
        num_features=dataset.skeleton.num_features,
        text_dim=encoder.dim,
        latent_dim=config.tmr_latent_dim,
        ff_size=config.tmr_ff_size,
        num_layers=config.tmr_layers,
        num_heads=config.tmr_heads,
        dropout=config.tmr_dropout,
        fps=dataset.skeleton.fps,
    )
    with torch.random.fork_rng(devices=[]):  # the default initialisers draw from the global generator
        torch.manual_seed(config.seed)
        tmr = TMR(
            sizes,
            dataset.normalizer,
            encoder.name,
            text_encoder_fingerprint=encoder.fingerprint,
            with_decoder=config.lambda_recons > 0,
        )
    return tmr.to(resolve_device(config.device))


def save_model(
    config: RetrievalConfig, folder: Path, learner: RetrievalLearner, held_out: RetrievalBatch | None, step: int
) -> None:
    """Measures retrieval on held-out pairs, if there are any, prints it and writes the model's files with it."""
    from rewards.tmr.checkpoints import save_tmr

    figures, num_pairs = {}, 0
    if held_out is not None:
        figures, num_pairs = learner.evaluate(held_out), len(held_out.lengths)
        shown = "  ".join(f"{name} {figures[name]:.3g}" for name in SHOWN)
        print(f"step {step}, {num_pairs} held-out pairs: {shown}", flush=True)
    provenance = {
        "command": cli.command_of(config, "jobs.train_retrieval"),
        "step": step,
        "seed": config.seed,
        "captions": config.captions,
        "held_out_pairs": num_pairs,
        "held_out": figures,
    }
    save_tmr(folder, learner.tmr, dtype=config.weights_dtype, with_decoder=True, provenance=provenance)


if __name__ == "__main__":
    sys.exit(cli.main(RetrievalConfig, run, __doc__, "jobs.train_retrieval", plan=plan))
