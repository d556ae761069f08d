"""Speed of sampling at the size of MDM's published model, compared with a loop of torch's own modules.

    python -m benchmarks.sampling [--repeats 3] [--json PATH] [--check]

Work: 4 motions of 196 frames, 512 x 8 layers (17.9 M random weights), 50 ancestral DDPM steps, guidance 2.5.
Contenders, interleaved run by run, the first run of each dropped:

        plain   two float32 forwards a step of `nn.TransformerEncoder`, a straightforward implementation
        (`plain_mdm.py`)
        fp32    kinetune's sampler: one batched forward a step, embeddings computed once
        bf16    the same with `amp_dtype` bf16

    A contender's speed is the ratio of minimal process times (wall times on a GPU): on a shared machine they repeat
    within 2 %, while wall times vary threefold. Wall times are listed too: minimum and median of whole runs, and
    `steps`, which is the number of steps times the first decile of all step times.

    Targets: fp32 at least 1.05 times as fast as plain with samples that differ by at most 1e-4; bf16 at least 2.5 times
    as fast, its deviation reported. With --check, a missed target gives exit code 1 and is named on the last line. On a
    CPU bf16 is limited by the arithmetic units: Zen 4 multiplies bfloat16 at twice its float32 rate (224 and 112
    GFLOP/s a core), and the 57 GFLOP of a guided step then take 0.26 core-seconds, where plain needs 0.65.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain_mdm import PlainMDM
from motions.skeleton.normalization import Normalizer
from motions.skeleton.skeletons import HUMANML3D
from rollouts.devices import resolve_device
from rollouts.diffusion.policy import DiffusionPolicy
from rollouts.diffusion.sampler import sample
from rollouts.diffusion.schedule import DiffusionSchedule
from rollouts.diffusion.windows import ancestral_positions
from rollouts.networks.mdm import MDM, MDMConfig
from rollouts.settings import SamplingSettings

BATCH, FRAMES, GUIDANCE = 4, 196, 2.5
SPEED_TARGETS = {"fp32": 1.05, "bf16": 2.5}
MAX_DIFFERENCE = 1e-4

Contender = Callable[[Callable[[int], Tensor]], Tensor]
"""Samples with the noise of each position, which it requests once per step, in order."""


@dataclass
class Timing:
    """Measured times of one contender over its runs, in seconds."""

    wall: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def quiet(self, num_steps: int) -> float:
        """Time of a whole run at the first decile of the step times."""
        return float(np.quantile(self.steps, 0.1)) * num_steps


@dataclass(frozen=True)
class Problem:
    """One sampling task: weights, text, noise."""

    network: MDM
    text: Tensor
    start: Tensor
    noises: Tensor
    """Noise [steps, batch, frames, features] of each step."""
    device: torch.device


def make_problem(config: MDMConfig, num_steps: int, device: torch.device, frames: int = FRAMES) -> Problem:
    """Random weights, text and noise, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, frames, config.num_features)
    return Problem(
        network=MDM(config, seed=0).to(device).eval(),
        text=torch.randn(BATCH, 1, config.text_dim, generator=generator).to(device),
        start=torch.randn(shape, generator=generator).to(device),
        noises=torch.randn(num_steps, *shape, generator=generator).to(device),
        device=device,
    )


def plain_contender(problem: Problem, schedule: DiffusionSchedule) -> Contender:
    """The baseline: two forwards a step, then the DDPM posterior."""
    network = PlainMDM(problem.network.config).to(problem.device).eval()
    network.load_official(problem.network.to_file())
    text = problem.text[:, 0]
    no_text = torch.zeros_like(text)

    @torch.no_grad()
    def run(noise: Callable[[int], Tensor]) -> Tensor:
        x = problem.start
        for position in range(schedule.num_steps):
            i = schedule.index(position)
            t = torch.full((len(x),), int(schedule.timestep_map[i]), device=problem.device)
            conditional, unconditional = network(x, t, text), network(x, t, no_text)
            x0 = unconditional + GUIDANCE * (conditional - unconditional)
            mean = float(schedule.posterior_mean_coef1[i]) * x0 + float(schedule.posterior_mean_coef2[i]) * x
            x = mean + float(schedule.posterior_variance[i]) ** 0.5 * noise(position)
        return x

    return run


def our_contender(problem: Problem, schedule: DiffusionSchedule, amp_dtype: str) -> Contender:
    """kinetune's sampler in a precision."""
    width = problem.network.config.num_features
    settings = SamplingSettings.model_validate(
        {"sampler": "ddpm", "guidance_scale": GUIDANCE, "amp_dtype": amp_dtype, "device": str(problem.device)}
    )
    policy = DiffusionPolicy(
        problem.network, schedule, Normalizer(np.zeros(width), np.ones(width)), HUMANML3D, settings
    )
    positions = ancestral_positions(schedule.num_steps)

    def run(noise: Callable[[int], Tensor]) -> Tensor:
        motions = sample(policy, problem.text, None, problem.start, noise, positions).motions
        noise(schedule.num_steps - 1)  # the plain loop draws it too, for a step that has no noise
        return motions

    return run


def time_run(run: Contender, problem: Problem, timing: Timing | None) -> Tensor:
    """Samples once; steps are timed between requests for noise."""
    stamps: list[float] = []

    def noise(position: int) -> Tensor:
        if problem.device.type == "cuda":
            torch.cuda.synchronize(problem.device)
        stamps.append(time.perf_counter())
        return problem.noises[position]

    started, process = time.perf_counter(), time.process_time()
    result = run(noise)
    if timing is not None:
        timing.wall.append(time.perf_counter() - started)
        timing.process.append(time.process_time() - process)
        timing.steps.extend(np.diff(stamps).tolist())
    return result


