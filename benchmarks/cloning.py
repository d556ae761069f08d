"""How many steps cloning saves: TRPO from a clone against TRPO from a new network, on one clip with the same options.

    python -m benchmarks.cloning --motion walk --num_timesteps 600000 [--json PATH] [--png PATH] [--check]
    python -m benchmarks.cloning --motion walk --num_timesteps 600000 --action_mode absolute

Further options are those of `jobs.deepmimic`. With residual actions (its default) the mean action of a new network is
nearly the open-loop expert's, so that TRPO alone starts with much of what a clone has learned; with `--action_mode
absolute` it has to find the motion by itself. Both networks have the same shape; the new one begins with the smallest
standard deviation that a clone may have (`--log_std_floor`).

Returns are means over the episodes that ended in the last five iterations. The level is the best return of TRPO alone;
the target is that TRPO from the clone reaches it in a quarter of the steps. The steps in which experts labelled states
for the cloning count as steps of the clone. With --check, a missed target gives exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.learning import write_json
from cluster.records.curves import draw_comparison, smooth
from cluster.records.measured import read_records
from jobs import trpo
from jobs.character import deepmimic_run, sft_training
from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig
from jobs.configs.trpo import ActorCriticSettings, TRPOJobConfig

MIN_SAVING = 4.0
WINDOW = 5
CLONED, ALONE = "cloning, then TRPO", "TRPO alone"

Curve = list[tuple[float, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains both networks and returns the exit code."""
    options, config = parse_arguments(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.save_dir or Path(scratch)
        labelled = clone(config, folder)
        curves = {CLONED: train(deepmimic_run.trpo_config(config, folder)), ALONE: train(alone(config, folder))}
    result = compare(curves, labelled)
    for name, value in result.items():
        print(f"{name:24} {value:.4g}")
    if options.json:
        write_json(options.json, {**result, "curves": curves, "config": config.model_dump(mode="json")})
    if options.png:
        draw_comparison(options.png, "return per episode by environment steps", curves)
    if options.check and result["saving"] < MIN_SAVING:
        print(f"missed: cloning saves {result['saving']:.2f}x of the steps, {MIN_SAVING:g}x expected")
        return 1
    return 0


def clone(config: DeepMimicConfig, folder: Path) -> int:
    """Clones into `clone/`; returns the number of states that were labelled."""
    sft_training.run(deepmimic_run.clone_config(config, folder))
    return int(read_records(folder / "clone" / "metrics.jsonl")[-1]["samples"])


def alone(config: DeepMimicConfig, folder: Path) -> TRPOJobConfig:
    """The configuration of TRPO for a new network of the clone's shape and initial standard deviation."""
    cloned, clone = deepmimic_run.trpo_config(config, folder), config.cloning
    network = ActorCriticSettings(
        hidden_size=clone.hidden_size[0],
        num_layers=clone.num_layers,
        activation=clone.activation,
        initial_log_std=clone.log_std_floor,
    )
    run = cloned.run.model_copy(update={"load_sft_pretrain": None, "save_dir": folder / "alone"})
    return cloned.model_copy(update={"run": run, "network": network})


def train(config: TRPOJobConfig) -> Curve:
    """Trains, and returns the curve of returns by environment steps."""
    trpo.run(config)
    found = [line for line in read_records(config.folder / "metrics.jsonl") if "rollout/return" in line]
    steps = [line["timesteps"] for line in found]
    return list(zip(steps, smooth(np.array([line["rollout/return"] for line in found]), WINDOW).tolist(), strict=True))


def compare(curves: dict[str, Curve], labelled: int) -> dict[str, float]:
    """The level that TRPO alone reaches, the steps of both to it, and their ratio; 0 if the clone never reaches it."""
    alone_steps, level = max(curves[ALONE], key=lambda point: point[1])
    reached = [steps for steps, value in curves[CLONED] if value >= level]
    cloned_steps = reached[0] + labelled if reached else float("inf")
    return {
        "level": level,
        "steps_alone": alone_steps,
        "steps_cloned": cloned_steps,
        "labelled_states": float(labelled),
        "saving": alone_steps / cloned_steps,
        "last_return_alone": curves[ALONE][-1][1],
        "last_return_cloned": curves[CLONED][-1][1],
    }


def parse_arguments(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, DeepMimicConfig]:
    """The benchmark's options and the job's."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cloning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--png", type=Path, help="file for the two curves")
    parser.add_argument("--save_dir", type=Path, help="keep the run directories here")
    parser.add_argument("--check", action="store_true", help="exit 1 when cloning saves too little")
    options, words = parser.parse_known_args(arguments)
    place = ["--runtime", "local", "--save_dir", str(options.save_dir or "unused")]
    try:
        config = cli.parse(DeepMimicConfig, [*place, *words], "jobs.deepmimic").settings
    except cli.UsageError as error:
        parser.error("; ".join(error.lines))
    if len(widths := config.cloning.hidden_size) > 1:
        parser.error(f"--hidden_size is {widths}; legal: one width, the same in all layers, as in jobs.trpo")
    return options, config


if __name__ == "__main__":
    sys.exit(main())
