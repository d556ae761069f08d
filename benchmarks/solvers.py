"""Which sampler generates best in how many steps: FID, reward and time of the base policy by solver and steps.

    python -m benchmarks.solvers [--prompts 64] [--replications 3] [--output docs/results] [--check] [OPTIONS]

Every row is the policy as it is before a training, on the same held-out captions and, solver by solver, from the same
initial noise: ancestral sampling (`ddpm` with noise in every step but the last), DDIM without noise, and DPM-Solver++
(`dpmpp_2m`). A replication is another seed of the noise; figures are means over replications, beside them half the
width of a 95 % interval (1.96 standard errors). Policy, data, reward and judge are those of preset `demo`, single
prompts without composites, unless OPTIONS of `jobs.grpo` say otherwise. FID is to the real held-out windows, in the
embedding of the judge. Seconds are process times of one motion.

Prompts and noise are those of a seed on which nothing was chosen. Target: the FID of ten steps of DPM-Solver++ is at
most 1.05 times that of fifty ancestral steps; with --check, missing it gives exit code 1 and is said on the last line.
Writes `solvers.json` and `solvers.png` to --output.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning import write_json
from cluster.records.curves import draw_comparisons
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_prompts import evaluation_prompts, load_matching_dataset
from motions.data.prompts import Prompt
from rewards.evaluation.comparison import figures
from rewards.evaluation.text import embed_clips, load_judge, measure
from rewards.mixing import combine
from rewards.scorers import build_scorers
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.worker import generate
from rollouts.text.encoders import TextEncoder

EVAL_SEED = 61_903
"""Of prompts and noise; no sampler and no option was chosen on it."""
NUM_SAMPLES = 2
NAMES = {"ddpm": "ancestral (DDPM)", "ddim": "DDIM", "dpmpp_2m": "DPM-Solver++ (2M)"}
STEPS = {"ddpm": (5, 10, 20, 50), "ddim": (5, 10, 20, 50), "dpmpp_2m": (5, 10, 15, 20, 50)}
TARGET, GOAL, MAX_RATIO = ("dpmpp_2m", 10), ("ddpm", 50), 1.05
SHOWN = ("fid", "total", "judge_matching", "low_foot_skate", "jerk_mps3", "seconds")
DRAWN = {"fid": "FID by denoising steps, lower is better", "total": "total reward by denoising steps"}

Row = dict[str, Any]


class Bench:
    """What all rows share.

    Args:
        prompts: held-out captions.
    """

    def __init__(
        self, config: GRPOConfig, policy: DiffusionPolicy, encoder: TextEncoder, prompts: Sequence[Prompt]
    ) -> None:
        skeleton = policy.skeleton
        self._config, self._policy, self._encoder, self._prompts = config, policy, encoder, prompts
        self._scorers = [build() for build in build_scorers(config.rewards, skeleton, config.policy).values()]
        judge = load_judge(config.evaluation.judge_path, skeleton, config.policy)
        assert judge is not None, "parse_arguments requires a judge"
        self._judge: Embedder = judge
        held_out = load_matching_dataset(config, skeleton).items("test")
        self._real = embed_clips(judge, [item.features for item in held_out])

    def figures(self, sampler: str, steps: int, seed: int) -> dict[str, float]:
        """Figures of one replication."""
        way = dataclasses.replace(self._config.sampling.denoising, sampler=sampler, sampling_steps=steps)
        acting = self._policy.denoising(way)
        started = time.process_time()
        groups = generate(acting, self._encoder, self._prompts, NUM_SAMPLES, seed, stochastic=sampler == "ddpm")
        seconds = (time.process_time() - started) / (NUM_SAMPLES * len(groups))
        settings = self._config.rewards
        mixed = [combine([s.score(group) for s in self._scorers], settings, group.prompt.text) for group in groups]
        found = figures(measure(groups, mixed, self._policy.skeleton, self._judge), self._real)
        return {name: value for name, value in {**found, "seconds": seconds}.items() if name in SHOWN}

    def row(self, sampler: str, steps: int, seeds: Sequence[int]) -> Row:
        """Means over replications, and half the widths of their intervals."""
        each = [self.figures(sampler, steps, seed) for seed in seeds]
        values = {name: np.array([found[name] for found in each]) for name in SHOWN if name in each[0]}
        spread = {name: 1.96 * _standard_error(own) for name, own in values.items()}
        means = {name: float(own.mean()) for name, own in values.items()}
        return {"sampler": sampler, "steps": steps, "means": means, "half_widths": spread}


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes JSON and picture, and returns the exit code."""
    options, config = parse_arguments(arguments)
    torch.set_num_threads(config.cluster.threads_per_actor)
    policy = load_policy(config.policy, config.sampling)
    prompts = evaluation_prompts(config, policy.skeleton)
    bench = Bench(config, policy, load_policy_text_encoder(config.policy), prompts)
    seed = config.evaluation.eval_seed
    seeds = range(seed, seed + options.replications)
    most = policy.denoising(dataclasses.replace(config.sampling.denoising, sampling_steps=None)).num_steps
    ways = [(name, steps) for name in STEPS for steps in sorted({min(steps, most) for steps in STEPS[name]})]
    rows: dict[tuple[str, int], Row] = {}
    for name, steps in ways:
        rows[name, steps] = bench.row(name, steps, seeds)
        print(line(rows[name, steps]), flush=True)
    missed = missed_target(rows, most)
    motions = {"prompts": len(prompts), "samples": NUM_SAMPLES, "replications": options.replications}
    options.output.mkdir(parents=True, exist_ok=True)
    document = {"missed": missed, "motions": motions, "rows": list(rows.values()), "config": config.flat()}
    write_json(options.output / "solvers.json", document)
    draw_comparisons(options.output / "solvers.png", {title: curves(rows, name) for name, title in DRAWN.items()})
    print("\n".join(missed) or "the target is met")
    return 1 if options.check and missed else 0