def measure(problem: Problem, schedule: DiffusionSchedule, repeats: int) -> tuple[dict[str, Timing], dict[str, Tensor]]:
    """Times and samples by contender; one warm-up round, then `repeats` interleaved ones."""
    contenders: dict[str, Contender] = {"plain": plain_contender(problem, schedule)}
    contenders |= {name: our_contender(problem, schedule, name) for name in SPEED_TARGETS}
    timings = {name: Timing() for name in contenders}
    samples: dict[str, Tensor] = {}
    for repeat in range(repeats + 1):
        for name, run in contenders.items():
            samples[name] = time_run(run, problem, timings[name] if repeat else None)
            print(f"\rround {repeat} of {repeats}: {name}    ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return timings, samples


def deviation(ours: Tensor, plain: Tensor) -> dict[str, float]:
    """Largest and root mean square difference of normalised features, and the latter relative to the samples' own."""
    difference = (ours - plain).double()
    rms = difference.square().mean().sqrt()
    return {
        "max": float(difference.abs().max()),
        "rms": float(rms),
        "relative_rms": float(rms / plain.double().square().mean().sqrt()),
    }


def report(timings: dict[str, Timing], samples: dict[str, Tensor], num_steps: int, on_cpu: bool) -> dict[str, Any]:
    """Figures by contender: seconds, ratios to plain, deviation from plain."""
    plain = timings["plain"]
    base = plain.process if on_cpu else plain.wall
    figures: dict[str, Any] = {}
    for name, timing in timings.items():
        figures[name] = {
            "speed": min(base) / min(timing.process if on_cpu else timing.wall),
            "process_min": min(timing.process),
            "process_median": statistics.median(timing.process),
            "wall_min": min(timing.wall),
            "wall_median": statistics.median(timing.wall),
            "wall_speed": min(plain.wall) / min(timing.wall),
            "steps_seconds": timing.quiet(num_steps),
            "steps_speed": plain.quiet(num_steps) / timing.quiet(num_steps),
            "deviation": deviation(samples[name], samples["plain"]),
            "runs": asdict(timing),
        }
    return figures


def missed_targets(figures: dict[str, Any]) -> list[str]:
    """One phrase per missed target, with the difference."""
    missed = [
        f"{name} {figures[name]['speed']:.3f}x of {target}x ({figures[name]['speed'] - target:+.3f})"
        for name, target in SPEED_TARGETS.items()
        if not figures[name]["speed"] >= target
    ]
    difference = figures["fp32"]["deviation"]["max"]
    if not difference <= MAX_DIFFERENCE:
        missed.append(f"fp32 differs by {difference:.2e} of {MAX_DIFFERENCE:.0e}")
    return missed


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions and hardware that the results depend on besides the code."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": threads,
        "load_average": os.getloadavg(),
    }


def print_table(figures: dict[str, Any]) -> None:
    """Prints one line per contender, in seconds; then the deviations."""
    header = ("speed", "process", "median", "wall", "median", "speed", "steps", "speed")
    print(" " * 6 + "".join(f"{title:>9}" for title in header))
    for name, line in figures.items():
        values = (
            f"{line['speed']:.2f}x",
            f"{line['process_min']:.2f}",
            f"{line['process_median']:.2f}",
            f"{line['wall_min']:.2f}",
            f"{line['wall_median']:.2f}",
            f"{line['wall_speed']:.2f}x",
            f"{line['steps_seconds']:.2f}",
            f"{line['steps_speed']:.2f}x",
        )
        print(f"{name:6}" + "".join(f"{value:>9}" for value in values))
    for name in SPEED_TARGETS:
        line = figures[name]["deviation"]
        print(f"{name} against plain: max {line['max']:.2e}, rms {line['rms']:.2e} ({line['relative_rms']:.2%})")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options; the shapes are fixed except for the number of steps, for quick trials."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds after the warm-up (default 3)")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps; targets are meant for 50 (the default)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    parser.add_argument("--json", type=Path, help="write figures, configuration and versions here")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parsed = parser.parse_args(arguments)
    for name, least in (("repeats", 1), ("steps", 3), ("threads", 1)):
        if getattr(parsed, name) < least:
            parser.error(f"--{name} is {getattr(parsed, name)}; at least {least}")
    return parsed


def main(arguments: list[str] | None = None, config: MDMConfig | None = None, frames: int = FRAMES) -> int:
    """Measures, prints and writes; returns the exit code. Tests pass a small `config` and few `frames`."""
    options = parse_arguments(arguments)
    previous = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        config = config or MDMConfig()
        device = resolve_device(options.device)
        schedule = DiffusionSchedule("cosine", options.steps)
        problem = make_problem(config, options.steps, device, frames)
        timings, samples = measure(problem, schedule, options.repeats)
    finally:
        torch.set_num_threads(previous)
    figures = report(timings, samples, options.steps, on_cpu=device.type == "cpu")
    print_table(figures)
    missed = missed_targets(figures)
    if options.json:
        task = {"batch": BATCH, "frames": frames, "steps": options.steps, "guidance": GUIDANCE, **asdict(config)}
        targets = {"speed": SPEED_TARGETS, "max_difference": MAX_DIFFERENCE, "missed": missed}
        about = environment(device, options.threads)
        text = json.dumps({"environment": about, "task": task, "targets": targets, "figures": figures}, indent=1)
        options.json.write_text(text)
    if options.check:
        print("missed: " + "; ".join(missed) if missed else "all targets met")
        return 1 if missed else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
