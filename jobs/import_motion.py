"""Imports a folder of BVH files and a table of captions as a dataset in HumanML3D's layout.

    python -m jobs.import_motion --bvh_dir mocap --captions captions.csv --save_dir datasets/mine --dry_run
    python -m jobs.import_motion --bvh_dir mocap --captions captions.csv --save_dir datasets/mine
    python -m jobs.pretrain --dataset datasets/mine --save_dir runs/mine

The table has the columns `file, caption` and, optionally, `start, end` (seconds from the file's first frame); rows with
the same file and times are several captions of one clip. The joints of common rigs are recognised by name; `--mapping`
names them otherwise. `--dry_run` reads everything and reports which joints would be mapped, placed between neighbours
and left out, and what would be written. Nothing is overwritten: the folder appears when it is complete.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.import_motion import ImportConfig

run = cli.later("jobs.text.motion_import:run")
plan = cli.later("jobs.text.motion_import:plan")

if __name__ == "__main__":
    sys.exit(cli.main(ImportConfig, run, __doc__, "jobs.import_motion", plan=plan))
