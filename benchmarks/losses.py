"""Policy losses compared: GRPO against losses of final motions, from the same base at equal CPU seconds.

    python -m benchmarks.losses --seeds 3 [--cpu_seconds 300] [--save_dir runs/losses] [--output docs/results]
    python -m benchmarks.losses --levels --seeds 3      # what happens at low noise, and what was tried against it
    python -m benchmarks.losses --only grpo awm --seeds 1 --cpu_seconds 60

Each variant and seed is one run of `jobs.grpo` with preset `demo`, changed as `VARIANTS` says; further options are
those of `jobs.grpo` and apply to all variants. How many updates `--cpu_seconds` pay for is measured first, by making a
few in this process: rollouts, rewards and update count, evaluations do not. They are made twice, and each counts with
its faster time: what else runs on the machine slows them. The learning rate falls over the run. All
policies are evaluated by the same deterministic sampler of ten steps, on prompts and noise of a seed on which no preset
was chosen.

What is finished in `--save_dir` is not repeated, and a run that was stopped goes on from its last checkpoint. So calls
with other variants may run beside each other, and a last one with all of them makes the table. After every run the
table is printed, and `losses.json` (with `--levels` `losses_levels.json`) and the curves beside it are written anew.
Intervals are 95 % bootstrap intervals of the paired change, over prompts with the same text together; of several seeds
the changes are averaged first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning import write_json
from cluster.records.curves import draw_comparison
from cluster.records.measured import read_json_lines
from cluster.run.roles import LEARNER, ROLLOUT
from jobs import grpo
from jobs.command_line import main as cli
from jobs.configs.grpo import GRPOConfig
from jobs.text.demonstration import ensure_weights
from jobs.text.demonstration import finished as finished_run
from jobs.text.grpo_run import PreparedRun, prepare
from motions.base.atomic import atomic_write
from motions.base.safe_files import read_array_file
from motions.data.prompts import load_prompts
from motions.skeleton.skeletons import get_skeleton

FIRST_SEED = 40
EVAL_SEED = 20_731
"""Of prompts and noise; no preset and no option below was chosen on it."""
NUM_RESAMPLES = 10_000
TIMED_UPDATES, TIMED_REPEATS = 3, 2
NUM_CHECKPOINTS = 12
"""Of a run; the last ones are kept."""

MOTION: dict[str, object] = {
    **{"sampling_steps": 10, "learning_rate": 2e-3, "kl_penalty": 0.0, "group_size": 16, "advantage_clip": 3.0},
    **{"noise_draws": 4, "trained_levels": 1, "share_noise": True},
}
"""Options of losses of final motions: rollouts of ten deterministic steps, of whose noise levels the noisiest is
trained, with noise that a group shares, so that an update is cheap."""
TWO_EPOCHS: dict[str, object] = {"num_epochs": 2, "groups_per_optimizer_step": 8}
ALL_LEVELS: dict[str, object] = {"trained_levels": 0, "noise_draws": 5}

VARIANTS: dict[str, dict[str, object]] = {
    "grpo": {},
    "grpo_4_steps": TWO_EPOCHS,
    "dppo": {**TWO_EPOCHS, "policy_loss": "dppo"},
    "nft": {**MOTION, "policy_loss": "nft"},
    "awm": {**MOTION, "policy_loss": "awm"},
    "dgpo": {**MOTION, "policy_loss": "dgpo"},
}
"""How each variant differs from preset `demo`. `dppo` is Flow-DPPO's mask, which acts in updates of several optimizer
steps: `grpo_4_steps` has as many."""

LEVELS: dict[str, dict[str, object]] = {
    "awm_noisiest": VARIANTS["awm"],
    "awm_noisiest_own_noise": {**VARIANTS["awm"], "share_noise": False},
    "awm_noisiest_from_3_steps": {**VARIANTS["awm"], "sampling_steps": 3},
    "awm_all": {**VARIANTS["awm"], **ALL_LEVELS},
    "awm_all_from_50_steps": {**VARIANTS["awm"], **ALL_LEVELS, "rollout_sampling_steps": 50},
    "awm_all_with_penalty": {**VARIANTS["awm"], **ALL_LEVELS, "kl_penalty": 1.0, "kl_weighting": "x0"},
    "dgpo_all": {**VARIANTS["dgpo"], **ALL_LEVELS},
    "nft_all": {**VARIANTS["nft"], **ALL_LEVELS},
}
"""With `--levels`: the noisiest level with noise of each sample's own and with cheaper rollouts; all noise levels, and
what may help there: motions of 50 denoising steps, a penalty on leaving the base's predictions, preferences."""

SHOWN = (
    *("total", "judge_matching", "second_judge", "logic_accuracy", "skate", "low_foot_skate"),
    *("jerk", "jerk_mps3", "joint_speed_mps"),
)
"""Quantities of the table, as far as an evaluation has them."""
KINDS = ("all", "single", "composite")

