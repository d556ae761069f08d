"""What the service costs: overlap of rollouts and updates, the controller, Ray, many actors, a death, a new version.

    python -m benchmarks.engine [--only FIGURE ...] [--steps 12] [--json PATH] [--check]

Figures, each with what slept for a simulated device time and what was real:

    overlap     actors sleep: rollout .20 s x 4 groups on 2 actors, reward .08 s on 1, update .20 s. Seconds a step at
                staleness 0 and 1; ideal is the busiest resource at staleness 1, the two rollout actors: .40 s
    overhead    actors sleep: 4 groups on 4 actors .25 s, their rewards .05 s on 4, update .20 s: what a step takes
                longer than the .50 s of its longest chain, as a share of it; beside it what a step of the same
                chains takes by plain Ray calls without a controller, which is Ray's part
    commits     the actors of `overhead`: what a step takes longer if each ends with a checkpoint, of one number, which
                is the least that one costs; it is written while the next rollouts are made
    scaling     actors sleep .5 s in each of four calls: ideal time over time of 4 N calls on N actors
    recovery    a sleeping rollout actor ends in the middle of a call and is the only one: seconds from its death to the
                result of the repeated call, less the simulated time; rollouts that were repeated
    tax         real: a GRPO run of the built-in policy, a step of one group (rollout, semantic reward, update, which
                cannot overlap), on Ray with 1 + 1 + 1 actors against the same in one process; medians of seconds a step
    publish     real: LoRA of rank 8 on a policy of MDM's published size (512 x 8, random weights): the learner's copy
                of its version, the object store, and loading it in a rollout actor, as a share of a very small step
                (4 samples of 120 frames, 5 unguided denoising steps, 2 of them trained), so that the share is an
                upper bound

The first three steps are dropped; figures are medians, with quartiles in the JSON. The load of the machine at the start
is written beside them: with other work on its cores, sleepers wake late, and the figures say little about the service.

Targets: overlap efficiency at least .95 and 1.6 times the speed of staleness 0; overhead and publish at most 3 % and
2 %; tax at most 10 %; scaling at least .9 at 32 actors; recovery within 3 s with at most 2 repeated rollouts. With
--check, a missed target gives exit code 1 and is named on the last line.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.fixtures.published_lora import build_learner, build_rollouts, small_advantages, small_request
from benchmarks.fixtures.sleepers import Death, SleepingBatches, SleepingRollouts, SleepTimes
from benchmarks.fixtures.sleeping_runs import plain_step_seconds, sleeping_roles, sleeping_run, step_seconds
from benchmarks.learning import write_json
from cluster.records.measured import read_json_lines
from cluster.records.run_directory import library_versions
from cluster.run.roles import LEARNER, ROLLOUT, training_roles
from cluster.runtime.connect import connect
from cluster.runtime.on_ray import RayRuntime
from cluster.runtime.protocol import Role
from cluster.settings import ClusterSettings
from rollouts.messages import PolicyVersion

OVERLAP = SleepTimes(rollout=0.20, reward=0.08, update=0.20)
OVERLAP_GROUPS, OVERLAP_ACTORS = 4, 2
OVERHEAD = SleepTimes(rollout=0.25, reward=0.05, update=0.20)
OVERHEAD_GROUPS = 4
SCALING_SECONDS, SCALING_CALLS, SCALING_ACTORS = 0.5, 4, (1, 2, 4, 8, 16, 32)
WARM_UP = 3
LOGICAL_CPUS = 8
JOB = (
    *("jobs.grpo", "--preset", "demo", "--batch_size", "1", "--group_size", "96", "--num_prompts", "4"),
    *("--use_physics_reward", "false", "--num_eval_prompts", "1", "--num_eval_samples", "1", "--eval_every", "0"),
    *("--save_interval", "1000", "--num_rollout_actors", "1", "--eval_other_steps", "none", "--judge_path", "none"),
    *("--second_judge", "false", "--log_interval", "1000"),
)
"""The run of `tax`."""

Figure = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    options = parse_arguments(arguments)
    logging.getLogger("cluster").setLevel(logging.ERROR)
    # By default Ray's workers are nicer than what they are measured beside.
    os.environ.setdefault("RAY_worker_niceness", "0")
    load = os.getloadavg()[0]
    figures: dict[str, Figure] = {}
    settings = ClusterSettings(ray_address="local", object_store_mb=500, dashboard=False)
    if "tax" in options.only:
        # It starts clusters of its own.
        figures["tax"] = measure_tax(options.steps)
        print(line_of("tax", figures["tax"]), flush=True)
    with connect(settings, LOGICAL_CPUS):
        for name in options.only:
            if name in MEASURES:
                figures[name] = MEASURES[name](options.steps)
                print(line_of(name, figures[name]), flush=True)
    print(f"load of the machine at the start: {load:.1f} on {os.cpu_count()} cores")
    if options.json is not None:
        machine = {"cores": os.cpu_count(), "load": load, "versions": library_versions()}
        write_json(options.json, {"machine": machine, "steps": options.steps, "figures": figures})
    missed = missed_targets(figures)
    if missed:
        print("missed: " + "; ".join(missed))
    return 1 if missed and options.check else 0


def line_of(name: str, figure: Figure) -> str:
    """A figure as a line of text."""
    return f"{name:<10}" + "  ".join(f"{key} {value:.4g}" for key, value in figure.items())


def measure_overlap(num_steps: int) -> Figure:
    """Seconds a step of sleepers at staleness 0 and 1, and how near the second is to the ideal."""
    medians, figure = [], {}
    for staleness in (0, 1):
        seconds = seconds_per_step(OVERLAP, OVERLAP_ACTORS, 1, OVERLAP_GROUPS, num_steps=num_steps, staleness=staleness)
        medians.append(statistics.median(seconds))
        figure |= spread(f"staleness_{staleness}", seconds)
    ideal = max(OVERLAP.rollout * OVERLAP_GROUPS / OVERLAP_ACTORS, OVERLAP.reward * OVERLAP_GROUPS, OVERLAP.update)
    return {**figure, "ideal": ideal, "efficiency": ideal / medians[1], "speedup": medians[0] / medians[1]}


def measure_overhead(num_steps: int) -> Figure:
    """How much longer a step of sleepers takes than its longest chain, and than plain Ray calls."""
    seconds = seconds_per_step(OVERHEAD, OVERHEAD_GROUPS, OVERHEAD_GROUPS, OVERHEAD_GROUPS, num_steps=num_steps)
    chain = OVERHEAD.rollout + OVERHEAD.reward + OVERHEAD.update
    plain = plain_step_seconds(OVERHEAD, OVERHEAD_GROUPS, WARM_UP + 1 + num_steps)[WARM_UP:]
    median = statistics.median(seconds)
    over = {"share": median / chain - 1.0, "over_plain": median / statistics.median(plain) - 1.0}
    return {**spread("step", seconds), **spread("plain", plain), "chain": chain, **over}


def measure_commits(num_steps: int) -> Figure:
    """How much longer a step of sleepers takes with a checkpoint after each."""
    groups = (OVERHEAD_GROUPS, OVERHEAD_GROUPS, OVERHEAD_GROUPS)
    without = seconds_per_step(OVERHEAD, *groups, num_steps=num_steps)
    each = seconds_per_step(OVERHEAD, *groups, num_steps=num_steps, save_interval=1)
    more = statistics.median(each) - statistics.median(without)
    return {**spread("without", without), **spread("each", each), "more_s": more}


def seconds_per_step(
    times: SleepTimes,
    num_rollout_actors: int,
    num_reward_actors: int,
    num_groups: int,
    *,
    num_steps: int,
    staleness: int = 0,
    save_interval: int | None = None,
) -> list[float]:
    """Durations of the timed steps of a run of sleepers on Ray."""
    roles = sleeping_roles(times, num_rollout_actors, num_reward_actors)
    run = sleeping_run(RayRuntime(), roles, num_groups, WARM_UP + 1 + num_steps, staleness, save_interval)
    with run as (controller, save_dir):
        controller.run()
        return step_seconds(save_dir, WARM_UP)


def measure_scaling(num_steps: int, actors: Sequence[int] = SCALING_ACTORS) -> Figure:
    """Ideal time over time of four sleeping calls for each actor, by number of actors."""
    figure = {}
    for count in actors:
        factory = functools.partial(SleepingRollouts, SCALING_SECONDS)
        runtime = RayRuntime()
        try:
            runtime.start([Role("sleeper", factory, count=count, num_cpus=0.01)])
            walls = []
            for _ in range(3):
                started = time.monotonic()
                calls = [runtime.submit("sleeper", "sleep", index) for index in range(count * SCALING_CALLS)]
                list(runtime.wait(calls))
                walls.append(time.monotonic() - started)
        finally:
            runtime.close()
        figure[f"efficiency_{count}"] = SCALING_SECONDS * SCALING_CALLS / statistics.median(walls)
    return figure


def measure_recovery(num_steps: int) -> Figure:
    """The death of the only rollout actor in the middle of a call."""
    runtime = RayRuntime()
    with tempfile.TemporaryDirectory(prefix="recovery_") as folder:
        note = Path(folder) / "death"
        try:
            runtime.start(sleeping_roles(OVERLAP, 1, 1, Death(0, note)))
            version = runtime.put(PolicyVersion(0, {}))
            requests = SleepingBatches(OVERLAP_GROUPS).requests(0, 0)
            calls = [runtime.submit(ROLLOUT, "run", request, version, num_outputs=2) for request in requests]
            list(runtime.wait(calls))
            counters, died = runtime.counters, float(note.read_text())
        finally:
            runtime.close()
    back = min(call.stats.started + call.stats.seconds for call in calls if call.stats is not None)
    repeated = sum(call.attempts > 0 for call in calls)
    return {
        "seconds": back - died - OVERLAP.rollout,
        "repeated_calls": float(repeated),
        "restarts": float(counters.restarts),
    }


def measure_tax(num_steps: int) -> Figure:
    """The same real run in one process and on Ray, one after the other."""
    medians: dict[str, float] = {}
    figure: Figure = {}
    with tempfile.TemporaryDirectory(prefix="tax_") as folder:
        for runtime in ("local", "ray"):
            save_dir = Path(folder) / runtime
            words = [*JOB, "--num_steps", str(WARM_UP + 1 + num_steps), "--runtime", runtime]
            command = [sys.executable, "-m", *words, "--save_dir", str(save_dir)]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
            records = read_json_lines(save_dir / "metrics.jsonl")
            seconds = [record["seconds/step"] for record in records if "seconds/step" in record][WARM_UP:]
            medians[runtime] = statistics.median(seconds)
            figure |= spread(runtime, seconds)
    return {**figure, "share": medians["ray"] / medians["local"] - 1.0}


def measure_publish(num_steps: int) -> Figure:
    """A version of adapters of the published size on its way, against a small step."""
    roles = training_roles(ClusterSettings(), build_rollouts, {}, build_learner)
    runtime, on_the_way, steps, size = RayRuntime(), [], [], 0.0
    try:
        runtime.start(roles)
        for step in range(num_steps):
            published = runtime.submit(LEARNER, "publish", num_outputs=2)
            number = runtime.result(published.outputs[0])
            loaded = runtime.submit(ROLLOUT, "load", published.outputs[1])
            size = runtime.result(loaded.output)
            assert published.stats is not None and loaded.stats is not None
            on_the_way.append(loaded.stats.started + loaded.stats.seconds - published.stats.started)
            request, version = small_request(step, number), published.outputs[1]
            rollout = runtime.submit(ROLLOUT, "run", request, version, num_outputs=2)
            update = runtime.submit(LEARNER, "update", small_advantages(), [rollout.outputs[1]], num_outputs=2)
            runtime.result(update.outputs[0])
            assert rollout.stats is not None and update.stats is not None
            steps.append(rollout.stats.seconds + update.stats.seconds)
    finally:
        runtime.close()
    figure = {**spread("publish", on_the_way), **spread("step", steps), "megabytes": size / 1e6}
    return {**figure, "share": statistics.median(on_the_way) / statistics.median(steps)}


MEASURES: dict[str, Callable[[int], Figure]] = {
    "overlap": measure_overlap,
    "overhead": measure_overhead,
    "commits": measure_commits,
    "scaling": measure_scaling,
    "recovery": measure_recovery,
    "publish": measure_publish,
}


def spread(name: str, seconds: Sequence[float]) -> Figure:
    """Median and quartiles of times."""
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
    return {f"{name}_s": median, f"{name}_low_s": low, f"{name}_high_s": high}


def missed_targets(figures: Mapping[str, Figure]) -> list[str]:
    """One phrase for every target that was missed by what was measured."""
    last = f"efficiency_{SCALING_ACTORS[-1]}"
    targets = [
        ("overlap", "efficiency", 0.95, 1),
        ("overlap", "speedup", 1.6, 1),
        ("overhead", "share", 0.03, -1),
        ("tax", "share", 0.10, -1),
        ("scaling", last, 0.9, 1),
        ("recovery", "seconds", 3.0, -1),
        ("recovery", "repeated_calls", 2.0, -1),
        ("publish", "share", 0.02, -1),
    ]
    return [
        f"{name} {key} is {figures[name][key]:.3g}, the target {'at least' if sign > 0 else 'at most'} {target:g}"
        for name, key, target, sign in targets
        if name in figures and not sign * figures[name][key] >= sign * target
    ]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["tax", *MEASURES]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="FIGURE", help="figures to measure")
    parser.add_argument("--steps", type=int, default=12, help="timed steps")
    parser.add_argument("--json", type=Path, metavar="PATH", help="file for all figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(arguments)
    if options.steps < 2:
        parser.error(f"--steps is {options.steps}, expected at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
