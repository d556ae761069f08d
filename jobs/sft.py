"""Clones a controller from motion clips: supervised training on an expert, with DAgger, on Ray Train.

    python -m jobs.sft --mocap walk --save_path runs/walk_clone
    python -m jobs.sft --mocap my_clip.txt --epochs 50 --hidden_size 256 128 --refine_actions --save_path runs/mine
    ray job submit --working-dir . -- python -m jobs.sft --mocap walk --num_workers 4 --save_path /abs/path

The expert aims at the reference pose one control step ahead, with velocity feed-forward, and corrects the balance. The
first demonstrations are rollouts of the expert with noise. In the rounds after that the clone acts in a growing share
of the steps (`--dagger_betas`), and the expert labels the states that the clone visits. `--save_path` gets
`controller.safetensors` with observation statistics and schema, from which `jobs.trpo --load_sft_pretrain` and
`jobs.deepmimic` continue, and `evaluation.json`: the clone next to open loop, held pose and zero action from fixed
starts.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.sft import SFTConfig

run = cli.later("jobs.character.sft_training:run")
plan = cli.later("jobs.character.sft_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(SFTConfig, run, __doc__, job="jobs.sft", plan=plan))
