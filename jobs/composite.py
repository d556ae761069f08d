"""Builds a set of composite prompts from captions and lengths of a data set: "First A, then B, finally C".

    python -m jobs.composite --k_segments 3 --split test
    python -m jobs.composite --dataset humanml --split train --k_segments 3 --output_dir dataset/HumanML3D/composite \\
        --target_length 196 --tolerance 20 --fps 20.0 --max_samples 1000 --compute_b_matrix --device cpu
    python -m jobs.composite --from_file composite_k3_train.npy

The file, `composite_k{K}_{split}.jsonl`, is what `--composite_data_path` of jobs.grpo and jobs.evaluate reads. Options
are those of the script of MDM-GRPO (jufan666/text-to-motion). Motions are drawn by their lengths, so composites of four
and five segments are found too. Equal data, options and seeds give equal files.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_COMPOSITE
from jobs.composites.settings import CompositeConfig

run = cli.later("jobs.composites.building:run")
plan = cli.later("jobs.composites.building:plan")

if __name__ == "__main__":
    sys.exit(cli.main(CompositeConfig, run, __doc__, "jobs.composite", plan=plan, foreign=FOREIGN_TO_COMPOSITE))
