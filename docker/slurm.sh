#!/usr/bin/env bash
#SBATCH --job-name=kinetune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=5
#SBATCH --mem=16G
#SBATCH --time=24:00:00
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
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN

srun --nodes=2 --ntasks=2 --kill-on-bad-exit=1 \
    ray symmetric-run --address "$head:$port" --min-nodes 2 --num-cpus 5 -- \
    python -m jobs.grpo --preset demo --save_dir /shared/runs/demo --resume &
run=$!
trap 'kill -TERM "$run"; wait "$run"; scontrol requeue "$SLURM_JOB_ID"' TERM
wait "$run"
