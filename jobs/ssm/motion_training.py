"""What `jobs.train_motion_ssm` does: data, network, the loop of cluster/run/training_loop.py, the model's files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cluster.records.opening import CONFIG, inspect, read_config
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.report import write_training_report
from jobs.ssm.settings import MotionSSMConfig
from jobs.text.training_folder import describe_training
from learners.physics_losses import PhysicsLoss
from learners.supervised.diffusion import SupervisedBatch, supervised_batch
from learners.supervised.motion_ssm import MotionSSMLearner
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.text_motion import MotionBatch, sample_batch, thinned, whole_batch
from motions.settings import flat_values
from rollouts.checkpoints.motion_ssm_files import save_motion_ssm
from rollouts.devices import resolve_device
from rollouts.one_action.motion_ssm import MotionSSM
from rollouts.one_action.motion_ssm import MotionSSMConfig as Sizes
from rollouts.ssm.layers import set_scan_backend
from rollouts.text.encoders import TextEncoder, load_new_text_encoder
from rollouts.text.words import Words, vocabulary

CURVES = ("loss", "mse", "kl", "grad_norm")


@dataclass(frozen=True)
class Prepared:
    """A training that is checked and could start."""

    config: MotionSSMConfig
    """With the number of steps that the data asks for."""
    dataset: MotionDataset
    encoder: TextEncoder
    learner: MotionSSMLearner

    def batch(self, step: int) -> SupervisedBatch:
        """The batch of a step, counted from 0: a function of (seed, step)."""
        rng = np.random.default_rng([self.config.run.seed, step])
        items, size = self.dataset.items("train"), self.config.training.batch_size
        return self.ready(sample_batch(items, rng, size, self.config.data.max_frames))

    def ready(self, batch: MotionBatch) -> SupervisedBatch:
        """A batch of the data as the network reads it."""
        return supervised_batch(batch, self.dataset.normalizer, self.encoder, self.learner.network.text_form)


def run(config: MotionSSMConfig) -> None:
    """Trains a MotionSSM and writes its folder."""
    prepared = prepare(config)
    config, dataset = prepared.config, prepared.dataset
    run = config.run
    with joined_cluster(), open_run(run, config, dataset.fingerprint, run.num_steps, shown=CURVES) as opened:
        training = BatchTraining(
            prepared.learner,
            run.num_steps,
            make_batch=prepared.batch,
            export=lambda folder: save_model(prepared, folder),
        )
        train(opened, training, run.save_interval, curves=CURVES, evaluate=validation(prepared))
        report = write_training_report(opened.path, f"A MotionSSM, trained on {dataset.name}", CURVES)
    print(f"report: {report}")
    print(f"policy in {run.save_dir}: python -m jobs.generate --model_path {run.save_dir} --text 'a person walks'")


def plan(config: MotionSSMConfig) -> None:
    """Loads data and text encoder, builds the network, and prints what would be trained."""
    prepared = prepare(config)
    print(describe_training(prepared.config, prepared.config.run, prepared.dataset, prepared.learner.network))


def prepare(config: MotionSSMConfig) -> Prepared:
    """Loads everything, checks the texts and counts the steps.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: data, network and options do not fit each other, or a text cannot be read.
    """
    inspect(config.run)
    dataset = load_dataset(config.data.data_dir, skip_bad=config.data.skip_bad)
    if config.data.captions_per_motion is not None:
        dataset = dataset.with_captions(config.data.captions_per_motion)
    captions = [caption for item in dataset.items("train") for caption in item.captions]
    if config.text.text_encoder == "words":
        model = Words(vocabulary(captions))
        limit = config.text.max_text_tokens
        encoder = TextEncoder("words", model, max_tokens=limit, truncate=config.text.truncate_text)
    else:
        encoder = load_new_text_encoder(config.text)
    encoder.check_texts(captions)
    config = with_steps(config, len(dataset.items("train")))
    network = build_network(config, dataset, encoder)
    physics = PhysicsLoss(dataset.normalizer, dataset.skeleton)
    learner = MotionSSMLearner(
        network,
        config.training,
        config.run.num_steps,
        config.run.seed,
        fps=dataset.skeleton.fps,
        max_frames=config.data.max_frames,
        physics=physics,
    )
    return Prepared(config, dataset, encoder, learner)


def with_steps(config: MotionSSMConfig, num_clips: int) -> MotionSSMConfig:
    """The options with numbers of steps in the place of passes over the clips: `num_steps` where it is given, else that
    of the run that is resumed, else as many as `epochs` takes."""
    run = config.run
    a_pass = math.ceil(num_clips / config.training.batch_size)
    changes: dict[str, int] = {}
    if "num_steps" not in run.model_fields_set:
        recorded = run.resume and (run.save_dir / CONFIG).is_file()
        steps = max(1, math.ceil(run.epochs * a_pass))
        if recorded:
            before = flat_values(MotionSSMConfig, read_config(run.save_dir))
            steps = int(before["num_steps"]) if before.get("epochs") == run.epochs else steps
        changes["num_steps"] = steps
    if run.save_every is not None:
        changes["save_interval"] = max(1, math.ceil(run.save_every * a_pass))
    return config.model_copy(update={"run": run.model_copy(update=changes)})


def build_network(config: MotionSSMConfig, dataset: MotionDataset, encoder: TextEncoder) -> MotionSSM:
    """A new network on the configuration's device; weights are a function of the seed."""
    sizes = Sizes(
        num_features=dataset.skeleton.num_features,
        text_dim=encoder.dim,
        num_words=Words(encoder.vocabulary).num_embeddings if encoder.vocabulary else 0,
        max_frames=config.data.max_frames,
        **config.network.model_dump(),
    )
    device = resolve_device(config.run.device)
    network = MotionSSM(sizes, config.run.seed)
    set_scan_backend(network, config.run.scan_backend, device)
    return network.to(device)


def validation(prepared: Prepared) -> Callable[[], Mapping[str, float]] | None:
    """Measures the loss of held-out clips; None where there are none, which a line says."""
    config, dataset = prepared.config, prepared.dataset
    split = next((name for name in ("val", "test") if name in dataset.splits), None)
    if split is None or not config.data.validation_clips:
        print(f"dataset {dataset.name}: no validation loss is measured (validation_clips is 0 or nothing is held out)")
        return None
    items, size = thinned(dataset.items(split), config.data.validation_clips), config.training.batch_size
    parts = [whole_batch(items[place : place + size], config.data.max_frames) for place in range(0, len(items), size)]
    return lambda: {"validation_loss": prepared.learner.validation_loss(map(prepared.ready, parts))}


def save_model(prepared: Prepared, folder: Path) -> None:
    """Writes the model's files."""
    config, learner = prepared.config, prepared.learner
    save_motion_ssm(
        folder,
        learner.network,
        prepared.dataset.normalizer,
        prepared.dataset.skeleton,
        prepared.encoder,
        trained_frames=config.data.max_frames,
        dtype=getattr(torch, config.run.weights_dtype),
        provenance={
            "command": cli.command_of(config, "jobs.train_motion_ssm"),
            "step": learner.num_steps,
            "seed": config.run.seed,
        },
    )
