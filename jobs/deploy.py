"""Prints a manifest for KubeRay, or a script for Slurm, with machines for what a run's options reserve.

    python -m jobs.deploy kuberay --preset single_gpu --name mine > job.yaml && kubectl apply -f job.yaml
    python -m jobs.deploy kuberay-cluster --preset demo > cluster.yaml
    python -m jobs.deploy slurm --preset demo --set num_rollout_actors=8 --save_dir /shared/runs/mine > job.sh

The run is started with `--resume`, so that whatever starts it again goes on with it. docker/README.md says what has to
be there: images, shared storage, a token.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.service.deploy import DeployConfig

run = cli.later("jobs.service.deploying:run")

if __name__ == "__main__":
    sys.exit(cli.main(DeployConfig, run, __doc__, "jobs.deploy", outputs=()))
