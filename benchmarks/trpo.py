"""TRPO compared with sb3-contrib's TRPO in the same run: returns, wall-clock time, CPU time.

    python -m benchmarks.trpo [--steps 100000] [--seeds 0 1 2] [--json PATH] [--check] [--profile]

Tasks: Hopper-v5 and InvertedDoublePendulum-v5, 100,000 environment steps, networks of 2 x 64 tanh, one thread of torch
in each process. Contenders, one process each, in turn:

    sb3     sb3-contrib's TRPO with its defaults: batches of 2048 steps of one environment
    ours    kinetune's TRPO on RLlib (`cluster/rllib/trpo.py`): batches of 8 environments, 1024 steps on Hopper, 2048
            on the pendulum, there with 20 passes of the critic instead of 10; initial standard deviation exp(-0.5).
            The start of Ray is not timed, the construction of the algorithm is. `--env_runners N` samples in N
            processes instead of the driver

Both have the same trust region: sb3 averages its KL divergence over the components of an action too, so that its limit
of 0.01 and its damping of 0.1 correspond to 0.01 A and 0.1 A for an action of A components, which ours uses. `--same`
also gives ours sb3's batches, standard deviation and passes.

`train` is the mean return of the last 100 training episodes (ours: of means over batches), `evaluation` that of 10
episodes with the mean action. CPU time is that of the contender's process (env runners are other processes).

Targets, per task: our mean over seeds is at least the minimum over sb3's seeds, in training and in evaluation (less 1 %
if those seeds differ by less than 1 %, which means that all of them reach the maximum of the task); the median over
seeds of the ratio of wall-clock times is at most 0.6. With --check, a missed target gives exit code 1 and is named on
the last line.

`--profile` shows where the time goes: fractions of sampling and update of ours, and the sampling speed of RLlib's own
`SingleAgentEnvRunner` (episodes and connectors) and of our runner (arrays), with the same environments and network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASKS = ("Hopper-v5", "InvertedDoublePendulum-v5")
CONTENDERS = ("sb3", "ours")
WALL_TARGET = 0.6
SATURATION = 0.01
"""Relative difference below which returns count as saturated: InvertedDoublePendulum-v5 ends at 9,330 to 9,360 of
10,000, and the seeds of one contender differ by less."""
NUM_ENVS = 8
OURS: dict[str, dict[str, Any]] = {
    "Hopper-v5": {"steps_per_batch": 1024, "initial_log_std": -0.5},
    "InvertedDoublePendulum-v5": {"steps_per_batch": 2048, "initial_log_std": -0.5, "critic_epochs": 20},
}
SAME = {"steps_per_batch": 2048, "initial_log_std": 0.0}
BATCH = 2048
EPISODES = 10
LAST_EPISODES = 100
LIBRARIES = ("gymnasium", "mujoco", "numpy", "ray", "sb3-contrib", "stable-baselines3", "torch")


def run_sb3(task: str, seed: int, steps: int) -> dict[str, Any]:
    """Trains sb3-contrib's TRPO with its defaults."""
    import numpy as np
    from sb3_contrib import TRPO
    from stable_baselines3.common.evaluation import evaluate_policy

    clock = Clock()
    model = TRPO("MlpPolicy", task, seed=seed, device="cpu")
    model.learn(steps)
    figures = clock.read()
    env = model.get_env()
    assert env is not None and model.ep_info_buffer is not None
    mean, _ = evaluate_policy(model, env, EPISODES)
    train = float(np.mean([episode["r"] for episode in model.ep_info_buffer]))
    return {**figures, "train": train, "evaluation": float(np.mean(mean))}


def run_ours(task: str, seed: int, steps: int, env_runners: int, same: bool) -> dict[str, Any]:
    """Trains kinetune's TRPO on RLlib."""
    import numpy as np

    from cluster.runtime.connect import connect
    from cluster.settings import ConnectionSettings
    from jobs.character.trpo_training import prepare, rllib_config, rllib_training
    from rollouts.control.actor_critic import load_actor_critic_arrays
    from rollouts.control.environments import make_control_env
    from rollouts.control.vector_sampler import run_episodes

    config = our_config(task, seed, steps, env_runners, same)
    with connect(ConnectionSettings(ray_address="local", dashboard=False, object_store_mb=200), 4.0):
        rllib_config(config)  # imports RLlib, as sb3 is imported before its clock starts
        clock = Clock()
        training = rllib_training(config)
        returns: list[float] = []
        seconds = {"rollout": 0.0, "update": 0.0}
        while training.num_steps < steps:
            training.train()
            metrics = training.last_metrics
            returns += [metrics.get("rollout/return", 0.0)] * int(metrics["rollout/episodes"])
            for name in seconds:
                seconds[name] += metrics[f"seconds/{name}"]
        figures = clock.read()
        arrays = training.weights()
        training.stop()
    env = make_control_env(task, EPISODES)
    _, network = prepare(config)
    load_actor_critic_arrays(network, arrays)
    episodes = run_episodes(network, env, seed=1000 + seed)
    shares = {f"{name}_share": value / figures["wall"] for name, value in seconds.items()}
    evaluation = float(episodes.returns.mean())
    return {**figures, "train": float(np.mean(returns[-LAST_EPISODES:])), "evaluation": evaluation, **shares}


