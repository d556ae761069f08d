"""Makes a training set for scene parsers from the graphs of Visual Genome.

    python -m jobs.build_vg_dataset --vg-dir data/visual_genome --output data/scenes --max-samples 50000

`--vg-dir` holds `scene_graphs.json` and, for colours, `attributes.json`; they are read record by record. Written are
`train.jsonl`, `val.jsonl` and `test.jsonl` (80, 10 and 10 %, shuffled with seed 42): in each line `input`, sentences,
and `target`, the entities and relations that these sentences tell, as JSON.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.scenes.settings import VisualGenomeConfig

run = cli.later("jobs.scenes.visual_genome:run")
plan = cli.later("jobs.scenes.visual_genome:plan")

if __name__ == "__main__":
    sys.exit(cli.main(VisualGenomeConfig, run, __doc__, "jobs.build_vg_dataset", plan=plan, outputs=("output",)))
