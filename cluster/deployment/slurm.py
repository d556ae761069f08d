"""A Slurm script that starts Ray on every node of an allocation and the run on the first one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cluster.deployment.groups import MachineGroup

TEMPLATE = """#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}G{gpus}
#SBATCH --time={time}
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=%x-%j.log
# Slurm asks for the end two minutes before the time is over: the run saves itself, and goes on when it is queued again.
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1
# One cluster of this allocation alone: its own port, its own token.
port=$((20000 + SLURM_JOB_ID % 20000))
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

srun --nodes={nodes} --ntasks={nodes} --kill-on-bad-exit=1 \\
    ray symmetric-run --address "$head:$port" --min-nodes {nodes} --num-cpus {cpus} -- \\
    {command} &
run=$!
trap 'kill -TERM "$run"; wait "$run"; scontrol requeue "$SLURM_JOB_ID"' TERM
wait "$run"
"""


def slurm_script(name: str, groups: Sequence[MachineGroup], command: Sequence[str], hours: int) -> str:
    """The script. Its nodes are equal, and as many as hold what all groups need; the driver has two CPUs of the first.

    Args:
        command: words of the run; it must be able to start again (`--resume`).
        hours: after which Slurm ends the job.
    """
    nodes = max(1, max((group.machines for group in groups), default=1))
    shares = [(group, -(-group.machines // nodes)) for group in groups]
    gpus = sum(share * group.gpus for group, share in shares)
    return TEMPLATE.format(
        name=name,
        nodes=nodes,
        cpus=2 + sum(share * group.cpus for group, share in shares),
        memory=4 + sum(share * group.memory_gb for group, share in shares),
        gpus=f"\n#SBATCH --gpus-per-node={gpus}" if gpus else "",
        time=f"{hours}:00:00",
        command=shlex.join(command),
    )