def line(row: Row) -> str:
    """A row of the table."""
    cells = [f"{name} {row['means'][name]:.4g} +-{row['half_widths'][name]:.2g}" for name in row["means"]]
    return f"{NAMES[row['sampler']]:<18} {row['steps']:>3} steps  " + "  ".join(cells)


def missed_target(rows: Mapping[tuple[str, int], Row], most: int) -> list[str]:
    """One phrase if the target is missed, with the difference.

    Args:
        most: steps of the policy's model.
    """
    few, many = (rows[name, min(steps, most)]["means"]["fid"] for name, steps in (TARGET, GOAL))
    if few <= MAX_RATIO * many:
        return []
    return [
        f"missed: FID {few:.3f} of {TARGET[1]} steps of {NAMES[TARGET[0]]} is {few / many:.3f} times the {many:.3f} of "
        f"{GOAL[1]} ancestral steps, {few / many - MAX_RATIO:.3f} too much"
    ]


def curves(rows: Mapping[tuple[str, int], Row], name: str) -> dict[str, list[tuple[float, float]]]:
    """Points (steps, mean) of a figure for each solver."""
    return {
        label: [(steps, row["means"][name]) for (own, steps), row in rows.items() if own == sampler]
        for sampler, label in NAMES.items()
    }


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, GRPOConfig]:
    """The benchmark's options and the job's."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.solvers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=64, help="number of held-out captions")
    parser.add_argument("--replications", type=int, default=3, help="seeds of the noise")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder for JSON and PNG")
    parser.add_argument("--check", action="store_true", help="exit 1 when the target is missed")
    options, words = parser.parse_known_args(arguments)
    for name, least in (("prompts", 2), ("replications", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}, expected at least {least}")
    own = {"preset": "demo", "composite_fraction": 0, "eval_seed": EVAL_SEED}
    defaults = [f"--{name}={value}" for name, value in own.items() if not any(w.startswith(f"--{name}") for w in words)]
    fixed = ["--save_dir=unused", f"--num_eval_prompts={options.prompts}"]
    try:
        config = cli.parse(GRPOConfig, [*fixed, *defaults, *words], "jobs.grpo").settings
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    if config.evaluation.judge_path == "none":
        parser.error("--judge_path is none; the FID needs a judge")
    return options, config


if __name__ == "__main__":
    sys.exit(main())
