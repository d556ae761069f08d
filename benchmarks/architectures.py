"""Architectures of the denoiser against each other: trained for equal CPU seconds at about equal numbers of parameters.

    python -m benchmarks.architectures [--cpu_seconds 240] [--seeds 1] [--json PATH] [OPTIONS OF jobs.pretrain]

Every contender is trained from nothing as preset `pretrain_small` says (the built-in data), in as many steps as its
share of CPU seconds has room for, by process time of a few steps before. Then, of its averaged weights:

    validation_loss  of held-out clips
    fid              Frechet distance of generated motions to held-out windows in the judge's embedding
    judge_matching   the judge's cosine of caption and motion
    diversity_m, low_foot_skate, jerk_mps3, joint_speed_mps of the generated motions

Motions are generated for held-out captions in 10 deterministic steps at the preset's guidance. One row is of the real
motions of these captions. Nothing was chosen by these figures: sizes follow from the number of parameters. Seconds are
comparable only between rows of one call.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.learning import write_json
from jobs.command_line import main as cli
from jobs.configs.pretrain import PretrainConfig
from jobs.text.pretraining import Prepared, new_learner, prepare, validation
from motions.data.prompts import Prompt
from motions.metrics import frechet_distance
from rewards.evaluation.real import RealMotions
from rewards.evaluation.text import beside_rewards, embed_clips, group_diversity_m, load_judge, metre_joints
from rewards.tmr.scorer import Embedder
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import generate
from rollouts.messages import GroupMotions
from rollouts.settings import SamplingSettings

CONTENDERS: dict[str, dict[str, object]] = {
    "trans_enc": {"arch": "trans_enc"},
    "gru": {"arch": "gru", "latent_dim": 160},
    "mamba": {"arch": "mamba"},
}
"""What differs from the preset: at its width, layers of `trans_enc` and of `mamba` have the same number of parameters
within 3 %; a GRU has it at width 160."""
NUM_SAMPLES, SAMPLING_STEPS = 4, 10
TIMED_STEPS = 12
FIGURES = (
    *("parameters", "cpu_seconds", "steps", "validation_loss", "fid", "judge_matching", "diversity_m"),
    *("low_foot_skate", "jerk_mps3", "joint_speed_mps"),
)

Figures = dict[str, float]


@dataclass(frozen=True)
class Measures:
    """What all policies are measured with."""

    judge: Embedder
    real_embeddings: np.ndarray
    """[M, d] of held-out windows."""
    prompts: Sequence[Prompt]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, measures, prints and writes all rows; returns the exit code."""
    options, words = parse_arguments(arguments)
    torch.set_num_threads(1)
    rows: dict[str, Figures] = {}
    measures: Measures | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            for name, changes in CONTENDERS.items():
                if name not in options.contenders:
                    continue
                own = [f"--{key}={value}" for key, value in {**changes, "seed": seed, "num_samples": 0}.items()]
                folder = f"--save_dir={Path(scratch) / f'{name}_{seed}'}"
                prepared = prepare(configuration([*own, folder, *words]))
                if measures is None:
                    measures = make_measures(prepared, options.prompts)
                    rows["real motions"] = real_figures(prepared, measures)
                    show("real motions", rows["real motions"])
                label = f"{name}, seed {seed}"
                rows[label] = train_and_measure(prepared, options.cpu_seconds, measures)
                show(label, rows[label])
    if options.json:
        write_json(options.json, {"rows": rows, "options": words, "cpu_seconds": options.cpu_seconds})
    return 0


def configuration(words: Sequence[str]) -> PretrainConfig:
    """A training by the preset and options of `jobs.pretrain`."""
    return cli.parse(PretrainConfig, ["--preset", "pretrain_small", *words], "jobs.pretrain").settings


