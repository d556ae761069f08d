"""Reads a text as a scene: who and what is in it, what happens in which order, and where everything is.

    python -m jobs.parse_scene --text "A man walks to the table, then kicks the red ball next to it"
    python -m jobs.generate --text_file outputs/scene/prompts.jsonl --save_dir outputs/kick
    python -m jobs.grpo --preset demo --prompts_path outputs/scene/prompts.jsonl --save_dir runs/kick

`scene.json` in `--save_dir` holds entities, actions and relations, to be looked at and edited; `--scene` reads such a
file instead of a text. `prompts.jsonl` has one prompt for each actor, with a segment for every action; durations that
the text does not give are those of the dataset's clips with the nearest captions. Rules read the text; they know a few
hundred English verbs, and name the nearest one for any other. The same text gives the same files.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import ParseSceneConfig

run = cli.later("jobs.scenes.parsing:run")
plan = cli.later("jobs.scenes.parsing:plan")

if __name__ == "__main__":
    sys.exit(cli.main(ParseSceneConfig, run, __doc__, "jobs.parse_scene", plan=plan))
