"""What `jobs.pretrain` does: data, network, the loop of cluster/run/training_loop.py, the model's files, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cluster.records.run import joined_cluster, open_run
from cluster.run.training_loop import BatchTraining, train
from jobs.command_line import main as cli
from jobs.configs.pretrain import PretrainConfig
from jobs.report import write_training_report
from jobs.text.generation import write_results
from jobs.text.training_folder import describe_training
from learners.supervised.diffusion import SupervisedLearner, supervised_batch
from motions.base.memory import require_memory, transformer_parameters
from motions.data.dataset import MotionBatch, MotionDataset, TextMotion, load_dataset, sample_batch
from motions.data.prompts import Prompt
from rewards.evaluation.text import generate
from rollouts.checkpoints.mdm_files import model_args_of, save_mdm
from rollouts.checkpoints.model_args import ModelArgs
from rollouts.devices import resolve_device
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.networks.denoiser_network import DenoiserNetwork, denoiser_class
from rollouts.settings import SamplingSettings
from rollouts.text.encoders import TextEncoder, load_new_text_encoder

CURVES = ("loss", "grad_norm", "learning_rate")


def run(config: PretrainConfig) -> None:
    """Trains a policy and writes its folder."""
    dataset = load_data(config)
    encoder = load_encoder(config)
    clips = TrainingClips(config, dataset)
    prompts = sample_prompts(config, dataset)
    encoder.check_texts([*clips.texts, *(prompt.text for prompt in prompts)])
    run = config.run
    with joined_cluster(), open_run(run, config, dataset.fingerprint, run.num_steps, shown=CURVES) as opened:
        network = build_network(config, dataset.skeleton.num_features, encoder.dim)
        schedule = DiffusionSchedule(config.network.noise_schedule, config.network.diffusion_steps)
        learner = SupervisedLearner(network, schedule, config.supervised, run.num_steps, run.seed)
        training = BatchTraining(
            learner,
            run.num_steps,
            make_batch=lambda step: supervised_batch(clips.batch(step), dataset.normalizer, encoder, network.text_form),
            export=lambda folder: save_model(config, folder, learner, dataset, encoder),
        )
        train(opened, training, run.save_interval, curves=CURVES)
        if prompts:
            with learner.averaged():
                show_samples(config, opened.directory.samples, network, schedule, dataset, encoder, prompts)
        report = write_training_report(opened.path, f"A text-to-motion policy, trained on {dataset.name}", CURVES)
    print(f"report: {report}")
    print(f"policy in {run.save_dir}: python -m jobs.generate --model_path {run.save_dir} --text 'a person walks'")


def plan(config: PretrainConfig) -> None:
    """Loads data and text encoder, builds the network, and prints what would be trained."""
    dataset = load_data(config)
    encoder = load_encoder(config)
    few = config.model_copy(update={"data": config.data.model_copy(update={"num_composites": 1})})
    clips = TrainingClips(few, dataset)
    encoder.check_texts([*clips.texts, *(prompt.text for prompt in sample_prompts(config, dataset))])
    network = build_network(config, dataset.skeleton.num_features, encoder.dim)
    DiffusionSchedule(config.network.noise_schedule, config.network.diffusion_steps)
    print(describe_training(config, config.run, dataset, network))


def load_data(config: PretrainConfig) -> MotionDataset:
    """The motions and the captions to learn."""
    dataset = load_dataset(config.data.data_source, skip_bad=config.data.skip_bad)
    count = config.data.captions_per_motion
    return dataset if count is None else dataset.with_captions(count)


def load_encoder(config: PretrainConfig) -> TextEncoder:
    """The text encoder, which gives what the denoiser reads."""
    return load_new_text_encoder(config.text, denoiser_class(config.network.arch).text_form)


def build_network(config: PretrainConfig, num_features: int, text_dim: int) -> DenoiserNetwork:
    """A new network on the configuration's device; weights are a function of the seed."""
    width, inner, layers = config.network.latent_dim, config.network.ff_size, config.network.layers
    require_memory(
        layers * transformer_parameters(width, inner), f"latent_dim {width}, ff_size {inner}, layers {layers}"
    )
    args = config.flat() | {"text_dim": text_dim}
    network = denoiser_class(config.network.arch).build(args, num_features, text_dim, config.run.seed)
    return network.to(resolve_device(config.run.device))


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
    config: PretrainConfig, folder: Path, learner: SupervisedLearner, dataset: MotionDataset, encoder: TextEncoder
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
        encoder.name,
        max_frames=config.data.max_frames,
        text_encoder_fingerprint=encoder.fingerprint,
        command=cli.command_of(config, "jobs.pretrain"),
        extra={name: value for name, value in config.flat().items() if name not in ModelArgs.model_fields},
    )
    dtype = getattr(torch, config.run.weights_dtype)
    save_mdm(folder, learner.num_steps, learner.network, args, dataset.normalizer, average=average, dtype=dtype)


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
    config: PretrainConfig,
    folder: Path,
    network: DenoiserNetwork,
    schedule: DiffusionSchedule,
    dataset: MotionDataset,
    encoder: TextEncoder,
    prompts: Sequence[Prompt],
) -> None:
    """Generates held-out captions into a folder, with the deterministic sampler."""
    sampling = SamplingSettings(guidance_scale=config.samples.guidance_scale, device=config.run.device)
    policy = DiffusionPolicy(
        network, schedule, dataset.normalizer, dataset.skeleton, sampling, trained_frames=config.data.max_frames
    )
    groups = generate(policy, encoder, prompts, num_samples=1, seed=config.run.seed)
    write_results(folder, groups, dataset.skeleton, ("html", "gif"))
    print(f"{len(groups)} held-out captions: open {folder / 'index.html'}")
