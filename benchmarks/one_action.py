"""Whether GRPO learns with a policy of one action, from nothing: pretraining and fine-tuning of MotionSSM by seed.

    python -m benchmarks.learning --policy motion_ssm --seeds 3 [--eval_seed N] [--json PATH] [--save_dir DIR] [--check]

Each seed trains a MotionSSM (preset `motion_ssm_small`), fine-tunes it (`motion_ssm_grpo`) and measures both on
held-out captions; beside it stand a regressor of the same sizes (`latent_dim` 0), and a diffusion policy of about as
many parameters for the speed of generation. Targets, for every seed:

    total            rises by at least half of the base's spread within a group, and the paired 95 % confidence
                     interval of the rise (bootstrap over clips and texts) lies above 0
    judge_matching   the matching score of a TMR that is never used as a reward rises
    joint_speed_mps  within 20 % of the base's
    diversity_m      at least .8 times the base's, mean joint distance between samples of one prompt
    seconds          pretraining and fine-tuning take at most 10 minutes
    motions          at least 20 times as many a second as of a diffusion of 50 steps of equal size
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs import train_motion_ssm
from jobs.command_line import main as cli
from jobs.ssm.settings import MotionSSMConfig
from motions.data.dataset import load_dataset
from motions.data.prompts import Prompt, Segment
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.comparison import figures
from rewards.evaluation.text import embed_clips, load_judge, measure
from rewards.mixing import MixedRewards
from rollouts.checkpoints.loading import load_policy_text_encoder, open_base, open_policy
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.worker import generate
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.policy import Policy
from rollouts.settings import PolicySettings, SamplingSettings

PRETRAINING, FINE_TUNING = "motion_ssm_small", "motion_ssm_grpo"
MIN_RISE_IN_STDS = 0.5
MAX_SPEED_CHANGE, MIN_DIVERSITY_RATIO = 0.2, 0.8
MAX_SECONDS = 600.0
MIN_SPEED_RATIO = 20.0
TIMED_MOTIONS, TIMED_FRAMES = 16, 60


def run_seeds(options: argparse.Namespace, first_seed: int, train: Any) -> tuple[dict[str, Any], list[str]]:
    """All seeds; the document for the JSON file, and a phrase for every missed target.

    Args:
        train: `benchmarks.learning.train`, a run of a preset of `jobs.grpo`.
    """
    eval_seed = secrets.randbelow(2**31) if options.eval_seed is None else options.eval_seed
    print(f"--eval_seed {eval_seed}", flush=True)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save_dir or Path(scratch)
        for seed in range(first_seed, first_seed + options.seeds):
            base, seconds = pretrained(folder / f"base_{seed}", seed)
            overrides = {"model_path": str(base), "runtime": options.runtime, "ray_address": "local"}
            if options.num_steps is not None:
                overrides["num_steps"] = options.num_steps
            given = {**overrides, "eval_seed": eval_seed, "seed": seed, "save_dir": folder / f"seed_{seed}"}
            result = train(FINE_TUNING, given)
            results.append(result | {"seconds_pretraining": seconds})
        regressor, _ = pretrained(folder / f"regressor_{first_seed}", first_seed, latent_dim=0)
        beside = {"regressor": sampled_figures(regressor, eval_seed), "speed": speeds(folder / f"base_{first_seed}")}
    print(f"regressor: {beside['regressor']}")
    print(f"motions a second: {beside['speed']}")
    missed = [phrase for result in results for phrase in missed_targets(result)]
    ratio = beside["speed"]["ratio"]
    if ratio < MIN_SPEED_RATIO:
        missed.append(f"{ratio:.1f} times as many motions a second as diffusion, {MIN_SPEED_RATIO - ratio:.1f} too few")
    return {"eval_seed": eval_seed, "runs": results, **beside}, missed


def pretrained(folder: Path, seed: int, **changes: object) -> tuple[Path, float]:
    """A MotionSSM of the preset, and the seconds that it took; one that is there already is taken, with those of its
    training."""
    started = time.perf_counter()
    given = {**changes, **({"lambda_prior_physics": 0.0} if changes.get("latent_dim") == 0 else {})}
    config = cli.load_preset(
        MotionSSMConfig, PRETRAINING, "jobs.train_motion_ssm", seed=seed, save_dir=folder, resume=True, **given
    )
    train_motion_ssm.run(config)
    return folder, time.perf_counter() - started


def missed_targets(result: Mapping[str, Any]) -> list[str]:
    """One phrase for every target that a seed missed, with the difference."""
    return [f"seed {result['seed']}: {phrase}" for met, phrase in _checks(result) if not met]


def _checks(result: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    rows = result["rows"]
    total, needed = rows["total"], MIN_RISE_IN_STDS * result["within_group_std"]
    rise, low = total["after"] - total["before"], total["interval"][0]
    yield rise >= needed, f"total rose by {rise:.4f}, {needed - rise:.4f} too little"
    yield low > 0.0, f"the interval of its rise begins at {low:.4f}, {-low:.4f} below 0"
    change = rows["judge_matching"]["after"] - rows["judge_matching"]["before"]
    yield change > 0.0, f"judge_matching changed by {change:+.4f}"
    change = rows["joint_speed_mps"]["after"] / rows["joint_speed_mps"]["before"] - 1.0
    yield abs(change) <= MAX_SPEED_CHANGE, f"speed changed by {change:+.1%}, {abs(change) - MAX_SPEED_CHANGE:.1%} much"
    ratio = rows["diversity_m"]["after"] / rows["diversity_m"]["before"]
    yield ratio >= MIN_DIVERSITY_RATIO, f"diversity is {ratio:.3f}x, {MIN_DIVERSITY_RATIO - ratio:.3f} too little"
    seconds = result["seconds_pretraining"] + result["seconds"]
    yield seconds <= MAX_SECONDS, f"training took {seconds:.0f} s, {seconds - MAX_SECONDS:.0f} too long"


def load(path: Path) -> Policy:
    """The policy of a folder, on the CPU."""
    settings = PolicySettings(model_path=str(path), use_lora=False)
    return open_policy(open_base(settings), settings, SamplingSettings(device="cpu"))


def sampled_figures(path: Path, seed: int, num_prompts: int = 58, num_samples: int = 4) -> dict[str, float]:
    """Distance between samples of a prompt, FID and kinematic figures of a policy on held-out captions."""
    policy, dataset = load(path), load_dataset("builtin")
    encoder = load_policy_text_encoder(PolicySettings(model_path=str(path)))
    rng = np.random.default_rng(seed)
    prompts = dataset.prompts("test", num_prompts, rng=rng, distinct=True)
    groups = generate(policy, encoder, prompts, num_samples, seed)
    judge = load_judge("builtin", HUMANML3D, PolicySettings())
    scores = [MixedRewards(np.zeros(num_samples, np.float32), {}) for _ in groups]
    evaluation = measure(groups, scores, HUMANML3D, judge)
    assert judge is not None
    windows = embed_clips(judge, [item.features for item in dataset.items("test")])
    return {name: value for name, value in figures(evaluation, windows).items() if name != "total"}


def speeds(path: Path) -> dict[str, float]:
    """Motions a second of a policy, and of a diffusion of 50 steps with about as many parameters."""
    policy = load(path)
    encoder = load_policy_text_encoder(PolicySettings(model_path=str(path)))
    wanted = sum(value.numel() for name, value in policy.network.named_parameters() if not name.startswith("encoder."))
    width = min(range(32, 513, 32), key=lambda width: abs(_size(width, encoder.dim) - wanted))
    diffusion = DiffusionPolicy(
        MDM(_mdm(width, encoder.dim)),
        DiffusionSchedule("cosine", 50),
        policy.normalizer,
        policy.skeleton,
        SamplingSettings(device="cpu", guidance_scale=1.0),
    )
    prompts = [Prompt("a person walks", (Segment("a person walks", TIMED_FRAMES),))]
    rates = {}
    for name, timed in (("motion_ssm", policy), ("diffusion", diffusion)):
        generate(timed, encoder, prompts, TIMED_MOTIONS, 0)
        started = time.process_time()
        generate(timed, encoder, prompts, TIMED_MOTIONS, 1)
        rates[name] = TIMED_MOTIONS / (time.process_time() - started)
    parameters = {"motion_ssm_parameters": float(wanted), "diffusion_parameters": float(_size(width, encoder.dim))}
    return rates | parameters | {"ratio": rates["motion_ssm"] / rates["diffusion"]}


def _mdm(width: int, text_dim: int) -> MDMConfig:
    return MDMConfig(
        latent_dim=width, ff_size=2 * width, num_layers=4, num_heads=4, text_dim=text_dim, max_positions=256
    )


def _size(width: int, text_dim: int) -> int:
    return sum(parameter.numel() for parameter in MDM(_mdm(width, text_dim)).parameters())
