"""Makes a training set for scene parsers of the captions of recorded motions.

    python -m jobs.build_scene_dataset --output data/scenes --num_examples 20000
    python -m jobs.build_scene_dataset --dataset dataset/HumanML3D --output data/scenes

A text tells one to four actions in an order of its own, composed of captions of single actions and of verbs that are
done to things, with places, counts and durations; its scene is known because it was composed. Written are
`train.jsonl`, `val.jsonl` (new texts of the same captions) and, where the data has a test split, `test.jsonl` (of
captions that tell what no caption of the training does): in each line `input`, the text, and `target`, its scene as
JSON with actions in order, entities and relations.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.parser_settings import SceneDatasetConfig

run = cli.later("jobs.scenes.scene_dataset:run")
plan = cli.later("jobs.scenes.scene_dataset:plan")

if __name__ == "__main__":
    sys.exit(cli.main(SceneDatasetConfig, run, __doc__, "jobs.build_scene_dataset", plan=plan, outputs=("output",)))
