"""Speed of the DeepMimic environments, compared with bare physics and pybullet's own environment in the same process.

    python -m benchmarks.envs [--repeats 15] [--seconds 0.7] [--json PATH] [--check]

Work: control steps (30 Hz, 240 Hz physics, clip walk) with the open-loop expert's targets plus noise, per CPU-second of
this process, which other work on the machine affects least. The contenders run in short turns, because the speed of a
machine drifts; the first turn of each is discarded, its result is the median of the others, and a ratio is the median
of the turns' ratios:

    raw       `mj_step` of the same model, 8 physics steps a call, nothing else; restarted on the clip every 0.8 s
    batched   `DeepMimicVectorEnv` with 64 rows: observations, rewards, falls, resets
    single    `DeepMimicEnv` with the same work
    pybullet  bullet3's `pybullet_envs.deep_mimic`: 197 observations, reward, falls, resets, 8 physics steps

Targets: batched at least 0.75 of raw and single at least 0.5, in control steps per CPU-second; both at least 6 times
pybullet. With --check, a missed target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from envs.body.joint_coordinates import NUM_COORDINATES
from envs.body.mujoco_import import Data, mujoco
from envs.body.mujoco_model import build_humanoid
from envs.mujoco.environment import DeepMimicEnv
from envs.mujoco.vector_environment import make_vector_env
from envs.settings import DAMPING_RATIO, DeepMimicSettings
from envs.task.reference import ReferenceMotion

NUM_ENVS = 64
NOISE = 0.2
"""Standard deviation of the actions, in units of 0.5 rad."""
RAW_STEPS = 24
"""Control steps after which raw restarts on the clip: about the length of the environments' episodes."""
TARGETS = {("batched", "raw"): 0.75, ("single", "raw"): 0.5, ("batched", "pybullet"): 6.0, ("single", "pybullet"): 6.0}

Contender = Callable[[], int]
"""Does some work and returns its number of control steps."""


def raw_contender(settings: DeepMimicSettings) -> Contender:
    """Bare physics of the same model on the same clip."""
    model, reference = build_humanoid(settings), ReferenceMotion(settings)
    data: Data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    clip, origin = np.zeros(RAW_STEPS, dtype=np.int64), np.zeros((RAW_STEPS, 3))
    substeps = settings.physics_hz // settings.control_hz

    def episode() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times = rng.random() * reference.durations[0] + np.arange(RAW_STEPS) / settings.control_hz
        qpos, qvel = reference.start(clip[:1], times[:1])
        aim = reference.target(clip, times + 1 / settings.control_hz, origin)
        noise = NOISE * settings.action_scale * rng.standard_normal((RAW_STEPS, NUM_COORDINATES))
        return qpos[0], qvel[0], aim.coordinates + DAMPING_RATIO * aim.rates + noise

    episodes = [episode() for _ in range(16)]

    def run() -> int:
        for qpos, qvel, targets in episodes:
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = qpos, qvel
            for target in targets:
                data.ctrl[:] = target
                mujoco.mj_step(model, data, substeps)
        return len(episodes) * RAW_STEPS

    return run


def batched_contender(settings: DeepMimicSettings) -> Contender:
    """The vector environment with its resets."""
    env = make_vector_env(settings, NUM_ENVS, seed=0)
    env.reset()
    noise = NOISE * np.random.default_rng(0).standard_normal((97, NUM_ENVS, NUM_COORDINATES)).astype(np.float32)
    turn = 0

    def run() -> int:
        nonlocal turn
        for _ in range(8):
            env.step(noise[turn % len(noise)])
            turn += 1
        return 8 * NUM_ENVS

    return run


def single_contender(settings: DeepMimicSettings) -> Contender:
    """The single environment, reset explicitly."""
    env = DeepMimicEnv(settings)
    env.reset(seed=0)
    noise = NOISE * np.random.default_rng(0).standard_normal((997, NUM_COORDINATES)).astype(np.float32)
    turn = 0

    def run() -> int:
        nonlocal turn
        for _ in range(256):
            _, _, terminated, truncated, _ = env.step(noise[turn % len(noise)])
            turn += 1
            if terminated or truncated:
                env.reset()
        return 256

    return run


