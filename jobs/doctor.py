"""Says in seconds what this machine or a cluster lacks, each line with its remedy.

    python -m jobs.doctor
    python -m jobs.doctor --preset single_gpu
    python -m jobs.doctor --check_data dataset/HumanML3D
    python -m jobs.doctor --ray_address 10.0.0.1:6379 --save_dir /shared/runs

Checked are Python, the installed packages, PyTorch and GPUs, memory, shared memory, open files, disk and rights of the
run folder, Ray's token and ports, the size of the upload; of a cluster its nodes and whether they have the same
versions; with `--preset` or `--config` whether that run could start. With `--check_data` a data folder is checked
instead: every list, clip and text of it, each mistake on a line. The exit status is 2 where something is lacking.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.service.doctor import DoctorConfig

run = cli.later("jobs.service.doctor:run")

if __name__ == "__main__":
    sys.exit(cli.main(DoctorConfig, run, __doc__, "jobs.doctor", outputs=()))
