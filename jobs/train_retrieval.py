"""Trains a TMR (Petrovich et al. 2023), which compares text and motion: for a reward, or to evaluate policies.

    python -m jobs.train_retrieval --preset retrieval_small --save_dir runs/tmr
    python -m jobs.train_retrieval --preset retrieval_small --captions judge --seed 77 --save_dir runs/judge

`--save_dir` gets TMR's layout (`last_weights/*.pt`, `stats/{mean,std}.pt`, `config.json`), so it can be given as
`--tmr_checkpoint_path` to `jobs.grpo`. Retrieval on the held-out clips, if the data has any, is measured and printed at
every checkpoint; `config.json` keeps the results under `provenance`. `--resume` continues a training that was stopped,
bit for bit.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.configs.retrieval import RetrievalConfig

run = cli.later("jobs.text.retrieval_training:run")
plan = cli.later("jobs.text.retrieval_training:plan")

if __name__ == "__main__":
    sys.exit(cli.main(RetrievalConfig, run, __doc__, "jobs.train_retrieval", plan=plan))
