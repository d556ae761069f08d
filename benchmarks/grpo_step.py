"""One GRPO step of MDM-GRPO's kind beside ours: samples per second and peak memory, a process for each figure.

    python -m benchmarks.grpo_step [--measured_steps 8] [--json PATH] [--check]

Work: rollout, scoring and one optimizer step for 4 motions of 196 frames of one prompt, by a network of MDM's
published size (512 x 8 layers, 17.9 M random weights, all of them trained) with its 50 denoising steps, unguided.
Rewards are left out of all. Contenders:

    plain    a plain loop, as MDM-GRPO has it: torch's own modules in training mode, an ancestral rollout of all
             50 steps that keeps its graph, the log-probability of the whole trajectory once more by the policy and by a
             second network, one backward through the 100 graphs
    every    ours, with all 50 steps rolled out and every one of them trained that draws noise
    window   ours, with all 50 steps rolled out and the default window of two stochastic steps
    ours     what preset mdm_50steps has for such a model: 20 of the 50 steps, of which three are stochastic and trained

Memory is the peak of the process's resident set, less what it was after the imports; seconds are process times of the
second of two steps on one thread. A hundred graphs of this size take tens of gigabytes: `plain` and `every`, whose
costs are linear in the number of steps, are measured with schedules of half of --measured_steps and of
--measured_steps, and drawn out to 50 along that line; --measured_steps 50 measures them as they are.

Targets: `ours` has at least 8 times the samples per second of `plain`, and at most an eighth of its memory. With
--check a missed target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.learning import write_json
from benchmarks.plain_mdm import PlainMDM
from benchmarks.sampling import environment
from learners.grpo.learner import GRPOLearner
from learners.grpo.settings import GRPOSettings
from motions.data.prompts import Prompt, Segment
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.windows import trained_positions, window_positions
from rollouts.diffusion.worker import RolloutWorker
from rollouts.messages import RolloutRequest, TextCondition
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.settings import SamplingSettings

NUM_MOTIONS, NUM_STEPS = 4, 50
CONTENDERS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "every": {"sde_window": 0, "share_initial_noise": False},
    "window": {},
    "ours": {"sampling_steps": 20, "sde_window": 3, "sde_window_start": 8},
}
"""Options of the sampling; None: the plain loop."""
LINEAR = ("plain", "every")
"""Contenders whose costs are linear in the number of denoising steps."""
MIN_SPEED, MAX_MEMORY = 8.0, 1.0 / 8.0
GIGABYTE = 2**30
SEED = 0


def plain_step(config: MDMConfig, schedule: DiffusionSchedule, frames: int) -> Callable[[], None]:
    """The plain loop, ready to make steps."""
    network = PlainMDM(config)
    network.load_official(MDM(config, seed=SEED).to_file())
    reference = PlainMDM(config)
    reference.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    generator = torch.Generator().manual_seed(SEED)
    shape = (NUM_MOTIONS, frames, config.num_features)
    text = torch.ones(NUM_MOTIONS, config.text_dim)
    advantages = torch.linspace(-1.0, 1.0, NUM_MOTIONS)

    def mean_of(one: PlainMDM, x: Tensor, position: int) -> Tensor:
        i = schedule.index(position)
        x0 = one(x, torch.full((NUM_MOTIONS,), int(schedule.timestep_map[i])), text)
        return float(schedule.posterior_mean_coef1[i]) * x0 + float(schedule.posterior_mean_coef2[i]) * x

    def std_of(position: int) -> float:
        """As MDM's code clips it, the last step has that of the one before."""
        return float(schedule.posterior_variance[max(schedule.index(position), 1)]) ** 0.5

    def log_prob(one: PlainMDM, states: list[Tensor]) -> Tensor:
        """Log-probability [N] of the trajectory, but for a constant, summed over all numbers and steps."""
        total = torch.zeros(NUM_MOTIONS)
        for position in range(schedule.num_steps):
            deviation = (states[position + 1] - mean_of(one, states[position], position)) / std_of(position)
            total = total - 0.5 * deviation.square().sum(dim=(1, 2))
        return total

    def step() -> None:
        network.train()
        states = [torch.randn(shape, generator=generator)]
        for position in range(schedule.num_steps):
            noise = torch.randn(shape, generator=generator)
            states.append(mean_of(network, states[-1], position) + std_of(position) * noise)
        current = log_prob(network, states)
        with torch.no_grad():
            before = log_prob(reference, states)
        ratio = (current - before).clamp(-10.0, 10.0).exp()
        surrogate = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        loss = (current - before).mean() - surrogate.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(
    config: MDMConfig, schedule: DiffusionSchedule, frames: int, options: dict[str, Any]
) -> Callable[[], None]:
    """kinetune's rollout and update, ready to make steps."""
    sampling = SamplingSettings.model_validate({"device": "cpu", "guidance_scale": 1.0, **options})
    zeros, ones = (np.full(config.num_features, value, np.float32) for value in (0.0, 1.0))
    policy = DiffusionPolicy(MDM(config, seed=SEED), schedule, Normalizer(zeros, ones), HUMANML3D, sampling)
    settings = GRPOSettings.model_validate(
        {"group_size": NUM_MOTIONS, "learning_rate": 1e-6, "kl_penalty": 0.01, "micro_batch_size": NUM_MOTIONS}
    )
    learner, worker = GRPOLearner(policy, settings), RolloutWorker(policy)
    advantages = np.linspace(-1.0, 1.0, NUM_MOTIONS, dtype=np.float32)[None]

    def step() -> None:
        number = learner.number
        stochastic = window_positions(sampling, policy.num_steps, SEED, number)
        request = RolloutRequest(
            step=number,
            prompt_index=0,
            prompt=Prompt("a person walks", (Segment("a person walks", frames),)),
            condition=TextCondition(np.ones((1, config.text_dim), np.float32)),
            num_samples=NUM_MOTIONS,
            seed=SEED,
            stochastic_steps=stochastic,
            trained_steps=trained_positions(sampling, stochastic, SEED, number, 0),
            share_initial_noise=sampling.share_initial_noise,
            policy_version=number,
        )
        _, trajectory = worker.run(request, learner.version())
        learner.update([trajectory], advantages)

    return step