def our_config(task: str, seed: int, steps: int, env_runners: int, same: bool = False) -> Any:
    """The job's configuration."""
    from jobs.configs.trpo import TRPOJobConfig

    entries = action_entries(task)
    choice = SAME if same else OURS[task]
    return TRPOJobConfig.of(
        {
            **{"env_id": task, "seed": seed, "num_timesteps": steps, "num_envs": NUM_ENVS},
            **{"hidden_size": 64, "num_env_runners": env_runners, "cg_iters": 15, **choice},
            **{"max_kl": 0.01 * entries, "cg_damping": 0.1 * entries},
        }
    )


def action_entries(task: str) -> int:
    """Number of components of a task's actions."""
    import gymnasium

    env = gymnasium.make(task)
    space = env.action_space
    env.close()
    assert isinstance(space, gymnasium.spaces.Box)
    return space.shape[0]


class Clock:
    """Measures wall-clock and CPU time since its construction."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    def read(self) -> dict[str, float]:
        """Elapsed times in seconds."""
        return {"wall": time.perf_counter() - self._wall, "cpu": cpu_seconds() - self._cpu}


def cpu_seconds() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def profile(task: str, repeats: int = 3) -> dict[str, float]:
    """Environment steps per CPU-second of RLlib's env runner and of ours, in turn; the best of each."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from cluster.rllib.env_runner import ControlEnvRunner
    from jobs.character.trpo_training import rllib_config

    theirs_config: Any = PPOConfig().environment(task).env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS)
    theirs_config.rl_module(model_config={"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh"})
    theirs = SingleAgentEnvRunner(config=theirs_config, worker_index=0)
    ours = ControlEnvRunner(config=rllib_config(our_config(task, 0, BATCH, 0)), worker_index=0)
    speeds: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, runner in (("rllib_runner", theirs), ("our_runner", ours)):
            started = cpu_seconds()
            runner.sample(num_timesteps=BATCH)
            # The first round is a warm-up.
            if repeat:
                speeds[name] = max(speeds.get(name, 0.0), BATCH / (cpu_seconds() - started))
    theirs.stop()
    ours.stop()
    return speeds


def in_process(arguments: Sequence[str]) -> dict[str, Any]:
    """Runs this module in another process, whose last line of output is JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trpo", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(tasks: Sequence[str], seeds: Sequence[int], steps: int, extra: Sequence[str]) -> dict[str, Any]:
    """Results by task, contender and seed; `extra` are options of ours."""
    figures: dict[str, Any] = {task: {name: {} for name in CONTENDERS} for task in tasks}
    for task in tasks:
        for seed in seeds:
            for name in CONTENDERS:
                words = ["--contender", name, "--task", task, "--seeds", str(seed), "--steps", str(steps)]
                figures[task][name][seed] = in_process([*words, *extra])
                line = figures[task][name][seed]
                print(
                    f"{task} seed {seed} {name:4}  train {line['train']:8.1f}  evaluation {line['evaluation']:8.1f}  "
                    f"wall {line['wall']:6.1f} s  CPU {line['cpu']:6.1f} s",
                    flush=True,
                )
    return figures


def summary(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The compared quantities, by task."""
    table = {}
    for task, contenders in figures.items():
        sb3, ours = contenders["sb3"], contenders["ours"]
        entry: dict[str, float] = {}
        for what in ("train", "evaluation"):
            entry[f"{what}_sb3"] = statistics.fmean(line[what] for line in sb3.values())
            entry[f"{what}_target"] = least_return([line[what] for line in sb3.values()])
            entry[f"{what}_ours"] = statistics.fmean(line[what] for line in ours.values())
        for what in ("wall", "cpu"):
            entry[f"{what}_ratio"] = statistics.median(ours[seed][what] / sb3[seed][what] for seed in sb3)
        entry["rollout_share"] = statistics.fmean(line["rollout_share"] for line in ours.values())
        entry["update_share"] = statistics.fmean(line["update_share"] for line in ours.values())
        table[task] = entry
    return table


