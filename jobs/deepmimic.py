"""The complete pipeline from a motion clip to a controller that imitates it: cloning, TRPO, evaluation and report.

    python -m jobs.deepmimic --motion walk --save_dir runs/walk
    python -m jobs.deepmimic --motion run --num_timesteps 4000000 --num_env_runners 2 --save_dir runs/run
    python -m jobs.deepmimic --task evaluate --motion walk --check
    python -m jobs.deepmimic --task web --motion walk --save_dir web
    ray job submit --working-dir . -- python -m jobs.deepmimic --motion walk --save_dir /abs/path

`--save_dir` gets `clone/` and `trpo/` (each with its `controller.safetensors` and `metrics.jsonl`), `evaluation.json`
(trained controller and clone next to open loop, held pose and zero action, from fixed starts, with pushes) and
`report.html`. `--resume` continues after a stop, or with a larger `--num_timesteps`. `--task evaluate` evaluates a
controller, by default the one in docs/results/ that comes with kinetune; with `--check` the exit status is 1 if walk
misses a target, which is named on the last line. `--task web` writes `web.html`, which simulates a controller in any
browser, without a network or a server.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.deepmimic import DeepMimicConfig

run = cli.later("jobs.character.deepmimic_run:run")
plan = cli.later("jobs.character.deepmimic_run:plan")

if __name__ == "__main__":
    sys.exit(cli.main(DeepMimicConfig, run, __doc__, job="jobs.deepmimic", plan=plan))
