"""Memory and speed of losses that follow a reward's gradient, on one learner in a process of its own for each figure.

    python -m benchmarks.tuning [--repeats 2] [--width 256] [--json PATH] [--check]

Work: an update of 4 motions of 120 frames by a network of 256 x 4 layers with random weights, all of which are trained,
unguided, with the built-in TMR as the reward; rollouts included. Contenders:

    easytune-5, easytune-50   step-aware tuning of all of 5 and of 50 denoising steps
    draft-50                  the gradient through all of 50 steps
    draft-50-again            the same, with steps computed again for the gradient
    draft-1, refl-50, opsd-50 the gradient through one of 50 steps
    grpo-50, awm-50           without a gradient of the reward: GRPO of the first of 50 steps, matching at the noisiest

Memory is the resident set of the process: its peak in the update, and `extra`, the peak less what was there before it.
Speed is optimizer steps per second of process time (on a shared machine that repeats, wall time does not), the fastest
of the repeated updates; a step of easytune trains one denoising step, one of the others the whole update, so seconds of
an update are listed too.

Targets: the peak of easytune-50 within 10 % of that of easytune-5; its extra at most a third of that of draft-50; at
least 3 times the optimizer steps per second. With --check a missed target gives exit code 1 and is named on the last
line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from learners.grpo.gradients.loss import gradient_kind
from learners.grpo.learner import GRPOLearner
from learners.grpo.motion_loss import reads_motions
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rewards.gradients import build_rewards
from rewards.settings import RewardSettings
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.settings import SamplingSettings

FLAT, EXTRA_SHARE, SPEED = 1.1, 1.0 / 3.0, 3.0
NUM_MOTIONS = 4
MEGABYTE = 2**20

CONTENDERS: dict[str, tuple[int, dict[str, Any]]] = {
    "easytune-5": (5, {"policy_loss": "easytune"}),
    "easytune-50": (50, {"policy_loss": "easytune"}),
    "draft-50": (50, {"policy_loss": "draft", "draft_steps": 50}),
    "draft-50-again": (50, {"policy_loss": "draft", "draft_steps": 50, "gradient_checkpointing": True}),
    "draft-1": (50, {"policy_loss": "draft", "draft_steps": 1}),
    "refl-50": (50, {"policy_loss": "refl"}),
    "opsd-50": (50, {"policy_loss": "opsd"}),
    "grpo-50": (50, {"policy_loss": "clipped"}),
    "awm-50": (50, {"policy_loss": "awm"}),
}
"""Denoising steps and options of each."""


def measure(name: str, width: int, frames: int, repeats: int) -> dict[str, float]:
    """Figures of one contender, in this process."""
    torch.set_num_threads(1)
    num_steps, options = CONTENDERS[name]
    config = MDMConfig(
        latent_dim=width,
        ff_size=2 * width,
        num_layers=4,
        num_heads=4,
        text_dim=8,
        max_positions=max(frames, num_steps) + 1,
    )
    zeros, ones = (np.full(HUMANML3D.num_features, value, np.float32) for value in (0.0, 1.0))
    sampling = SamplingSettings.model_validate({"device": "cpu", "guidance_scale": 1.0})
    policy = DiffusionPolicy(
        MDM(config), DiffusionSchedule("cosine", num_steps), Normalizer(zeros, ones), HUMANML3D, sampling
    )
    settings = GRPOSettings.model_validate({"group_size": NUM_MOTIONS, "learning_rate": 1e-6, **options})
    reward = build_rewards(RewardSettings(), HUMANML3D)
    reference = DiffusionPolicy(policy.network, policy.schedule, policy.normalizer, HUMANML3D, sampling)
    worker, kind = RolloutWorker(policy), gradient_kind(settings)
    learner = GRPOLearner(policy, settings, reference=reference, reward=None if kind is None else reward)
    trained = (0,) if kind is None and not reads_motions(settings) else ()
    seconds, peaks, extras, metrics = [], [], [], {}
    for step in range(repeats):
        request = RolloutRequest(
            step=step,
            prompt_index=0,
            prompt=Prompt("a person walks", (Segment("a person walks", frames),)),
            condition=TextCondition(np.ones((1, 8), np.float32)),
            num_samples=NUM_MOTIONS,
            seed=0,
            stochastic_steps=trained,
            trained_steps=trained,
            share_initial_noise=False,
            policy_version=step,
            keep_motions=kind is None,
            kept_steps=() if kind is None else kind.positions(settings, num_steps, np.random.default_rng(step)),
        )
        before = _reset_peak()
        started = time.process_time()
        motions, trajectory = worker.run(request, learner.version())
        if kind is None:
            with torch.no_grad():
                reward(torch.from_numpy(np.array(motions.features)), torch.from_numpy(motions.lengths), request.prompt)
        metrics = learner.update([trajectory], np.linspace(-1.0, 1.0, NUM_MOTIONS, dtype=np.float32)[None])
        seconds.append(time.process_time() - started)
        peaks.append(_status("VmHWM"))
        extras.append(peaks[-1] - before)
    update = min(seconds)
    return {
        "peak_mb": max(peaks) / MEGABYTE,
        "extra_mb": max(extras) / MEGABYTE,
        "update_seconds": update,
        "optimizer_steps": metrics["num_optimizer_steps"],
        "steps_per_second": metrics["num_optimizer_steps"] / update,
    }


def _status(key: str) -> int:
    """Bytes that /proc says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _reset_peak() -> int:
    """Begins a new peak of the resident set; its size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def missed_targets(figures: dict[str, dict[str, float]]) -> list[str]:
    """A phrase for each target that was missed."""
    few, many, whole = (figures[name] for name in ("easytune-5", "easytune-50", "draft-50"))
    missed = []
    if (ratio := many["peak_mb"] / few["peak_mb"]) > FLAT:
        missed.append(f"peak of easytune with 50 steps {ratio:.2f} times that with 5 (at most {FLAT})")
    if (share := many["extra_mb"] / whole["extra_mb"]) > EXTRA_SHARE:
        missed.append(f"extra memory of easytune {share:.2f} of draft's (at most {EXTRA_SHARE:.2f})")
    if (speed := many["steps_per_second"] / whole["steps_per_second"]) < SPEED:
        missed.append(f"optimizer steps per second of easytune {speed:.1f} times draft's (at least {SPEED:g})")
    return missed


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and judges; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--contender", choices=CONTENDERS, help="measure this one in this process, print JSON")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats is at least 1")
    if options.contender:
        print(json.dumps(measure(options.contender, options.width, options.frames, options.repeats)))
        return 0
    sizes = [f"--{name}={getattr(options, name)}" for name in ("repeats", "width", "frames")]
    figures: dict[str, dict[str, float]] = {}
    print(f"{'':16}{'peak MB':>9}{'extra MB':>10}{'s/update':>10}{'opt. steps':>12}{'steps/s':>9}")
    for name in CONTENDERS:
        command = [sys.executable, "-m", "benchmarks.tuning", "--contender", name, *sizes]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures[name] = found = json.loads(output.splitlines()[-1])
        print(
            f"{name:16}{found['peak_mb']:9.0f}{found['extra_mb']:10.0f}{found['update_seconds']:10.2f}"
            f"{found['optimizer_steps']:12.0f}{found['steps_per_second']:9.2f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    missed = missed_targets(figures)
    print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
