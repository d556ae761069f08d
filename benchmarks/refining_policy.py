"""Whether GRPO teaches a refiner (PhysicsSSM) to make motions that a simulated humanoid can follow.

    python -m benchmarks.learning --policy physics_ssm --seeds 3 [--json PATH] [--save_dir DIR] [--check]

Each seed trains a refiner (preset `refiner_small`) and then its residual by GRPO (`physics_ssm_grpo`: tracking, physics
and semantic reward) on motions of the built-in policy, which is frozen. Both are measured on motions for held-out
captions. Targets, for every seed:

    tracked_fraction  rises, and the paired 95 % confidence interval (bootstrap over clips and texts) lies above 0
    joint_speed_mps   within 20 % of what it was: a body that stands is easy to follow
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs import train_physics_ssm
from jobs.command_line import main as cli
from jobs.ssm.refiner_settings import PhysicsSSMConfig

REFINER, FINE_TUNING = "refiner_small", "physics_ssm_grpo"
MAX_SPEED_CHANGE = 0.2


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
            refiner = folder / f"refiner_{seed}"
            given = {"seed": seed, "save_dir": refiner, "resume": True}
            train_physics_ssm.run(cli.load_preset(PhysicsSSMConfig, REFINER, "jobs.train_physics_ssm", **given))
            overrides = {"refiner_path": str(refiner), "runtime": options.runtime, "ray_address": "local"}
            if options.num_steps is not None:
                overrides["num_steps"] = options.num_steps
            given = {"eval_seed": eval_seed, "seed": seed, "save_dir": folder / f"seed_{seed}"}
            results.append(train(FINE_TUNING, {**overrides, **given}))
    missed = [f"seed {result['seed']}: {phrase}" for result in results for met, phrase in checks(result) if not met]
    return {"eval_seed": eval_seed, "runs": results}, missed


def checks(result: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Whether each target of a seed is met, and how far it is missed."""
    tracked, speed = result["rows"]["tracked_fraction"], result["rows"]["joint_speed_mps"]
    low = tracked["interval"][0]
    yield low > 0.0, f"the interval of tracked_fraction's rise begins at {low:.4f}, {-low:.4f} below 0"
    change = speed["after"] / speed["before"] - 1.0
    yield abs(change) <= MAX_SPEED_CHANGE, f"speed changed by {change:+.1%}, {abs(change) - MAX_SPEED_CHANGE:.1%} much"
