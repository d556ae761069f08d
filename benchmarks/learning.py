"""Whether GRPO learns: the training of the demonstration for several seeds, measured on held-out captions.

    python -m benchmarks.learning --seeds 3 [--eval_seed N] [--json PATH] [--save_dir DIR] [--runtime local] [--check]

Each seed is one run of `jobs.grpo` with preset `demo`; evaluation prompts and noise are the same for all of them, and
hence the base policy's results. They are fresh: the evaluation's seed is drawn anew each time, and said, unless it is
given, because the preset was chosen by what it did on the prompts of its own. Targets, for every seed:
    total reward     rises by at least 0.5 of the base policy's standard deviation within a prompt, and the paired 95 %
                     confidence interval of the rise (bootstrap over clips and texts) lies above 0
    judge_matching   the matching score of a TMR that is never used as a reward rises
    second_judge     so does that of a judge of another kind
    fid              at most 1.1 times the base's, in that TMR's embedding against held-out real windows
    joint_speed_mps  within 20 % of the base's
    diversity_m      at least 0.8 times the base's, mean joint distance between samples of one prompt

With --check, a missed target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.demonstration import ensure_weights
from motions.base.atomic import atomic_write

MIN_RISE_STD = 0.5
MAX_FID_RATIO = 1.1
MAX_SPEED_CHANGE = 0.2
MIN_DIVERSITY_RATIO = 0.8
FIRST_SEED = 10
SAMPLER_FIGURES = ("total", "judge_matching", "second_judge", "fid", "low_foot_skate", "jerk_mps3", "diversity_m")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all seeds, writes the JSON and returns the exit code."""
    options = parse_arguments(arguments)
    weights = ensure_weights(options.weights_dir)
    eval_seed = secrets.randbelow(2**31) if options.eval_seed is None else options.eval_seed
    print(f"--eval_seed {eval_seed}", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save_dir or Path(scratch)
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            overrides: dict[str, object] = {**weights, "runtime": options.runtime, "ray_address": "local"}
            overrides["eval_seed"] = eval_seed
            if options.num_steps is not None:
                overrides["num_steps"] = options.num_steps
            results.append(train(options.preset, {**overrides, "seed": seed, "save_dir": folder / f"seed_{seed}"}))
            print_result(results[-1])
    missed = [phrase for result in results for phrase in missed_targets(result)]
    if options.json:
        write_json(options.json, {"missed": missed, "eval_seed": eval_seed, "runs": results})
    if options.check and missed:
        print(f"missed: {'; '.join(missed)}")
        return 1
    return 0


def train(preset: str, overrides: Mapping[str, object]) -> dict[str, Any]:
    """One run of a preset with changed options; returns its evaluation with seconds and configuration."""
    config = cli.load_preset(GRPOConfig, preset, "jobs.grpo", **overrides)
    folder = config.run.save_dir
    started = time.perf_counter()
    grpo.run(config)
    document = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    curve = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "seed": config.run.seed,
        "seconds": time.perf_counter() - started,
        "within_group_std": document["within_group_std"],
        "rows": {row["name"]: row for row in document["rows"]},
        "kinds": {entry["kind"]: {row["name"]: row for row in entry["rows"]} for entry in document["kinds"]},
        "samplers": document["samplers"],
        "held_out_curve": [[r["step"], r["evaluation/total"]] for r in curve if "evaluation/total" in r],
        "training_curve": [[r["step"], r["reward/total"]] for r in curve if "reward/total" in r],
        "config": config.flat(),
        "versions": manifest["versions"],
    }


def missed_targets(result: Mapping[str, Any]) -> list[str]:
    """One phrase for every target that a run missed, with the difference."""
    rows = result["rows"]
    rise = (rows["total"]["after"] - rows["total"]["before"]) / result["within_group_std"]
    low = rows["total"]["interval"][0]
    judge, second = (rows[name]["after"] - rows[name]["before"] for name in ("judge_matching", "second_judge"))
    ratios = {name: rows[name]["after"] / rows[name]["before"] for name in ("fid", "joint_speed_mps", "diversity_m")}
    speed_change = abs(ratios["joint_speed_mps"] - 1.0)
    checks = [
        (
            rise >= MIN_RISE_STD,
            f"total reward rose by {rise:.2f} within-group std, {MIN_RISE_STD - rise:.2f} too little",
        ),
        (low > 0.0, f"the rise's interval begins at {low:.4f}, {-low:.4f} below 0"),
        (judge > 0.0, f"the judge's matching score changed by {judge:+.4f}"),
        (second > 0.0, f"the second judge's score changed by {second:+.4f}"),
        (ratios["fid"] <= MAX_FID_RATIO, f"FID is {ratios['fid']:.3f}x, {ratios['fid'] - MAX_FID_RATIO:.3f} too much"),
        (
            speed_change <= MAX_SPEED_CHANGE,
            f"joint speed is {ratios['joint_speed_mps']:.3f}x, {speed_change - MAX_SPEED_CHANGE:.3f} beyond 20 %",
        ),
        (
            ratios["diversity_m"] >= MIN_DIVERSITY_RATIO,
            f"diversity is {ratios['diversity_m']:.3f}x, {MIN_DIVERSITY_RATIO - ratios['diversity_m']:.3f} too little",
        ),
    ]
    return [f"seed {result['seed']}: {phrase}" for met, phrase in checks if not met]


def print_result(result: Mapping[str, Any]) -> None:
    """Prints one line per quantity of a run."""
    print(f"seed {result['seed']}: {result['seconds']:.0f} s, base within-group std {result['within_group_std']:.4f}")
    for kind, rows in {"all prompts": result["rows"], **result["kinds"]}.items():
        print(f" {kind}")
        for name, row in rows.items():
            bounds = row["interval"]
            interval = "" if bounds is None else f"  95 % {bounds[0]:+.4f} to {bounds[1]:+.4f}"
            real = "" if row["real"] is None else f"  real {row['real']:.4f}"
            print(f"  {name:<18} {row['before']:.4f} -> {row['after']:.4f}{interval}{real}")
    for row in result["samplers"]:
        figures = "  ".join(f"{name} {row['figures'][name]:.3g}" for name in SAMPLER_FIGURES if name in row["figures"])
        print(f" {row['policy']}, {row['sampler']} ({row['note']}): {figures}")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the results with the commit that produced them."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    with atomic_write(path) as file:
        file.write(json.dumps({"commit": done.stdout.strip() or None, **document}, indent=2).encode())


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of runs")
    parser.add_argument("--eval_seed", type=int, help="seed of prompts and noise to measure on; by default a fresh one")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--save_dir", type=Path, help="keep the run directories here")
    parser.add_argument("--weights_dir", type=Path, default=Path("runs/weights"), help="for weights that do not ship")
    parser.add_argument("--preset", default="demo", help="preset of jobs.grpo")
    parser.add_argument("--num_steps", type=int, help="training steps; by default the preset's")
    parser.add_argument("--runtime", choices=("ray", "local"), default="ray")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}, expected at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
