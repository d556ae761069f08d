"""What `jobs.train_physics_ssm` does: data, network, the loop of cluster/run/training_loop.py, the refiner's folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.records.opening import inspect
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.report import write_training_report
from jobs.ssm.epochs import EpochBatches
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from jobs.text.training_folder import describe_training
from learners.refining.learner import RefinerLearner
from motions.base.errors import UserError
from motions.base.memory import require_memory
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.text_motion import whole_batch
from motions.humanoid.physics_state import StateStatistics
from rollouts.devices import resolve_device
from rollouts.refining.checkpoints import load_refiner, save_refiner
from rollouts.refining.network import RefinerConfig, RefinerNetwork
from rollouts.refining.projection import require_plantable
from rollouts.refining.public_files import is_public_file, load_public_network
from rollouts.refining.refiner import Refiner
from rollouts.ssm.layers import set_scan_backend

CURVES = ("loss", "mse", "physics", "gate_mean", "gate_std", "grad_norm")


@dataclass(frozen=True)
class Prepared:
    """A training that is checked and could start."""

    config: PhysicsSSMConfig
    dataset: MotionDataset
    batches: EpochBatches
    learner: RefinerLearner

    @property
    def num_steps(self) -> int:
        """Updates of the whole training."""
        return self.config.run.epochs * self.batches.steps_per_epoch


def run(config: PhysicsSSMConfig) -> None:
    """Trains a refiner and writes its folder."""
    prepared = prepare(config)
    run, learner, dataset = config.run, prepared.learner, prepared.dataset
    curves = CURVES if learner.refiner.network.config.gate == "sigmoid" else tuple(c for c in CURVES if "gate" not in c)
    with joined_cluster(), open_run(run, config, dataset.fingerprint, prepared.num_steps, shown=curves) as opened:
        training = BatchTraining(
            learner,
            prepared.num_steps,
            make_batch=prepared.batches.batch,
            export=lambda folder: save_model(config, folder, learner),
        )
        interval = run.save_every * prepared.batches.steps_per_epoch
        train(opened, training, interval, curves=curves, evaluate=validation(prepared))
        report = write_training_report(opened.path, f"A PhysicsSSM, trained on {dataset.name}", curves)
    print(f"report: {report}")
    print(f"refiner in {run.save_dir}: python -m jobs.generate --refiner {run.save_dir} --text 'a person walks'")


def plan(config: PhysicsSSMConfig) -> None:
    """Reads the data, builds the network, and prints what would be trained."""
    prepared = prepare(config)
    print(describe_training(config, config.run, prepared.dataset, prepared.learner.refiner.network))
    print(f"{prepared.num_steps} steps: {config.run.epochs} epochs of {prepared.batches.steps_per_epoch}")


def prepare(config: PhysicsSSMConfig) -> Prepared:
    """Reads the data and builds the network.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: data, refiner and options do not fit each other.
    """
    inspect(config.run)
    device = resolve_device(config.run.device)
    dataset = load_dataset(config.data.data_dir, skip_bad=config.data.skip_bad)
    if config.network.constraints == "projected":
        require_plantable(dataset.skeleton)
    items = dataset.items("train")
    batches = EpochBatches(items, config.refiner.batch_size, config.data.max_frames, config.run.seed)
    refiner = starting_refiner(config, dataset)
    set_scan_backend(refiner.network, config.run.scan_backend, device)
    refiner.network.to(device)
    num_steps = config.run.epochs * batches.steps_per_epoch
    return Prepared(config, dataset, batches, RefinerLearner(refiner, config.refiner, num_steps, config.run.seed))


def starting_refiner(config: PhysicsSSMConfig, dataset: MotionDataset) -> Refiner:
    """A new refiner, whose weights are a function of the seed, or that of `refiner_path`, on the CPU.

    Raises:
        UserError: the refiner has another skeleton than the data, or its files are wrong.
    """
    path, skeleton = config.start.refiner_path, dataset.skeleton
    if path is not None and not is_public_file(path):
        refiner = load_refiner(path)
        if refiner.skeleton != skeleton:
            raise UserError(
                f"refiner_path {path} has skeleton {refiner.skeleton.name}, dataset {dataset.name} {skeleton.name}"
            )
        # What was learned to be added to its motions was learned for the weights that it had.
        return replace(refiner, residual=None)
    if path is not None:
        network = load_public_network(path, skeleton)
    else:
        sizes = config.network
        blocks = sizes.n_layers + 1
        # Two projections of a block, of four and two times its width; a mixing of its channels is small beside them.
        parameters = blocks * 6 * sizes.d_model**2 + 8 * sizes.d_model**2
        require_memory(parameters, f"d_model {sizes.d_model}, n_layers {sizes.n_layers}")
        network = RefinerNetwork(RefinerConfig(skeleton.num_features, **sizes.model_dump()), config.run.seed)
    statistics = StateStatistics.fit((item.features for item in dataset.items("train")), skeleton)
    return Refiner(network, dataset.normalizer, statistics, skeleton)


def validation(prepared: Prepared) -> Callable[[], Mapping[str, float]] | None:
    """Measures the losses of held-out motions; None where there are none, which a line says."""
    config, dataset = prepared.config, prepared.dataset
    if not config.validation.validation_clips or "val" not in dataset.splits:
        print(f"dataset {dataset.name}: no validation loss is measured (validation_clips is 0 or there is no val.txt)")
        return None
    items, size = dataset.items("val"), config.refiner.batch_size
    # Spread over the split, whose neighbours are often of one recording.
    items = items[:: math.ceil(len(items) / config.validation.validation_clips)]
    parts = [whole_batch(items[place : place + size], config.data.max_frames) for place in range(0, len(items), size)]
    return lambda: prepared.learner.validate(parts)


def save_model(config: PhysicsSSMConfig, folder: Path, learner: RefinerLearner) -> None:
    """Writes the refiner's files."""
    provenance = {
        "command": cli.command_of(config, "jobs.train_physics_ssm"),
        "step": learner.num_steps,
        "seed": config.run.seed,
        "lambda_physics": config.refiner.lambda_physics,
    }
    save_refiner(folder, learner.refiner, dtype=config.run.weights_dtype, provenance=provenance)
