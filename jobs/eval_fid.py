r"""Measures FID of blocks of real clips of HumanAct12 by the critic's score, against all clips.

    python -m jobs.eval_fid --data_dir dataset/HumanAct12Poses --critic_model_path critic/motioncritic_pre.pth \\
        --classifier_path humanact12_gru.tar --save_dir save/fid

Five figures, from the block with the best scores to that with the worst, and in `eval_fid.yaml`.
"""

from __future__ import annotations

import sys

from jobs.actions.guide import foreign_beside
from jobs.actions.settings import EvalFidConfig
from jobs.command_line import main as cli
from jobs.command_line.flags import flags_of, names_of

run = cli.later("jobs.actions.real_clips:eval_fid")
foreign = foreign_beside(names_of(flags_of(EvalFidConfig)))

if __name__ == "__main__":
    sys.exit(cli.main(EvalFidConfig, run, __doc__, "jobs.eval_fid", foreign=foreign))
