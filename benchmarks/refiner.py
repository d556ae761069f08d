"""What a refiner (PhysicsSSM) does to motions, and what its gate is worth.

    python -m benchmarks.refiner [--seeds 3] [--measure_seed N] [--check] [--json PATH] [OPTIONS]

Refiners of several forms are trained as preset `refiner_small` says (the built-in data), each with every seed:

    gate        o = g * s + (1 - g) * k, k an embedding of the physics state
    projected   the same, k an embedding of what a rule would mend (filtered, on the floor, feet planted)
    concat      o = W [s ; e ; k]
    none        o = s: no physics input
    lambda 0    gate, without physics losses

and measured on three sets of motions, before and after:

    corrupted   64 held-out windows that were sunk or lifted, slid and shaken
    real        the same windows as they were
    samples     motions of the built-in policy for held-out captions

    slide_mps       horizontal speed of feet that stand, by the data's contacts (of samples: by the sample's)
    penetration_mm  depth of the lowest joint below the floor; float_mm: its height while a foot stands
    jerk_mps3       of the joints
    error_mm        distance of joints from the real ones; of real windows and samples: how far they were moved
    way_back        share of the way from the corrupted value back to the real one that the refined one has gone
    judge           the built-in judge's cosine of caption and sample

`--measure_seed` draws the windows, their corruption, the captions and the noise of the samples.

One row is of the rule alone. With `--json` rows that the file holds are not trained again. `--check` compares with the
targets, for form `projected`, which is the preset's: corrupted windows at least 85 % of the way back in all four, a
smaller joint error, real windows moved by less than 5 mm, and a judge's score that falls by at most 0.01; each in all
seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning import write_json
from jobs.command_line import main as cli
from jobs.ssm.refiner_settings import PhysicsSSMConfig
from jobs.ssm.refiner_training import prepare
from learners.physics_losses import joint_jerks, violations
from learners.refining.corruption import corrupted
from motions.data.dataset import load_dataset
from motions.data.text_motion import sample_batch
from motions.skeleton.features import FeatureLayout, recover_joints
from motions.skeleton.skeletons import HUMANML3D
from rewards.evaluation.text import judge_group, load_judge
from rewards.tmr.scorer import Embedder
from rollouts.checkpoints.loading import load_policy, load_policy_text_encoder
from rollouts.diffusion.worker import generate
from rollouts.messages import GroupMotions
from rollouts.refining.projection import planted_features
from rollouts.refining.refiner import Refiner
from rollouts.settings import PolicySettings, SamplingSettings

FORMS: dict[str, dict[str, object]] = {
    "gate": {"constraints": "state"},
    "projected": {"constraints": "projected"},
    "concat": {"gate": "concat", "constraints": "state"},
    "none": {"gate": "none", "constraints": "state"},
    "lambda 0": {"lambda_physics": 0, "constraints": "state"},
}
"""The network's form; all else is the preset's."""
PRESET_FORM = "projected"
"""The form of preset `refiner_small`, of which `--check` is."""
NUM_WINDOWS, WINDOW_FRAMES, MEASURE_SEED = 64, 48, 5
NUM_SAMPLES = 2
QUANTITIES = ("slide_mps", "penetration_mm", "float_mm", "jerk_mps3")
LEAST_WAY_BACK, MOST_MOVED_MM, MOST_JUDGE_LOST = 0.85, 5.0, 0.01

Figures = dict[str, float]


@dataclass(frozen=True)
class Motions:
    """Motions to refine, and what they are compared with."""

    features: torch.Tensor
    """[N, T, D], physical."""
    mask: torch.Tensor
    """[N, T] bool."""
    real: torch.Tensor
    """[N, T, D]: the real motions; of samples they themselves."""

    def refined(self, refiner: Refiner) -> torch.Tensor:
        """What a refiner makes of them."""
        return torch.from_numpy(refiner.refine(self.features.numpy(), self.mask.sum(dim=1).numpy()))

    def figures(self, features: torch.Tensor) -> Figures:
        """The quantities of motions in their place, means over motions."""
        joints, real = (recover_joints(each, HUMANML3D) for each in (features, self.real))
        contacts = self.real[..., FeatureLayout(HUMANML3D.num_joints).contacts] > 0.5
        found = violations(joints, real, contacts, self.mask, HUMANML3D)
        windows = self.mask[:, 3:]
        jerks = torch.where(windows, joint_jerks(joints, HUMANML3D).mean(dim=2), 0.0).sum(dim=1)
        errors = torch.where(self.mask, (joints - real).norm(dim=3).mean(dim=2), 0.0).sum(dim=1)
        return {
            "slide_mps": float(found["slide_mps"].mean().mean()),
            "penetration_mm": 1e3 * float(found["penetration_m"].mean().mean()),
            "float_mm": 1e3 * float(found["float_m"].mean().mean()),
            "jerk_mps3": float((jerks / windows.sum(dim=1)).mean()),
            "error_mm": 1e3 * float((errors / self.mask.sum(dim=1)).mean()),
        }


@dataclass(frozen=True)
class Measures:
    """The three sets of motions, and who judges the samples."""

    corrupted: Motions
    real: Motions
    samples: Motions
    groups: Sequence[GroupMotions]
    judge: Embedder

    def judged(self, groups: Sequence[GroupMotions]) -> float:
        """Mean cosine of captions and motions."""
        return float(np.mean([judge_group(self.judge, group)[0].mean() for group in groups]))

    def before(self) -> dict[str, Figures]:
        """Figures of the motions as they are, and of the rule alone."""
        ruled = planted_features(self.corrupted.features, HUMANML3D, self.corrupted.mask)
        kept = planted_features(self.real.features, HUMANML3D, self.real.mask)
        return {
            "real": self.real.figures(self.real.features),
            "corrupted": self.corrupted.figures(self.corrupted.features),
            "samples": self.samples.figures(self.samples.features) | {"judge": self.judged(self.groups)},
            "rule, corrupted": self.corrupted.figures(ruled),
            "rule, real": self.real.figures(kept),
        }

    def after(self, refiner: Refiner) -> dict[str, Figures]:
        """Figures of the refined motions."""
        before = self.before()
        found = {name: each.figures(each.refined(refiner)) for name, each in vars(self).items() if name in before}
        for name in QUANTITIES:
            bad, good = before["corrupted"][name], before["real"][name]
            found["corrupted"][f"way_back/{name}"] = (bad - found["corrupted"][name]) / (bad - good)
        found["samples"]["judge"] = self.judged(refiner.refine_groups(self.groups))
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, measures, prints and writes all rows; returns the exit code."""
    options, words = parse_arguments(arguments)
    torch.set_num_threads(1)
    made_with = [f"--measure_seed={options.measure_seed}", f"--prompts={options.prompts}", *words]
    held: dict[str, Any] = {"options": made_with}
    if options.json and options.json.is_file():
        held = json.loads(options.json.read_text())
    if held["options"] != made_with:
        print(f"{options.json} holds rows of other options: {' '.join(held['options']) or 'none'}", file=sys.stderr)
        return 2
    measures = make_measures(options.prompts, options.measure_seed)
    before = measures.before()
    rows: dict[str, dict[str, Figures]] = dict(held.get("rows", {}))
    for name, row in before.items():
        show(name, row)
    for seed in range(options.seeds):
        for form, changes in FORMS.items():
            label = f"{form}, seed {seed}"
            if form not in options.forms:
                continue
            if label not in rows:
                rows[label] = train_and_measure(configuration({**changes, "seed": seed}, words), measures)
                if options.json:
                    write_json(options.json, {"before": before, "rows": rows, "options": made_with})
            for name, row in rows[label].items():
                show(f"{label}: {name}", row)
    for form in options.forms:
        for name, row in means(form, rows).items():
            show(f"{form}, mean: {name}", row)
    if not options.check:
        return 0
    missed = misses([row for label, row in rows.items() if label.startswith(f"{PRESET_FORM},")], before)
    print("\n".join(missed) or "all targets are met")
    return int(bool(missed))


