"""Extends the list of known objects by the nouns of Visual Genome, and indexes it for finding what a noun is most like.

    python -m jobs.build_vg_kb_index --vg-dir data/visual_genome --output data/knowledge_base --max-objects 10000
    python -m jobs.plan_scene --scene outputs/scene/scene.json --objects data/knowledge_base

`--vg-dir` holds `objects.json`, which is read record by record, and perhaps `object_alias.txt` (names of one thing,
with commas between them). Visual Genome knows neither sizes nor masses: a noun gets those of the known object that
shares a name with it or is most like it, and is left out where none is. Written are `objects.json`, the longer list,
and the embeddings of its names with the fingerprint of list and encoder; an index of another list is refused.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import ObjectIndexConfig

run = cli.later("jobs.scenes.known_objects:run")
plan = cli.later("jobs.scenes.known_objects:plan")

if __name__ == "__main__":
    sys.exit(cli.main(ObjectIndexConfig, run, __doc__, "jobs.build_vg_kb_index", plan=plan, outputs=("output",)))
