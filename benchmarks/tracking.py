"""Whether the tracking reward prefers real motion to what only looks like it: 15 clips, each with ten corruptions.

    python -m benchmarks.tracking [--engine mujoco] [--clips walk run] [--seconds 3] [--json PATH] [--check]

    root_still     the body moves as before and stays where it is
    jitter_1cm     every joint moves by a centimetre (standard deviation), anew in each frame; jitter_3cm by three
    hover          the body is lifted by up to 25 cm, up and down in 1.5 s
    float          it is 30 cm above the floor
    slide          it moves sideways by 1 m/s
    freeze         the first pose throughout
    shuffle        the same frames in random order
    mirrored_leg   the left leg does what the right leg does
    half_in_place  half as fast, and the body stays where it is

A corruption beats a clip if its reward is at least that of the real motion. Targets: none does, on any clip, and every
real clip has more than .5. With `--check` the exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from motions.base.atomic import atomic_write
from motions.data.prompts import Prompt, Segment
from motions.humanoid.mocap import CLIP_NAMES, load_clip
from motions.humanoid.retarget import retarget
from motions.skeleton.features import extract_features
from motions.skeleton.skeletons import HUMANML3D
from rewards.physics.tracking import TrackingScorer
from rewards.settings import RewardSettings
from rollouts.messages import GroupMotions

ROOT_VELOCITY, ROOT_HEIGHT = slice(1, 3), 3
POSITIONS = slice(4, 4 + 3 * (HUMANML3D.num_joints - 1))
"""Columns of HumanML3D's features: velocity of the root over the ground in metres per frame, its height, and the
positions of the other joints in the root's frame, from which the scorer recovers the joints."""
LEG = ("hip", "knee", "ankle", "foot")
REAL = "real"
LEAST_REAL = 0.5

Scores = dict[str, dict[str, float]]
"""Reward of every variant of every clip."""


def real_motion(clip: str, seconds: float) -> np.ndarray:
    """Features [T, 263] of a built-in clip, repeated for some seconds if it is cyclic."""
    source = load_clip(clip)
    frames = int((seconds if source.cyclic else min(seconds, source.duration)) * HUMANML3D.fps) + 1
    joints = retarget(source.pose(torch.arange(frames) / HUMANML3D.fps)).numpy()
    return extract_features(joints, HUMANML3D).astype(np.float64)


def corruptions(real: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """The ten corruptions [T, 263] of a motion's features, by name."""
    rng = np.random.default_rng(seed)
    time = np.arange(len(real)) / HUMANML3D.fps
    still = real.copy()
    still[:, :3] = 0.0
    slow = still[np.arange(len(real)) // 2].copy()
    odd = np.arange(1, len(real), 2)
    slow[odd] = (still[odd // 2] + still[np.minimum(odd // 2 + 1, len(real) - 1)]) / 2
    slide, frozen, leg = real.copy(), np.repeat(still[:1], len(real), axis=0), real.copy()
    slide[:, ROOT_VELOCITY.start] += 1.0 / HUMANML3D.fps
    positions = leg[:, POSITIONS].reshape(len(real), -1, 3)
    for part in LEG:
        left, right = (HUMANML3D.index(f"{side}_{part}") - 1 for side in ("left", "right"))
        positions[:, left] = positions[:, right] * np.array([-1.0, 1.0, 1.0])
    leg[:, POSITIONS] = positions.reshape(len(real), -1)
    return {
        "root_still": still,
        "jitter_1cm": _jittered(real, 0.01, rng),
        "jitter_3cm": _jittered(real, 0.03, rng),
        "hover": _raised(real, 0.25 * np.maximum(0.0, np.sin(2 * np.pi * time / 1.5))),
        "float": _raised(real, np.full(len(real), 0.3)),
        "slide": slide,
        "freeze": frozen,
        "shuffle": real[rng.permutation(len(real))],
        "mirrored_leg": leg,
        "half_in_place": slow,
    }


def _jittered(real: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """The root keeps its place over the ground."""
    moved = real.copy()
    moved[:, POSITIONS] += rng.normal(0.0, size, moved[:, POSITIONS].shape)
    moved[:, ROOT_HEIGHT] += rng.normal(0.0, size, len(real))
    return moved


def _raised(real: np.ndarray, heights: np.ndarray) -> np.ndarray:
    moved = real.copy()
    moved[:, ROOT_HEIGHT] += heights
    moved[:, POSITIONS.start + 1 : POSITIONS.stop : 3] += heights[:, None]
    return moved


def measure(scorer: TrackingScorer, clip: str, seconds: float) -> dict[str, float]:
    """Reward of a clip and of its corruptions."""
    real = real_motion(clip, seconds)
    variants = {REAL: real, **corruptions(real)}
    features = np.stack(list(variants.values())).astype(np.float32)
    prompt = Prompt(clip, (Segment(clip, len(real)),))
    group = GroupMotions(features, np.full(len(features), len(real)), prompt, 0, 0.0)
    rewards = scorer.score(group).terms["tracking"]
    return {name: round(float(value), 4) for name, value in zip(variants, rewards, strict=True)}


def missed(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What is not as it should be, a line for each clip."""
    lines = []
    for clip, own in scores.items():
        better = [name for name, value in own.items() if name != REAL and value >= own[REAL]]
        low = [f"real {own[REAL]:.2f}, at most {LEAST_REAL}"] if own[REAL] <= LEAST_REAL else []
        if better or low:
            lines.append(f"{clip}: {', '.join([*low, *(f'{name} {own[name]:.2f}' for name in better)])}")
    return lines


def table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table, a line for each clip, and how many corruptions real motion beats."""
    names = list(next(iter(scores.values())))
    lines = [f"| clip | {' | '.join(names)} | beaten |", "|---" * (len(names) + 2) + "|"]
    for clip, own in scores.items():
        beaten = sum(own[name] < own[REAL] for name in names if name != REAL)
        lines.append(f"| {clip} | {' | '.join(f'{own[name]:.2f}' for name in names)} | {beaten} |")
    means = (np.mean([own[name] for own in scores.values()]) for name in names)
    lines.append(f"| mean | {' | '.join(f'{value:.2f}' for value in means)} | |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("mujoco", "bullet"), default="mujoco")
    parser.add_argument("--clips", nargs="+", choices=CLIP_NAMES, default=CLIP_NAMES, metavar="CLIP")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    settings = RewardSettings.of(use_tracking_reward=True, tracking_engine=options.engine)
    scorer = TrackingScorer(settings, HUMANML3D)
    scores: Scores = {}
    for clip in options.clips:
        scores[clip] = measure(scorer, clip, options.seconds)
        if options.json is not None:
            with atomic_write(options.json) as file:
                file.write(json.dumps(scores, indent=1).encode())
    print(table(scores))
    lines = missed(scores)
    print(f"missed on {len(lines)} of {len(scores)} clips: {'; '.join(lines)}" if lines else "all targets met")
    return int(options.check and bool(lines))


if __name__ == "__main__":
    sys.exit(main())