def configuration(changes: Mapping[str, object], words: Sequence[str]) -> PhysicsSSMConfig:
    """A training by the preset and options of `jobs.train_physics_ssm`."""
    own = [f"--{name}={value}" for name, value in changes.items()]
    given = ["--preset", "refiner_small", "--save_dir=unused", *own, *words]
    return cli.parse(PhysicsSSMConfig, given, "jobs.train_physics_ssm").settings


def train_and_measure(config: PhysicsSSMConfig, measures: Measures) -> dict[str, Figures]:
    """Trains a refiner and measures it."""
    prepared = prepare(config)
    learner, started = prepared.learner, time.process_time()
    metrics: Mapping[str, float] = {}
    for step in range(prepared.num_steps):
        metrics = learner.update(prepared.batches.batch(step))
    training = {"steps": prepared.num_steps, "cpu_seconds": time.process_time() - started}
    training |= {name: metrics[name] for name in ("gate_mean", "gate_std") if name in metrics}
    return {"training": training, **measures.after(learner.refiner)}


def make_measures(num_prompts: int, seed: int) -> Measures:
    """Held-out windows, corrupted ones, and samples of the built-in policy."""
    dataset = load_dataset("builtin")
    windows = [item for item in dataset.items("test") if item.num_frames >= WINDOW_FRAMES]
    batch = sample_batch(windows, np.random.default_rng(seed), NUM_WINDOWS, WINDOW_FRAMES)
    real = torch.from_numpy(batch.features)
    mask = torch.ones(real.shape[:2], dtype=torch.bool)
    worse = corrupted(real, HUMANML3D, mask, np.random.default_rng(seed), whole=True)
    settings = PolicySettings(use_lora=False)
    policy = load_policy(settings, SamplingSettings(sampler="dpmpp_2m", sampling_steps=10, device="cpu"))
    prompts = dataset.prompts("test", num_prompts, rng=np.random.default_rng(seed), distinct=True)
    groups = generate(policy, load_policy_text_encoder(settings), prompts, NUM_SAMPLES, seed)
    lengths = torch.from_numpy(np.concatenate([group.lengths for group in groups]))
    made = torch.zeros(len(lengths), int(lengths.max()), HUMANML3D.num_features)
    for row, motion in zip(made, (one for group in groups for one in group.features), strict=True):
        row[: len(motion)] = torch.from_numpy(motion)
    shown = torch.arange(made.shape[1]) < lengths[:, None]
    judge = load_judge("builtin", HUMANML3D)
    assert judge is not None
    return Measures(Motions(worse, mask, real), Motions(real, mask, real), Motions(made, shown, made), groups, judge)