def train_and_measure(prepared: Prepared, cpu_seconds: float, measures: Measures) -> Figures:
    """Trains a contender for so many CPU seconds and measures its averaged weights."""
    num_steps = max(1, round(cpu_seconds / seconds_a_step(prepared)))
    start, config = prepared.start, prepared.config
    learner = new_learner(config, start, prepared.dataset.skeleton, num_steps)
    prepared = dataclasses.replace(prepared, learner=learner)
    started = time.process_time()
    for step in range(num_steps):
        learner.update(prepared.batch(step))
    figures: Figures = {
        "parameters": sum(parameter.numel() for parameter in start.network.parameters()),
        "cpu_seconds": time.process_time() - started,
        "steps": num_steps,
    }
    validate = validation(prepared, "test")
    assert validate is not None, "the built-in data has held-out clips"
    figures |= validate()
    sampling = SamplingSettings(
        sampling_steps=SAMPLING_STEPS,
        guidance_scale=config.samples.guidance_scale,
        device=config.run.device,
        scan_backend=config.run.scan_backend,
    )
    with learner.averaged():
        policy = DiffusionPolicy(start.network, start.schedule, start.normalizer, prepared.dataset.skeleton, sampling)
        groups = generate(policy, start.encoder, measures.prompts, NUM_SAMPLES, seed=0)
    return figures | motion_figures(prepared, groups, measures)


def seconds_a_step(prepared: Prepared) -> float:
    """Process time of an optimizer step, of a copy that is thrown away; the first ones warm up."""
    trial = copy.deepcopy(prepared.learner)
    times = []
    for step in range(TIMED_STEPS):
        batch = prepared.batch(step)  # texts are encoded once in a training
        started = time.process_time()
        trial.update(batch)
        times.append(time.process_time() - started)
    return float(np.mean(times[2:]))


def make_measures(prepared: Prepared, num_prompts: int) -> Measures:
    """Judge, held-out windows and held-out captions of the data."""
    skeleton = prepared.dataset.skeleton
    judge = load_judge("builtin", skeleton)
    assert judge is not None
    real = embed_clips(judge, [item.features for item in prepared.dataset.items("test")])
    prompts = prepared.dataset.prompts("test", num_prompts, rng=np.random.default_rng(0), distinct=True)
    return Measures(judge, real, prompts)


def real_figures(prepared: Prepared, measures: Measures) -> Figures:
    """Of the real motions of the captions."""
    real = RealMotions(prepared.dataset.items("test"), prepared.dataset.skeleton)
    found = [motion for prompt in measures.prompts if (motion := real.motion_of(prompt)) is not None]
    return motion_figures(prepared, found, measures)


def motion_figures(prepared: Prepared, groups: Sequence[GroupMotions], measures: Measures) -> Figures:
    """Means over prompts and samples, and the FID."""
    skeleton = prepared.dataset.skeleton
    measured = [beside_rewards(group, skeleton, measures.judge, None) for group in groups]
    figures = {name: float(np.mean([one.terms[name] for one in measured])) for name in measured[0].terms}
    embeddings = np.concatenate([one.embeddings for one in measured])
    figures["fid"] = frechet_distance(measures.real_embeddings, embeddings)
    if len(groups[0].features) > 1:
        spreads = [group_diversity_m(metre_joints(group, skeleton), group.lengths) for group in groups]
        figures["diversity_m"] = float(np.mean(spreads))
    return figures


def show(name: str, row: Mapping[str, float]) -> None:
    """Prints a row."""
    print(f"{name:<18} " + "  ".join(f"{key} {row[key]:.4g}" for key in FIGURES if key in row), flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The benchmark's options, and words for the job."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.architectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cpu_seconds", type=float, default=240.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each contender")
    parser.add_argument("--prompts", type=int, default=96, help="held-out captions")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=["trans_enc", "mamba"])
    parser.add_argument("--json", type=Path, help="file for all figures")
    options, words = parser.parse_known_args(arguments)
    if min(options.cpu_seconds, options.seeds, options.prompts) <= 0:
        parser.error("--cpu_seconds, --seeds and --prompts must be above 0")
    try:
        configuration(["--save_dir=unused", *words])
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    return options, words


if __name__ == "__main__":
    sys.exit(main())