def measure(name: str, num_steps: int, config: MDMConfig, frames: int) -> dict[str, float]:
    """Seconds of a step and bytes at its peak, in this process."""
    torch.set_num_threads(1)
    schedule = DiffusionSchedule("cosine", num_steps)
    options = CONTENDERS[name]
    before = _reset_peak()
    step = plain_step(config, schedule, frames) if options is None else our_step(config, schedule, frames, options)
    step()  # makes the optimizer's state
    started = time.process_time()
    step()
    return {"seconds": time.process_time() - started, "peak_bytes": float(_status("VmHWM") - before)}


def _status(key: str) -> int:
    """Bytes that /proc says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _reset_peak() -> int:
    """Begins a new peak of the resident set; its size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def drawn_out(few: dict[str, float], many: dict[str, float], steps: tuple[int, int]) -> dict[str, float]:
    """Figures at `NUM_STEPS` on the line through those of two numbers of steps."""
    share = (NUM_STEPS - steps[0]) / (steps[1] - steps[0])
    return {name: few[name] + share * (many[name] - few[name]) for name in few}


def missed_targets(figures: dict[str, dict[str, float]]) -> list[str]:
    """A phrase for each target that was missed."""
    plain, ours = figures["plain"], figures["ours"]
    missed = []
    if (speed := plain["seconds"] / ours["seconds"]) < MIN_SPEED:
        missed.append(f"{speed:.2f} times the samples per second (at least {MIN_SPEED:g})")
    if (share := ours["peak_bytes"] / plain["peak_bytes"]) > MAX_MEMORY:
        missed.append(f"{share:.3f} of the memory (at most {MAX_MEMORY:.3f})")
    return missed


def lines(figures: dict[str, dict[str, float]]) -> list[str]:
    """The table in Markdown."""
    plain = figures["plain"]
    found = ["| | s a step | samples a second | | peak, GB | |", "|---|---|---|---|---|---|"]
    for name, own in figures.items():
        speed, memory = plain["seconds"] / own["seconds"], own["peak_bytes"] / plain["peak_bytes"]
        found.append(
            f"| {name} | {own['seconds']:.1f} | {NUM_MOTIONS / own['seconds']:.3f} | {speed:.1f}x | "
            f"{own['peak_bytes'] / GIGABYTE:.2f} | 1/{1 / memory:.1f} |"
        )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and judges; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpo_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measured_steps", type=int, default=8, help="of contenders with linear costs (default 8)")
    parser.add_argument("--width", type=int, default=512, help="of the network; targets are meant for 512")
    parser.add_argument("--layers", type=int, default=8, help="of the network; targets are meant for 8")
    parser.add_argument("--frames", type=int, default=196, help="of a motion; targets are meant for 196")
    parser.add_argument("--contender", choices=CONTENDERS, help="measure this one in this process, print JSON")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="denoising steps of --contender")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(arguments)
    if not 4 <= options.measured_steps <= NUM_STEPS:
        parser.error(f"--measured_steps is {options.measured_steps}, expected 4 to {NUM_STEPS}")
    config = MDMConfig(latent_dim=options.width, ff_size=2 * options.width, num_layers=options.layers)
    if options.contender:
        print(json.dumps(measure(options.contender, options.steps, config, options.frames)))
        return 0
    sizes = [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "frames")]

    def measured(name: str, steps: int) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.grpo_step", f"--contender={name}", f"--steps={steps}", *sizes]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(output.splitlines()[-1])

    figures: dict[str, dict[str, float]] = {}
    for name in CONTENDERS:
        if name in LINEAR and options.measured_steps < NUM_STEPS:
            steps = (options.measured_steps // 2, options.measured_steps)
            few, many = (measured(name, count) for count in steps)
            figures[name] = drawn_out(few, many, steps)
        else:
            figures[name] = measured(name, NUM_STEPS)
    print("\n".join(lines(figures)))
    missed = missed_targets(figures)
    if options.json:
        task = {"motions": NUM_MOTIONS, "frames": options.frames, "steps": NUM_STEPS, **asdict(config)}
        about = {"measured_steps": options.measured_steps, "environment": environment(torch.device("cpu"), 1)}
        write_json(options.json, {"missed": missed, "task": task, **about, "figures": figures})
    print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