def pybullet_contender() -> Contender:
    """bullet3's environment on the same clip. Its parent package imports the discontinued `gym`, so it is replaced by
    an empty module that only has a path."""
    import pybullet
    import pybullet_data
    from pybullet_utils import bullet_client
    from pybullet_utils.arg_parser import ArgParser

    folder = Path(pybullet_data.__file__).parent
    parent = types.ModuleType("pybullet_envs")
    parent.__path__ = [str(folder.parent / "pybullet_envs")]
    sys.modules.setdefault("pybullet_envs", parent)
    module: Any = importlib.import_module("pybullet_envs.deep_mimic.env.pybullet_deep_mimic_env")
    # By default its client first looks for a server in shared memory.
    direct = types.SimpleNamespace(BulletClient=lambda: bullet_client.BulletClient(pybullet.DIRECT))
    arguments = ArgParser()
    with contextlib.redirect_stdout(io.StringIO()):
        arguments.load_file(str(folder / "args" / "train_humanoid3d_walk_args.txt"))
        module.bullet_client = direct
        env: Any = module.PyBulletDeepMimicEnv(arguments)
    rng = np.random.default_rng(0)
    centre = -env.build_action_offset(0)

    def run() -> int:
        for _ in range(32):
            env.set_action(0, centre + NOISE * rng.standard_normal(len(centre)))
            for _ in range(8):
                env.update(1 / 240)
            env.record_state(0)
            env.calc_reward(0)
            if env.is_episode_end():
                env.reset()
        return 32

    return run


def measure(contenders: dict[str, Contender], repeats: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Control steps per second by contender and clock ("cpu", "wall"), one number per turn."""
    speeds: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            steps, cpu, wall = 0, time.process_time(), time.perf_counter()
            while steps == 0 or time.process_time() - cpu < seconds:
                steps += run()
            if turn:
                speeds[name]["cpu"].append(steps / (time.process_time() - cpu))
                speeds[name]["wall"].append(steps / (time.perf_counter() - wall))
            print(f"\rturn {turn} of {repeats}: {name}    ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return speeds


def report(speeds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians and ranges by contender; ratios are medians of the turns' ratios."""
    figures: dict[str, Any] = {
        name: {
            "cpu_median": statistics.median(clocks["cpu"]),
            "cpu_low": min(clocks["cpu"]),
            "cpu_high": max(clocks["cpu"]),
            "wall_median": statistics.median(clocks["wall"]),
            "turns": clocks,
        }
        for name, clocks in speeds.items()
    }
    ratios = {
        f"{ours} / {theirs}": statistics.median(
            a / b for a, b in zip(speeds[ours]["cpu"], speeds[theirs]["cpu"], strict=True)
        )
        for ours, theirs in TARGETS
        if ours in speeds and theirs in speeds
    }
    return {"steps_per_second": figures, "ratios": ratios}


def missed_targets(ratios: dict[str, float]) -> list[str]:
    """One phrase per missed target, with the difference."""
    return [
        f"{ours} / {theirs} {ratio:.3f} of {target} ({ratio - target:+.3f})"
        for (ours, theirs), target in TARGETS.items()
        if (ratio := ratios.get(f"{ours} / {theirs}")) is not None and not ratio >= target
    ]


def environment() -> dict[str, Any]:
    """Versions and hardware that the results depend on besides the code."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("mujoco", "pybullet", "gymnasium", "numpy")},
        "machine": platform.machine(),
        "load_average": os.getloadavg(),
    }


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.envs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15, help="timed turns of each contender (default 15)")
    parser.add_argument("--seconds", type=float, default=0.7, help="CPU-seconds of a turn (default 0.7)")
    parser.add_argument("--json", type=Path, help="write figures, configuration and versions here")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parsed = parser.parse_args(arguments)
    if parsed.repeats < 1:
        parser.error(f"--repeats is {parsed.repeats}; at least 1")
    if not parsed.seconds > 0.0:
        parser.error(f"--seconds is {parsed.seconds}; more than 0")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes the results; returns the exit code."""
    options = parse_arguments(arguments)
    settings = DeepMimicSettings()
    contenders = {
        "raw": raw_contender(settings),
        "batched": batched_contender(settings),
        "single": single_contender(settings),
        "pybullet": pybullet_contender(),
    }
    figures = report(measure(contenders, options.repeats, options.seconds))
    print(f"{'control steps per second':26}{'CPU':>9}{'lowest':>9}{'highest':>9}{'wall':>9}")
    for name, line in figures["steps_per_second"].items():
        columns = (line["cpu_median"], line["cpu_low"], line["cpu_high"], line["wall_median"])
        print(f"{name:26}" + "".join(f"{value:9.0f}" for value in columns))
    for name, ratio in figures["ratios"].items():
        print(f"{name:26}{ratio:9.3f}")
    missed = missed_targets(figures["ratios"])
    if options.json:
        task = settings.model_dump(mode="json") | {"num_envs": NUM_ENVS, "noise": NOISE}
        targets = {"ratios": {" / ".join(pair): target for pair, target in TARGETS.items()}, "missed": missed}
        content = {"environment": environment(), "task": task, "targets": targets, "figures": figures}
        options.json.write_text(json.dumps(content, indent=1))
    if options.check:
        print("missed: " + "; ".join(missed) if missed else "all targets met")
        return 1 if missed else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
