"""How composite prompts are acted on: pooled text against composed denoising, by overlap, blend, guidance and steps.

    python -m benchmarks.composites [--prompts 48] [--json PATH] [--check] [OPTIONS OF jobs.grpo]

Every row is the same policy, as it is before a training, on the same prompts and noise. Prompts are composites of two
held-out captions; one row is their real motions, joined. Policy, data and rewards are those of preset `demo`, unless
options of `jobs.grpo` say otherwise; denoising is deterministic, in 10 steps without guidance unless a row says
otherwise. Targets:
    logic_accuracy    the share of segments that resemble their own text most is .2 higher than with pooled text
    border_jerk_mps3  at most 1.2 times that of the real motions, joined

With --check, a missed target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.learning import write_json
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.grpo_prompts import load_matching_dataset
from motions.data.composites import Composer, join_motions
from motions.skeleton.skeletons import Skeleton
from rewards.evaluation.text import Evaluation, border_jerk, load_judge, measure, metre_joints
from rewards.mixing import combine
from rewards.scorers import build_scorers
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.worker import generate
from rollouts.messages import GroupMotions

NUM_SAMPLES = 4
POOLED, COMPOSED, REAL = "pooled text", "composed", "real motions, joined"
VARIANTS: dict[str, dict[str, object]] = {
    POOLED: {"composite_denoising": "pooled"},
    f"{POOLED}, guidance 2.5": {"composite_denoising": "pooled", "guidance_scale": 2.5},
    COMPOSED: {},
    f"{COMPOSED}, overlap 0": {"composite_overlap": 0},
    f"{COMPOSED}, overlap 5": {"composite_overlap": 5},
    f"{COMPOSED}, overlap 8": {"composite_overlap": 8},
    f"{COMPOSED}, blend smooth": {"composite_blend": "smooth"},
    f"{COMPOSED}, blend cut": {"composite_blend": "cut"},
    f"{COMPOSED}, guidance 1.5": {"guidance_scale": 1.5},
    f"{COMPOSED}, guidance 2.5": {"guidance_scale": 2.5},
    f"{COMPOSED}, 3 steps": {"sampling_steps": 3},
    f"{COMPOSED}, 50 steps": {"sampling_steps": 50},
}
"""How each row differs from `BASIS`."""
BASIS: dict[str, object] = {
    **{"sampling_steps": 10, "guidance_scale": 1.0, "composite_denoising": "composed"},
    **{"composite_overlap": 3, "composite_blend": "linear"},
}
TERMS = ("total", "logic_accuracy", "r_pos", "r_neg", "judge_matching", "skate", "jerk")
MIN_RISE = 0.2
MAX_JERK_RATIO = 1.2

Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes all rows; returns the exit code."""
    options, config = parse_arguments(arguments)
    torch.set_num_threads(config.cluster.threads_per_actor)
    policy = load_policy(config.policy, config.sampling)
    skeleton, seed = policy.skeleton, config.evaluation.eval_seed
    encoder = load_policy_text_encoder(config.policy)
    scorers = [build() for build in build_scorers(config.rewards, skeleton, config.policy).values()]
    judge = load_judge(config.evaluation.judge_path, skeleton, config.policy)
    items = load_matching_dataset(config, skeleton).items("test")
    composer = Composer(items, skeleton, config.rewards.max_motion_length)
    rng = np.random.default_rng(seed)
    composites = [composer.draw(rng, 2) for _ in range(options.prompts)]

    def measured(groups: Sequence[GroupMotions]) -> Figures:
        mixed = [combine([s.score(group) for s in scorers], config.rewards, group.prompt.text) for group in groups]
        return figures(measure(groups, mixed, skeleton, judge), skeleton)

    parts = [[part.features for part in composite.parts] for composite in composites]
    prompts = [composite.prompt for composite in composites]
    real = [
        GroupMotions(join_motions(own, skeleton)[None], np.array([prompt.num_frames]), prompt, 0, 0.0)
        for own, prompt in zip(parts, prompts, strict=True)
    ]
    rows = {REAL: measured(real)}
    show(REAL, rows[REAL])
    for name, changes in VARIANTS.items():
        sampling = config.sampling.model_copy(update={**BASIS, **changes})
        acting = load_policy(config.policy, sampling)
        rows[name] = measured(generate(acting, encoder, prompts, NUM_SAMPLES, seed))
        show(name, rows[name])
    missed = missed_targets(rows)
    if options.json:
        write_json(options.json, {"missed": missed, "rows": rows, "config": config.flat()})
    if options.check and missed:
        print(f"missed: {'; '.join(missed)}")
        return 1
    return 0


def figures(evaluation: Evaluation, skeleton: Skeleton) -> Figures:
    """Means over prompts and samples."""
    jerks = [
        border_jerk(metre_joints(group, skeleton), group.prompt.boundaries, skeleton.fps).mean()
        for group in evaluation.groups
    ]
    means = {name: float(evaluation.terms[name].mean()) for name in TERMS if name in evaluation.terms}
    return {**means, "border_jerk_mps3": float(np.mean(jerks))}


def show(name: str, row: Figures) -> None:
    """Prints a row."""
    print(f"{name:<26} " + "  ".join(f"{term} {value:.3g}" for term, value in row.items()), flush=True)


def missed_targets(rows: Mapping[str, Figures]) -> list[str]:
    """One phrase for every target that was missed, with the difference."""
    rise = rows[COMPOSED]["logic_accuracy"] - rows[POOLED]["logic_accuracy"]
    ratio = rows[COMPOSED]["border_jerk_mps3"] / rows[REAL]["border_jerk_mps3"]
    checks = [
        (rise >= MIN_RISE, f"logic_accuracy rose by {rise:.3f}, {MIN_RISE - rise:.3f} too little"),
        (ratio <= MAX_JERK_RATIO, f"border_jerk_mps3 is {ratio:.2f}x, {ratio - MAX_JERK_RATIO:.2f} too much"),
    ]
    return [phrase for met, phrase in checks if not met]


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, GRPOConfig]:
    """The benchmark's options and the job's."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.composites",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--prompts", type=int, default=48, help="number of composite prompts")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options, words = parser.parse_known_args(arguments)
    if options.prompts < 1:
        parser.error(f"--prompts is {options.prompts}, expected at least 1")
    preset = [] if any(word.startswith("--preset") for word in words) else ["--preset", "demo"]
    try:
        return options, cli.parse(GRPOConfig, [*preset, "--save_dir", "unused", *words], "jobs.grpo").settings
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))


if __name__ == "__main__":
    sys.exit(main())
