"""Whether GRPO learns: the training of the demonstration for several seeds, measured on held-out captions.

    python -m benchmarks.learning --seeds 3 [--eval_seed N] [--json PATH] [--save_dir DIR] [--runtime local] [--check]
    python -m benchmarks.learning --policy motion_ssm --seeds 3 --check      (see benchmarks/one_action.py)
    python -m benchmarks.learning --policy physics_ssm --seeds 3 --check     (see benchmarks/refining_policy.py)

Each seed is one run of `jobs.grpo` with preset `demo`; evaluation prompts and noise are the same for all of them, and
hence the base policy's results. They are fresh: the evaluation's seed is drawn anew each time, and said, unless it is
given, because the preset was chosen by what it did on the prompts of its own. Targets, for every seed:

Of the policy as it ships against the untouched base as it was, which reads a composite prompt as one text:
    total            at least .66 over all prompts
    logic_accuracy   at least .90 of the segments of composite prompts resemble their own text most
    fid              at most .6 times that of the base, at its best sampler
    low_foot_skate   at most .7 times that of the base, at its best sampler

Of the learning alone, against the base that acts in the same way:
    total            rises by at least .06 on single and on composite prompts alike, and the paired 95 % confidence
                     interval of the rise (bootstrap over clips and texts) lies above 0
    judge_matching   the matching score of a TMR that is never used as a reward rises
    second_judge     so does that of a judge of another kind
    jerk_mps3        within 10 % of the base's
    joint_speed_mps  within 10 % of the base's
    diversity_m      at least .9 times the base's, mean joint distance between samples of one prompt

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import one_action, refining_policy
from cluster.records.measured import read_json_lines
from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.demonstration import ensure_weights
from jobs.text.grpo_measurement import BASE, ONE_TEXT, TUNED
from motions.base.atomic import atomic_write

MIN_TOTAL, MIN_LOGIC_ACCURACY = 0.66, 0.9
MAX_OF_BASE = {"fid": 0.6, "low_foot_skate": 0.7}
"""Largest share of the untouched base's at its best sampler."""
MIN_RISE = 0.06
MAX_CHANGE = {"jerk_mps3": 0.1, "joint_speed_mps": 0.1}
MIN_DIVERSITY_RATIO = 0.9
FIRST_SEED = 10
SAMPLER_FIGURES = ("total", "judge_matching", "second_judge", "fid", "low_foot_skate", "jerk_mps3", "diversity_m")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all seeds, writes the JSON and returns the exit code."""
    options = parse_arguments(arguments)
    if options.policy != "diffusion":
        kind = one_action if options.policy == "motion_ssm" else refining_policy
        document, missed = kind.run_seeds(options, FIRST_SEED, train)
        for result in document["runs"]:
            print_result(result)
        return _finished(options, document, missed)
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
    return _finished(options, {"eval_seed": eval_seed, "runs": results}, missed)


def _finished(options: argparse.Namespace, document: Mapping[str, Any], missed: Sequence[str]) -> int:
    """Writes the JSON, names what was missed, and gives the exit code."""
    if options.json:
        write_json(options.json, {"missed": missed, **document})
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
    curve = read_json_lines(folder / "metrics.jsonl")
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
    checks = [*_shipped(result), *_learned(result)]
    return [f"seed {result['seed']}: {phrase}" for met, phrase in checks if not met]


def _shipped(result: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """What ships, against the untouched base."""
    total = result["rows"]["total"]["after"]
    yield total >= MIN_TOTAL, f"total reward is {total:.3f}, {MIN_TOTAL - total:.3f} too little"
    if "composite" in result["kinds"]:
        own = result["kinds"]["composite"]["logic_accuracy"]["after"]
        yield own >= MIN_LOGIC_ACCURACY, f"logic_accuracy is {own:.3f}, {MIN_LOGIC_ACCURACY - own:.3f} too little"
    untouched = [row["figures"] for row in result["samplers"] if row["policy"] == BASE and ONE_TEXT in row["note"]]
    if not untouched:
        return
    tuned = next(row["figures"] for row in result["samplers"] if row["policy"] == TUNED)
    for name, most in MAX_OF_BASE.items():
        ratio = tuned[name] / min(figures[name] for figures in untouched)
        yield ratio <= most, f"{name} is {ratio:.2f}x that of the untouched base, {ratio - most:.2f} too much"


def _learned(result: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """What was learned, against the base that acts in the same way."""
    for kind, rows in result["kinds"].items():
        total = rows["total"]
        rise, low = total["after"] - total["before"], total["interval"][0]
        yield rise >= MIN_RISE, f"total reward of {kind} prompts rose by {rise:.3f}, {MIN_RISE - rise:.3f} too little"
        yield low > 0.0, f"the interval of its rise of {kind} prompts begins at {low:.4f}, {-low:.4f} below 0"
    rows = result["rows"]
    for name in ("judge_matching", "second_judge"):
        change = rows[name]["after"] - rows[name]["before"]
        yield change > 0.0, f"{name} changed by {change:+.4f}"
    for name, most in MAX_CHANGE.items():
        change = rows[name]["after"] / rows[name]["before"] - 1.0
        yield abs(change) <= most, f"{name} changed by {change:+.1%}, {abs(change) - most:.1%} too much"
    ratio = rows["diversity_m"]["after"] / rows["diversity_m"]["before"]
    yield ratio >= MIN_DIVERSITY_RATIO, f"diversity is {ratio:.3f}x, {MIN_DIVERSITY_RATIO - ratio:.3f} too little"


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
    parser.add_argument(
        "--policy", choices=("diffusion", "motion_ssm", "physics_ssm"), default="diffusion", help="kind of policy"
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