def means(form: str, rows: Mapping[str, Mapping[str, Figures]]) -> dict[str, Figures]:
    """Means of a form's figures over its seeds."""
    own = [row for label, row in rows.items() if label.startswith(f"{form}, seed")]
    if not own:
        return {}
    return {
        part: {name: float(np.mean([row[part][name] for row in own])) for name in figures}
        for part, figures in own[0].items()
    }


def misses(rows: Sequence[Mapping[str, Figures]], before: Mapping[str, Figures]) -> list[str]:
    """The targets that are missed, with the worst figure of all seeds."""
    worst_way = {name: min(row["corrupted"][f"way_back/{name}"] for row in rows) for name in QUANTITIES}
    missed = [
        f"missed: way_back of {name} is {way:.2f}, target {LEAST_WAY_BACK}"
        for name, way in worst_way.items()
        if way < LEAST_WAY_BACK
    ]
    error = max(row["corrupted"]["error_mm"] for row in rows)
    if error >= before["corrupted"]["error_mm"]:
        missed.append(f"missed: the joint error is {error:.0f} mm, and was {before['corrupted']['error_mm']:.0f}")
    moved = max(row["real"]["error_mm"] for row in rows)
    if moved >= MOST_MOVED_MM:
        missed.append(f"missed: real windows move by {moved:.1f} mm, target below {MOST_MOVED_MM:g}")
    lost = before["samples"]["judge"] - min(row["samples"]["judge"] for row in rows)
    if lost > MOST_JUDGE_LOST:
        missed.append(f"missed: the judge's score falls by {lost:.3f}, target at most {MOST_JUDGE_LOST}")
    return missed


def show(name: str, row: Mapping[str, float]) -> None:
    """Prints a row."""
    print(f"{name:<30} " + "  ".join(f"{key} {value:.3g}" for key, value in row.items()), flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The benchmark's options, and words for the job."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.refiner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each form")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--prompts", type=int, default=24, help="held-out captions for the policy's samples")
    parser.add_argument("--measure_seed", type=int, default=MEASURE_SEED, help="seed of the motions to refine")
    parser.add_argument("--json", type=Path, help="file for all figures, whose rows are not trained again")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options, words = parser.parse_known_args(arguments)
    if min(options.seeds, options.prompts) < 1:
        parser.error("--seeds and --prompts must be above 0")
    if options.check and PRESET_FORM not in options.forms:
        parser.error(f"--check is of form {PRESET_FORM}, the preset's")
    try:
        configuration({}, words)
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    return options, words


if __name__ == "__main__":
    sys.exit(main())
