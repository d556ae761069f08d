"""What `jobs.pretrain` does: data, network, the loop of cluster/run/training_loop.py, the model's files, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.records.opening import inspect
from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.configs.pretrain import PretrainConfig
from jobs.report import write_training_report
from jobs.text import sizing
from jobs.text.generation import write_results
from jobs.text.training_folder import describe_training
from learners.physics_losses import PhysicsLoss
from learners.supervised.diffusion import SupervisedBatch, SupervisedLearner, supervised_batch
from motions.base.errors import UserError
from motions.base.memory import require_memory, transformer_parameters
from motions.data.dataset import MotionDataset, load_dataset
from motions.data.prompts import Prompt
from motions.data.text_motion import MotionBatch, TextMotion, sample_batch, whole_batch
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import Skeleton
from rollouts.checkpoints.loading import load_base, load_policy_text_encoder
from rollouts.checkpoints.mdm_files import model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgs, reads_by_token
from rollouts.devices import resolve_device
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.worker import generate
from rollouts.networks.denoiser_network import DenoiserNetwork, denoiser_class
from rollouts.settings import PolicySettings, SamplingSettings
from rollouts.ssm.layers import set_scan_backend
from rollouts.text.encoders import TextEncoder, load_new_text_encoder

CURVES = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True, slots=True)
class Start:
    """What a training starts from."""

    network: DenoiserNetwork
    schedule: DiffusionSchedule
    normalizer: Normalizer
    encoder: TextEncoder


@dataclass(frozen=True)
class Prepared:
    """A training that is checked and could start."""

    config: PretrainConfig
    """With the number of steps that data and machine ask for."""
    dataset: MotionDataset
    start: Start
    clips: TrainingClips
    prompts: list[Prompt]
    learner: SupervisedLearner

    def batch(self, step: int) -> SupervisedBatch:
        """The batch of a step, counted from 0."""
        return self.ready(self.clips.batch(step))

    def ready(self, batch: MotionBatch) -> SupervisedBatch:
        """A batch of the data as the network reads it."""
        return supervised_batch(batch, self.start.normalizer, self.start.encoder, self.start.network.text_form)


def run(config: PretrainConfig) -> None:
    """Trains a policy and writes its folder."""
    prepared = prepare(config)
    config, dataset, start, learner = prepared.config, prepared.dataset, prepared.start, prepared.learner
    run = config.run
    with joined_cluster(), open_run(run, config, dataset.fingerprint, run.num_steps, shown=CURVES) as opened:
        training = BatchTraining(
            learner,
            run.num_steps,
            make_batch=prepared.batch,
            export=lambda folder: save_model(config, folder, learner, dataset, start),
        )
        train(opened, training, run.save_interval, curves=CURVES, evaluate=validation(prepared))
        if prepared.prompts:
            with learner.averaged():
                show_samples(config, opened.directory.samples, start, dataset, prepared.prompts)
        report = write_training_report(opened.path, f"A text-to-motion policy, trained on {dataset.name}", CURVES)
    print(f"report: {report}")
    print(f"policy in {run.save_dir}: python -m jobs.generate --model_path {run.save_dir} --text 'a person walks'")


def plan(config: PretrainConfig) -> None:
    """Loads data and text encoder, builds the network, and prints what would be trained."""
    few = config.model_copy(update={"data": config.data.model_copy(update={"num_composites": 1})})
    prepared = prepare(few)
    config = prepared.config.model_copy(update={"data": config.data})
    print(describe_training(config, config.run, prepared.dataset, prepared.start.network))


def prepare(config: PretrainConfig) -> Prepared:
    """Loads everything, checks the texts, sizes the training, and prints how long it will take.

    Raises:
        RunDirectoryError: the folder cannot be used as requested.
        UserError: data, model and options do not fit each other, or a text cannot be read.
    """
    inspect(config.run)
    if config.start.model_path is None:
        denoiser_class(config.network.arch)  # before the data is read, which may take minutes
    dataset = load_data(config)
    start = load_start(config, dataset)
    clips = TrainingClips(config, dataset)
    prompts = sample_prompts(config, dataset)
    start.encoder.check_texts([*clips.texts, *(prompt.text for prompt in prompts)])
    recorded = sizing.recorded_steps(config)
    asked = recorded or sizing.steps_by_data(config, len(dataset.items("train")))
    learner = new_learner(config, start, dataset.skeleton, asked)
    prepared = Prepared(config, dataset, start, clips, prompts, learner)
    num_steps = asked
    if sizing.is_worth_timing(asked):
        seconds = sizing.seconds_a_step(learner, lambda trial, step: trial.update(prepared.batch(step)))
        num_steps = recorded or sizing.fitting_steps(config, asked, seconds)
        print(sizing.describe_time(num_steps, asked, seconds))
    run = config.run.model_copy(update={"num_steps": num_steps})
    learner = learner if num_steps == asked else new_learner(config, start, dataset.skeleton, num_steps)
    return replace(prepared, config=config.model_copy(update={"run": run}), learner=learner)


def new_learner(config: PretrainConfig, start: Start, skeleton: Skeleton, num_steps: int) -> SupervisedLearner:
    """The learner of a training of so many steps."""
    physics = PhysicsLoss(start.normalizer, skeleton)
    return SupervisedLearner(start.network, start.schedule, config.supervised, num_steps, config.run.seed, physics)


def validation(prepared: Prepared, split: str = "val") -> Callable[[], Mapping[str, float]] | None:
    """Measures the loss of held-out clips; None where there are none, which a line says."""
    config, dataset = prepared.config, prepared.dataset
    if not config.validation.validation_clips or split not in dataset.splits:
        print(
            f"dataset {dataset.name}: no validation loss is measured (validation_clips is 0 or there is no {split}.txt)"
        )
        return None
    items, size = dataset.items(split), config.supervised.batch_size
    if (seen := dataset.seen_in_training(split)) is not None:
        print(f"dataset {dataset.name}: {seen}")
    # Spread over the split, whose neighbours are often of one recording.
    items = items[:: math.ceil(len(items) / config.validation.validation_clips)]
    parts = [whole_batch(items[place : place + size], config.data.max_frames) for place in range(0, len(items), size)]
    return lambda: {"validation_loss": prepared.learner.validation_loss(map(prepared.ready, parts))}


def load_data(config: PretrainConfig) -> MotionDataset:
    """The motions and the captions to learn."""
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    count = config.data.captions_per_motion
    return dataset if count is None else dataset.with_captions(count)


def load_start(config: PretrainConfig, dataset: MotionDataset) -> Start:
    """A new network, or the policy of `model_path`, on the configuration's device.

    Raises:
        UserError: the policy has another skeleton than the data, no statistics, or room for fewer frames.
    """
    device = resolve_device(config.run.device)
    if config.start.model_path is None:
        args = network_args(config)
        encoder = load_new_text_encoder(config.text, denoiser_class(config.network.arch).reads(args))
        network = build_network(config, dataset.skeleton.num_features, encoder.dim)
        set_scan_backend(network, config.run.scan_backend, device)
        schedule = DiffusionSchedule(config.network.noise_schedule, config.network.diffusion_steps)
        return Start(network.to(device), schedule, dataset.normalizer, encoder)
    text = config.text.model_dump(include=config.text.model_fields_set)
    settings = PolicySettings(model_path=config.start.model_path, use_lora=False, **text)
    loaded = load_base(settings)
    print(f"starting from {loaded.report}")
    if loaded.skeleton != dataset.skeleton:
        raise UserError(
            f"model_path {settings.model_path} has skeleton {loaded.skeleton.name}, dataset {dataset.name} "
            f"{dataset.skeleton.name}; --model_path none trains a new network"
        )
    if loaded.normalizer is None:
        raise UserError(f"there is no Mean.npy and Std.npy beside {loaded.report.path}, which training needs")
    if config.data.max_frames >= loaded.network.max_positions:
        raise UserError(
            f"max_frames is {config.data.max_frames}; model_path {settings.model_path} has room for "
            f"{loaded.network.max_positions - 1} frames"
        )
    set_scan_backend(loaded.network, config.run.scan_backend, device)
    return Start(loaded.network.to(device), loaded.schedule, loaded.normalizer, load_policy_text_encoder(settings))


def network_args(config: PretrainConfig) -> dict[str, Any]:
    """Entries of args.json of a new network, but for the width of its text encoder."""
    by_token, arch = config.network.text_by_token, config.network.arch
    if by_token is None:
        by_token = reads_by_token(arch, config.text.text_encoder)
    return config.flat() | {"text_by_token": by_token}


def build_network(config: PretrainConfig, num_features: int, text_dim: int) -> DenoiserNetwork:
    """A new network; weights are a function of the seed."""
    width, inner, layers = config.network.latent_dim, config.network.ff_size, config.network.layers
    require_memory(
        layers * transformer_parameters(width, inner), f"latent_dim {width}, ff_size {inner}, layers {layers}"
    )
    args = network_args(config) | {"text_dim": text_dim}
    return denoiser_class(config.network.arch).build(args, num_features, text_dim, config.run.seed)


POOL_BATCHES = 8
"""Batches that are drawn together and then cut by length: little padding, and every batch still a random draw."""


class TrainingClips:
    """Batches of clips and composites of similar lengths; a batch is a function of (seed, step)."""

    def __init__(self, config: PretrainConfig, dataset: MotionDataset) -> None:
        """Makes the composites.

        Raises:
            UserError: no two clips of the data fit together.
        """
        self._config = config
        self._clips = dataset.items("train")
        self._num_composites = round(config.data.composite_fraction * config.supervised.batch_size)
        self._composites: Sequence[TextMotion] = ()
        self._pool: tuple[int, list[MotionBatch]] | None = None
        if self._num_composites:
            rng, data = np.random.default_rng(config.run.seed), config.data
            self._composites = dataset.composites("train", data.num_composites, rng, max_frames=data.max_frames)

    @property
    def texts(self) -> list[str]:
        """Every text of a batch."""
        return [caption for items in (self._clips, self._composites) for item in items for caption in item.captions]

    def batch(self, step: int) -> MotionBatch:
        """The batch of a step, counted from 0."""
        pool, place = divmod(step, POOL_BATCHES)
        if self._pool is None or self._pool[0] != pool:
            self._pool = (pool, self._draw_pool(pool))
        return self._pool[1][place]

    def _draw_pool(self, pool: int) -> list[MotionBatch]:
        """The batches of steps `POOL_BATCHES * pool` and following."""
        batch_size, max_frames = self._config.supervised.batch_size, self._config.data.max_frames
        rng = np.random.default_rng([self._config.run.seed, pool])
        sizes = ((self._clips, batch_size - self._num_composites), (self._composites, self._num_composites))
        parts = [sample_batch(items, rng, POOL_BATCHES * size, max_frames) for items, size in sizes if size]
        motions = [motion for part in parts for motion in part.features]
        lengths = np.concatenate([part.lengths for part in parts])
        texts = [text for part in parts for text in part.texts]
        by_length = np.argsort(lengths, kind="stable").reshape(POOL_BATCHES, batch_size)
        batches = []
        for rows in by_length[rng.permutation(POOL_BATCHES)]:
            longest = int(lengths[rows].max())
            features = np.zeros((len(rows), longest, motions[0].shape[1]), np.float32)
            for target, row in zip(features, rows, strict=True):
                target[: lengths[row]] = motions[row][: lengths[row]]
            batches.append(MotionBatch(features, lengths[rows], tuple(texts[row] for row in rows)))
        return batches


def save_model(
    config: PretrainConfig, folder: Path, learner: SupervisedLearner, dataset: MotionDataset, start: Start
) -> None:
    """Writes `model#########.pt`, `args.json`, `Mean.npy` and `Std.npy`."""
    average = None
    if config.supervised.avg_model_beta:
        with learner.averaged():
            average = {name: value.detach().clone() for name, value in learner.network.named_parameters()}
    args = model_args_of(
        learner.network,
        learner.schedule,
        dataset.skeleton.name,
        start.encoder.name,
        max_frames=config.data.max_frames,
        text_encoder_fingerprint=start.encoder.fingerprint,
        command=cli.command_of(config, "jobs.pretrain"),
        extra={name: value for name, value in config.flat().items() if name not in ModelArgs.model_fields},
    )
    dtype = getattr(torch, config.run.weights_dtype)
    save_mdm(folder, learner.num_steps, learner.network, args, start.normalizer, average=average, dtype=dtype)


def sample_prompts(config: PretrainConfig, dataset: MotionDataset) -> list[Prompt]:
    """The held-out captions of the samples, composite ones where some fit together; without any, a line says so."""
    count, rng = config.samples.num_samples, np.random.default_rng(config.run.seed)
    if not count:
        return []
    if "test" not in dataset.splits:
        print(f"dataset {dataset.name} has no test split: no samples will be generated at the end")
        return []
    if (seen := dataset.seen_in_training("test")) is not None:
        print(f"dataset {dataset.name}: {seen}")
    try:
        return dataset.prompts("test", count, config.data.composite_fraction, rng, distinct=True)
    except ValueError as error:
        print(f"samples will be of single captions: in the test split, {error}")
        return dataset.prompts("test", count, rng=np.random.default_rng(config.run.seed), distinct=True)


def show_samples(
    config: PretrainConfig, folder: Path, start: Start, dataset: MotionDataset, prompts: Sequence[Prompt]
) -> None:
    """Generates held-out captions into a folder, with the deterministic sampler."""
    sampling = SamplingSettings(
        guidance_scale=config.samples.guidance_scale, device=config.run.device, scan_backend=config.run.scan_backend
    )
    policy = DiffusionPolicy(
        start.network,
        start.schedule,
        start.normalizer,
        dataset.skeleton,
        sampling,
        trained_frames=config.data.max_frames,
    )
    groups = generate(policy, start.encoder, prompts, num_samples=1, seed=config.run.seed)
    write_results(folder, groups, dataset.skeleton, ("html", "gif"))
    print(f"{len(groups)} held-out captions: open {folder / 'index.html'}")
