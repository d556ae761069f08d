"""Supervised training of a text-to-motion policy as in MDM (Tevet et al. 2023), on built-in or your own clips.

    python -m jobs.pretrain --preset pretrain_small --save_dir runs/policy
    python -m jobs.pretrain --dataset path/to/HumanML3D --save_dir runs/mdm --text_encoder clip --truncate_text

Captions over the text encoder's limit are an error before the training starts; with `--truncate_text` they are
truncated, as MDM does.

`--save_dir` becomes a folder in MDM's layout: `model#########.pt` (with the averaged weights, `model_avg`),
`args.json`, `Mean.npy` and `Std.npy`, so `jobs.grpo`, `jobs.generate` and MDM's own tools read it as `--model_path`.
`--resume` continues a training that was stopped, bit for bit. Finally motions for a few held-out captions are generated
into `samples/`, if the data has any.
"""

from __future__ import annotations

import sys

from jobs.command_line import main as cli
from jobs.command_line.foreign_flags import FOREIGN_TO_PRETRAIN
from jobs.configs.pretrain import PretrainConfig

run = cli.later("jobs.text.pretraining:run")
plan = cli.later("jobs.text.pretraining:plan")

if __name__ == "__main__":
    sys.exit(cli.main(PretrainConfig, run, __doc__, "jobs.pretrain", plan=plan, foreign=FOREIGN_TO_PRETRAIN))
