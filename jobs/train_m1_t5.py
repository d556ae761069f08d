"""Trains a T5 that reads a text as a scene.

    python -m jobs.train_m1_t5 --preset parser_small --output-dir runs/parser
    python -m jobs.train_m1_t5 --epochs 15 --batch-size 4 --lr 5e-5 --data-dir data/vg_scenes --output-dir runs/parser
    python -m jobs.parse_scene --parser runs/parser --text "A man walks to the table, then kicks the ball."

`--data-dir` holds what `jobs.build_scene_dataset` or `jobs.build_vg_dataset` wrote. `--model` is a T5's folder or its
name on the hub, or `scratch`: a small one with its own tokenizer, which first learns to copy. Lines that are too long
are found before the training. At each checkpoint held-out texts are parsed: how many lines are JSON, how many scenes
are exact, actions in order, F1 of entities and relations. `--resume` continues a training that was stopped, bit for
bit.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.parser_settings import TrainParserConfig

run = cli.later("jobs.scenes.parser_training:run")
plan = cli.later("jobs.scenes.parser_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(TrainParserConfig, run, __doc__, "jobs.train_m1_t5", plan=plan))