def least_return(returns: Sequence[float]) -> float:
    """The required return, given the returns of sb3's seeds; a single seed does not show saturation."""
    least, most = min(returns), max(returns)
    saturated = len(returns) > 1 and most - least < SATURATION * abs(most)
    return least - SATURATION * abs(least) if saturated else least


def missed_targets(table: dict[str, dict[str, float]]) -> list[str]:
    """One phrase per missed target, with the difference."""
    missed = []
    for task, entry in table.items():
        for what in ("train", "evaluation"):
            ours, target = entry[f"{what}_ours"], entry[f"{what}_target"]
            if not ours >= target:
                missed.append(f"{task} {what} {ours:.0f} of {target:.0f} ({ours - target:+.0f})")
        ratio = entry["wall_ratio"]
        if not ratio <= WALL_TARGET:
            missed.append(f"{task} wall time {ratio:.2f} of {WALL_TARGET} ({ratio - WALL_TARGET:+.2f})")
    return missed


def print_table(table: dict[str, dict[str, float]]) -> None:
    """Prints one line per task."""
    print(f"{'':28}{'train':>18}{'evaluation':>20}{'wall':>8}{'CPU':>7}{'rollout':>9}{'update':>8}")
    print(f"{'mean over seeds':28}{'sb3':>9}{'ours':>9}{'sb3':>11}{'ours':>9}{'ratio':>8}{'ratio':>7}")
    for task, entry in table.items():
        print(
            f"{task:28}{entry['train_sb3']:9.0f}{entry['train_ours']:9.0f}{entry['evaluation_sb3']:11.0f}"
            f"{entry['evaluation_ours']:9.0f}{entry['wall_ratio']:8.2f}{entry['cpu_ratio']:7.2f}"
            f"{entry['rollout_share']:9.0%}{entry['update_share']:8.0%}"
        )


def about() -> dict[str, Any]:
    """Versions and hardware that the results depend on besides the code."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trpo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps (default 100000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--task", choices=TASKS, nargs="+", default=list(TASKS), help="default: both")
    parser.add_argument("--env_runners", type=int, default=0, help="our sampling processes; 0: the driver (default)")
    parser.add_argument("--same", action="store_true", help="give ours sb3's batches, deviation and passes")
    parser.add_argument("--json", type=Path, help="write figures, configuration and versions here")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--profile", action="store_true", help="also measure env runners")
    parser.add_argument("--contender", choices=(*CONTENDERS, "profile"), help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.steps < BATCH:
        parser.error(f"--steps is {parsed.steps}; at least one batch, {BATCH}")
    if parsed.env_runners < 0 or NUM_ENVS % max(1, parsed.env_runners):
        parser.error(f"--env_runners is {parsed.env_runners}; a divisor of {NUM_ENVS}, or 0")
    return parsed


def one(options: argparse.Namespace) -> dict[str, Any]:
    """The work of a process that `in_process` starts."""
    import torch

    torch.set_num_threads(1)
    task, seed = options.task[0], options.seeds[0]
    if options.contender == "profile":
        return profile(task)
    if options.contender == "sb3":
        return run_sb3(task, seed, options.steps)
    return run_ours(task, seed, options.steps, options.env_runners, options.same)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    options = parse_arguments(arguments)
    if options.contender:
        print(json.dumps(one(options)))
        return 0
    extra = ["--env_runners", str(options.env_runners), *(["--same"] if options.same else [])]
    figures = measure(options.task, options.seeds, options.steps, extra)
    table = summary(figures)
    print_table(table)
    runners: dict[str, Any] = {}
    if options.profile:
        for task in options.task:
            runners[task] = in_process(["--contender", "profile", "--task", task])
            speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in runners[task].items())
            print(f"{task}: environment steps per CPU-second: {speeds}")
    missed = missed_targets(table)
    if options.json:
        work = {"steps": options.steps, "seeds": options.seeds, "env_runners": options.env_runners, "envs": NUM_ENVS}
        work |= {"ours": SAME if options.same else OURS}
        report = {"environment": about(), "work": work, "wall_target": WALL_TARGET, "missed": missed}
        report |= {"summary": table, "runners": runners, "figures": figures}
        options.json.write_text(json.dumps(report, indent=1))
    if options.check:
        print("missed: " + "; ".join(missed) if missed else "all targets met")
        return 1 if missed else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
