"""How many denoising steps should be stochastic and trained: held-out curves with all of them and with a short window.

    python -m benchmarks.stochastic_steps [--num_steps 40] [--runtime local] [--save_dir DIR]

Runs `jobs.grpo` with preset `demo` twice, with the same seed, prompts and evaluation: unchanged (of three denoising
steps the first is stochastic and trained) and with `--sde_window 0` (every step but the noiseless last one). Writes
`docs/results/stochastic_steps.json` and `.png`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning import FIRST_SEED, train, write_json
from cluster.records.curves import draw_comparison
from jobs.text.demonstration import ensure_weights

VARIANTS: dict[str, dict[str, object]] = {
    "the first of three steps (preset demo)": {},
    "every step (--sde_window 0)": {"sde_window": 0},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both and writes JSON and PNG; returns the exit code."""
    options = parse_arguments(arguments)
    weights = ensure_weights(Path("runs/weights"))
    curves = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (label, changes) in enumerate(VARIANTS.items()):
            length = {"num_steps": options.num_steps, "eval_every": 10}
            overrides = {**weights, **length, "runtime": options.runtime, "ray_address": "local"}
            folder = (options.save_dir or Path(scratch)) / f"variant_{number}"
            result = train("demo", {**overrides, "seed": FIRST_SEED, "save_dir": folder, **changes})
            curves[label] = result["held_out_curve"]
            print(f"{label}: {result['seconds']:.0f} s, {curves[label]}")
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "stochastic_steps.json", {"held_out_total": curves})
    draw_comparison(options.output / "stochastic_steps.png", "held-out total reward by update", curves)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stochastic_steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num_steps", type=int, default=40, help="updates of each run")
    parser.add_argument("--runtime", choices=("ray", "local"), default="ray")
    parser.add_argument("--save_dir", type=Path, help="keep the run directories here")
    parser.add_argument("--output", type=Path, default=Path("docs/results"), help="folder for JSON and PNG")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