Rows = dict[str, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes what is missing of all runs, writes JSON and PNG, and returns the exit code."""
    options, own = parse_arguments(arguments)
    weights = ensure_weights(options.weights_dir)
    variants = LEVELS if options.levels else VARIANTS
    chosen = {name: variants[name] for name in options.only or variants}
    results: dict[str, dict[str, Any]] = {}
    done: dict[str, list[GRPOConfig]] = {name: [] for name in chosen}
    for seed, (name, changes) in itertools.product(range(FIRST_SEED, FIRST_SEED + options.seeds), chosen.items()):
        folder = options.save_dir / f"{name}_{options.cpu_seconds:g}s_seed_{seed}"
        values = {**common(), **weights, **changes, **own, "runtime": options.runtime, "ray_address": "local"}
        cost = known_cost(options.save_dir / f"{name}_cpu_seconds.json", values)
        num_updates = max(1, round(options.cpu_seconds / cost))
        config = plan(folder, {**values, "seed": seed}, num_updates, options.points)
        if not finished_run(config):
            grpo.run(config)
        done[name].append(config)
        results[name] = {
            "options": {**changes, **own},
            "cpu_seconds_per_update": cost,
            "num_updates": config.run.num_steps,
            **measured(done[name], cost),
        }
        write_results(options, results)
        for line in table(results):
            print(line, flush=True)
    return 0


def common() -> dict[str, object]:
    """What all variants share. Other samplers than the evaluation's are not measured, which would cost minutes."""
    return {
        **{"lr_schedule": "cosine", "lr_anneal_steps": 0},
        **{"eval_seed": EVAL_SEED, "eval_sampling_steps": 10, "eval_other_steps": ()},
    }


def plan(folder: Path, values: Mapping[str, object], num_updates: int, num_points: int) -> GRPOConfig:
    """A run with so many evaluations after the first, which goes on where it was stopped."""
    every = -(-num_updates // num_points)
    length = {"num_steps": num_updates, "eval_every": every, "save_interval": -(-num_updates // NUM_CHECKPOINTS)}
    begun = (folder / "config.yaml").is_file()
    return cli.load_preset(GRPOConfig, "demo", "jobs.grpo", **{**values, **length, "save_dir": folder, "resume": begun})


def known_cost(path: Path, values: Mapping[str, object]) -> float:
    """CPU seconds of an update with these options, as in the file; measured if that has other options or is missing."""
    plain = {name: str(value) for name, value in values.items()}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if known is None or known["options"] != plain:
        config = cli.load_preset(GRPOConfig, "demo", "jobs.grpo", **{**values, "save_dir": path.parent / "unused"})
        known = {"options": plain, "cpu_seconds": cpu_seconds_per_update(config)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(known, indent=2).encode())
    return known["cpu_seconds"]


def cpu_seconds_per_update(config: GRPOConfig) -> float:
    """Mean CPU seconds of rollouts, rewards and update of a step, in this process, after one step that does not
    count."""
    prepared = prepare(config)
    torch.set_num_threads(config.cluster.threads_per_actor)
    return float(np.min([timed_updates(prepared) for _ in range(TIMED_REPEATS)], axis=0).mean())


def timed_updates(prepared: PreparedRun) -> list[float]:
    """CPU seconds of each of the first steps of a run but the very first."""
    actors: dict[str, Any] = {role.name: role.factory() for role in prepared.roles}
    scorers = [actor for name, actor in actors.items() if name not in (ROLLOUT, LEARNER)]
    _, version = actors[LEARNER].publish()
    seconds = []
    for step in range(1 + TIMED_UPDATES):
        started = time.process_time()
        requests = prepared.algorithm.batches.requests(step, version.number)
        groups = [actors[ROLLOUT].run(request, version) for request in requests]
        mixed = [
            prepared.algorithm.combine([scorer.score(motions) for scorer in scorers], request.prompt.text)
            for request, (motions, _) in zip(requests, groups, strict=True)
        ]
        shared = [name for name in mixed[0].terms if all(name in rewards.terms for rewards in mixed)]
        terms = {name: np.stack([rewards.terms[name] for rewards in mixed]) for name in shared}
        advantages = prepared.algorithm.advantages(np.stack([rewards.total for rewards in mixed]), terms)
        _, version = actors[LEARNER].update(advantages.values, [trajectory for _, trajectory in groups])
        seconds.append(time.process_time() - started)
    return seconds[1:]


def measured(runs: Sequence[GRPOConfig], cost: float) -> dict[str, Any]:
    """Figures of a variant's finished runs: rows by kind, FID, diversity, and the held-out curve over CPU seconds."""
    folders = [config.run.save_dir for config in runs]
    pairs = [tuple(_terms(folder / "samples" / f"{name}.npz") for name in ("before", "after")) for folder in folders]
    documents = [json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) for folder in folders]
    fps = get_skeleton(documents[0]["skeleton"]).fps
    prompts = load_prompts(folders[0] / "samples" / "prompts.jsonl", fps)
    single = np.array([len(prompt.segments) == 1 for prompt in prompts])
    places = {"all": np.ones(len(prompts), bool), "single": single, "composite": ~single}
    kinds: dict[str, Rows] = {}
    for kind, here in places.items():
        if not here.any():
            continue
        texts = [prompt.text for prompt, inside in zip(prompts, here, strict=True) if inside]
        kinds[kind] = {
            name: change([before[name][here] for before, _ in pairs], [after[name][here] for _, after in pairs], texts)
            for name in SHOWN
            if name in pairs[0][0]
        }
    for name in ("fid", "diversity_m"):
        rows = [row for document in documents for row in document["rows"] if row["name"] == name]
        if rows:
            after = [row["after"] for row in rows]
            kinds["all"][name] = {"before": rows[0]["before"], "after": float(np.mean(after)), "seeds": after}
    return {"kinds": kinds, "held_out_curve": curve(folders, cost)}


def change(before: Sequence[np.ndarray], after: Sequence[np.ndarray], texts: Sequence[str]) -> dict[str, Any]:
    """One quantity of K seeds, each [P, S]: means, the interval of the change, and the mean change of every seed."""
    differences = np.stack(after) - np.stack(before)
    return {
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "interval": list(text_interval(differences.mean(axis=(0, 2)), texts)),
        "seeds": differences.mean(axis=(1, 2)).tolist(),
    }


def text_interval(values: np.ndarray, texts: Sequence[str]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of values [P], resampling texts with all their prompts."""
    unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    rows = np.array([unique[text] for text in texts])
    sums, sizes = (np.bincount(rows, weights=weights) for weights in (values, np.ones(len(values))))
    draws = np.random.default_rng(0).integers(0, len(unique), (NUM_RESAMPLES, len(unique)))
    low, high = np.percentile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def curve(folders: Sequence[Path], cost: float) -> list[tuple[float, float]]:
    """Mean held-out total of the seeds by CPU seconds."""
    points: dict[int, list[float]] = {}
    for folder in folders:
        for record in read_json_lines(folder / "metrics.jsonl"):
            if "evaluation/total" in record:
                points.setdefault(record["step"], []).append(record["evaluation/total"])
    return [(step * cost, float(np.mean(values))) for step, values in sorted(points.items())]


def table(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The results as lines of text: for every kind and quantity the base, then each variant with its interval."""
    width = max(map(len, results))
    for name, result in results.items():
        cost = result["cpu_seconds_per_update"]
        yield f"{name:<{width}}  {result['num_updates']} update(s) of {cost:.2f} CPU seconds"
    first = next(iter(results.values()))["kinds"]
    for kind in (kind for kind in KINDS if kind in first):
        for quantity, base in first[kind].items():
            yield f"{kind}, {quantity}: before {base['before']:.4g}"
            for name, result in results.items():
                row = result["kinds"][kind][quantity]
                by = row["after"] - row["before"]
                interval = "" if "interval" not in row else "  95 % {:+.4f} to {:+.4f}".format(*row["interval"])
                yield f"  {name:<{width}}  {row['after']:.4g}  {by:+.4f}{interval}"


def write_results(options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    """Writes JSON and PNG of what is finished so far."""
    name = "losses_levels" if options.levels else "losses"
    options.output.mkdir(parents=True, exist_ok=True)
    document = {"cpu_seconds": options.cpu_seconds, "seeds": options.seeds, "eval_seed": EVAL_SEED}
    write_json(options.output / f"{name}.json", {**document, "variants": results})
    curves = {label: result["held_out_curve"] for label, result in results.items()}
    draw_comparison(options.output / f"{name}.png", "held-out total reward by CPU seconds of training", curves)


def _terms(path: Path) -> dict[str, np.ndarray]:
    """Terms [P, S] of an evaluation by name."""
    arrays = read_array_file(path)
    shape = (int(arrays["prompt_index"].max()) + 1, -1)
    return {
        name.removeprefix("terms/"): values.reshape(shape).astype(np.float64)
        for name, values in arrays.items()
        if name.startswith("terms/")
    }


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, object]]:
    """The benchmark's options, and those of the job that differ from the preset."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.losses", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--cpu_seconds", type=float, default=300.0, help="of training, for every run")
    parser.add_argument("--points", type=int, default=6, help="evaluations of a run after the first, for the curves")
    parser.add_argument("--levels", action="store_true", help="compare noise levels in place of losses")
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--runtime", choices=("ray", "local"), default="local")
    parser.add_argument("--save_dir", type=Path, default=Path("runs/losses"), help="for the runs")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder for JSON and PNG")
    parser.add_argument("--weights_dir", type=Path, default=Path("runs/weights"), help="for weights that do not ship")
    options, words = parser.parse_known_args(arguments)
    known = LEVELS if options.levels else VARIANTS
    if min(options.seeds, options.points) < 1 or not options.cpu_seconds > 0:
        given = f"--seeds is {options.seeds}, --points {options.points}, --cpu_seconds {options.cpu_seconds:g}"
        parser.error(f"{given}; all are above 0")
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"--only {' '.join(unknown)}: there are {', '.join(known)}")
    own = ["--preset", "demo", "--save_dir", "unused"]
    try:
        plain, changed = (cli.parse(GRPOConfig, [*own, *more], "jobs.grpo").settings.flat() for more in ([], words))
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    return options, {name: value for name, value in changed.items() if value != plain[name]}


if __name__ == "__main__":
    sys.exit(main())
