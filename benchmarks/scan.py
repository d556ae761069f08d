"""The scan of state-space layers: every way to compute it against the plain loop, and its speed and memory.

    python -m benchmarks.scan [--repeats 3] [--batch 16] [--json PATH] [--check]

First, outputs and all gradients of each backend are compared with the loop over frames that autograd differentiates
(`frame_loop`), in float64, for random numbers of frames and of frames of a chunk, with frames of step size 0 at either
end. Then forward and backward of four layers of width 256 (N 32, 196 frames) are timed, each contender once in a round;
the figures are minima of process time over rounds, the first round dropped. `--batch` is the number of clips.

    frame loop    Mamba-1 with one rate for each state, by `frame_loop`, as public text-to-motion code has it
    loop          the same layers, by kinetune's loop with its own backward
    loop channel  Mamba-1 with rates for each channel and state, by that loop
    ssd           Mamba-2 in chunks, the default
    transformer   layers of the same width, 4 heads, feed-forward width 1024

Memory is what a process of its own grows by at its peak in one forward and backward.

Targets: differences of at most 1e-10; ssd at least 3.5 times as fast as the frame loop, in at most a quarter of its
memory, and at most 1.2 times the time of the transformer. With --check, a missed target gives exit code 1 and is named
on the last line.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.learning import write_json
from rollouts.networks.attention import EncoderLayer
from rollouts.settings import Decay
from rollouts.ssm import layers
from rollouts.ssm.scan import loop_scan, ssd_scan

WIDTH, STATES, FRAMES, LAYERS = 256, 32, 196, 4
FRAME_LOOP, SSD, TRANSFORMER = "frame loop", "ssd", "transformer"
DECAYS: dict[str, Decay] = {FRAME_LOOP: "shared", "loop": "shared", "loop channel": "channel", SSD: "head"}
CONTENDERS = (*DECAYS, TRANSFORMER)
MAX_DIFFERENCE, MIN_SPEED, MAX_MEMORY, MAX_TIME = 1e-10, 3.5, 0.25, 1.2

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, measures and prints; returns the exit code."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    if options.peak_of is not None:
        print(peak_bytes(options.peak_of, options.batch))
        return 0
    differences = compare(options.cases)
    for name, value in differences.items():
        print(f"{name:<24} largest difference to the frame loop {value:.1e}", flush=True)
    # Before this process grows: on Linux a new one begins with the highest memory of the one that starts it.
    peaks = {name: measured_peak(name, options.batch) for name in CONTENDERS}
    seconds = measure_seconds(options.batch, options.repeats)
    for name in CONTENDERS:
        print(
            f"{name:<14} {seconds[name]:.3f} CPU s, {seconds[FRAME_LOOP] / seconds[name]:.2f}x as fast as the frame "
            f"loop; {peaks[name] / 1e6:.0f} MB at most"
        )
    missed = missed_targets(differences, seconds, peaks)
    if options.json:
        write_json(
            options.json, {"differences": differences, "seconds": seconds, "peak_bytes": peaks, "missed": missed}
        )
    if options.check and missed:
        print(f"missed: {'; '.join(missed)}")
        return 1
    return 0


def frame_loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, *_: object) -> Tensor:
    """The definition of the scan, frame by frame; arguments and result as those of `rollouts.ssm.scan.scan`."""
    state = u.new_zeros(u.shape[0], u.shape[2], u.shape[3], b.shape[2])
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * a).unsqueeze(2)
        taken = (delta[:, t, :, None] * u[:, t]).unsqueeze(3)
        state = decay * state + taken * b[:, t, None, None, :]
        outputs.append((state * c[:, t, None, None, :]).sum(3))
    return torch.stack(outputs, dim=1)


def compare(num_cases: int) -> dict[str, float]:
    """Largest differences of outputs and gradients, by backend and form, over random cases."""
    largest: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for case in range(num_cases):
        frames, chunk = int(rng.integers(1, 80)), int(rng.integers(1, 40))
        for rows, columns in itertools.product((False, True), (False, True)):
            operands = random_operands(case, frames, rows, columns)
            scans: dict[str, Scan] = {"loop": loop_scan}
            if not columns:
                scans["ssd"] = lambda *operands, chunk=chunk: ssd_scan(*operands, chunk=chunk)
            wanted = outputs_and_gradients(frame_loop, operands)
            for name, scan in scans.items():
                label = f"{name}, A [{'H' if rows else '1'}, {'N' if columns else '1'}]"
                found = outputs_and_gradients(scan, operands)
                distance = max(float((x - y).abs().max()) for x, y in zip(found, wanted, strict=True))
                largest[label] = max(largest.get(label, 0.0), distance)
    return largest


def random_operands(seed: int, frames: int, rows: bool, columns: bool) -> tuple[Tensor, ...]:
    """u, delta, a, b, c in float64, of 2 clips, 3 heads of 4 channels, 5 states; the second clip has padding at both
    ends, where step sizes are 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    delta = nn.functional.softplus(normal(2, frames, 3) - 1)
    delta[1, : frames // 4] = 0.0
    delta[1, frames - frames // 3 :] = 0.0
    a = -4 * torch.rand(3 if rows else 1, 5 if columns else 1, generator=generator, dtype=torch.float64)
    return normal(2, frames, 3, 4), delta, a, normal(2, frames, 5), normal(2, frames, 5)


def outputs_and_gradients(scan: Scan, operands: Sequence[Tensor]) -> list[Tensor]:
    """The result, and the gradients of a fixed weighted sum of it to all operands."""
    leaves = [operand.detach().requires_grad_() for operand in operands]
    y = scan(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


def build(name: str) -> nn.ModuleList:
    """Four layers of a contender."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == TRANSFORMER:
            return nn.ModuleList(EncoderLayer(WIDTH, 4 * WIDTH, 4, 0.0) for _ in range(LAYERS))
        return nn.ModuleList(layers.StateSpaceBlock(WIDTH, STATES, DECAYS[name]) for _ in range(LAYERS))


def train_once(name: str, blocks: nn.ModuleList, x: Tensor) -> None:
    """One forward and backward."""
    with mock.patch.object(layers, "scan", frame_loop) if name == FRAME_LOOP else mock.patch.dict({}):
        for block in blocks:
            x = block(x, None)
        x.square().mean().backward()
    blocks.zero_grad()


def measure_seconds(batch: int, repeats: int) -> dict[str, float]:
    """Smallest process times of a forward and backward, by contender."""
    x = torch.randn(batch, FRAMES, WIDTH, generator=torch.Generator().manual_seed(0))
    built = {name: build(name) for name in CONTENDERS}
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(repeats + 1):
        for name, blocks in built.items():
            start = time.process_time()
            train_once(name, blocks, x)
            times[name].append(time.process_time() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}


def measured_peak(name: str, batch: int) -> int:
    """`peak_bytes` of a contender, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scan", "--peak_of", name, "--batch", str(batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_bytes(name: str, batch: int) -> int:
    """Bytes by which one forward and backward raises this process's highest memory."""
    blocks, x = build(name), torch.randn(batch, FRAMES, WIDTH)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train_once(name, blocks, x)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def missed_targets(
    differences: Mapping[str, float], seconds: Mapping[str, float], peaks: Mapping[str, int]
) -> list[str]:
    """One phrase for every target that was missed."""
    worst = max(differences, key=lambda name: differences[name])
    speed, against = seconds[FRAME_LOOP] / seconds[SSD], seconds[SSD] / seconds[TRANSFORMER]
    memory = peaks[SSD] / peaks[FRAME_LOOP]
    checks = [
        (differences[worst] <= MAX_DIFFERENCE, f"{worst} differs by {differences[worst]:.1e}"),
        (speed >= MIN_SPEED, f"ssd is {speed:.2f}x as fast as the frame loop, {MIN_SPEED - speed:.2f} too little"),
        (memory <= MAX_MEMORY, f"ssd takes {memory:.2f} of its memory, {memory - MAX_MEMORY:.2f} too much"),
        (against <= MAX_TIME, f"ssd takes {against:.2f}x the transformer's time, {against - MAX_TIME:.2f} too much"),
    ]
    return [phrase for met, phrase in checks if not met]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds")
    parser.add_argument("--batch", type=int, default=16, help="clips")
    parser.add_argument("--cases", type=int, default=20, help="random cases of the comparison")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--peak_of", choices=CONTENDERS, help="print one contender's peak of memory and nothing else")
    options = parser.parse_args(arguments)
    for name in ("repeats", "batch", "cases"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}, expected at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
